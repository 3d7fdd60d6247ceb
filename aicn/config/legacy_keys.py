"""The keys of AIComputingNode's configuration file, v0.1 and v0.2, and what becomes of each: one `Rule` per key.

Source: pkg/config and host/main.go of that program, which reads some keys and does something else with them than they say; the
rules follow what it does. docs/migration.md has this table, a test keeps the two equal. `AIProjects` is in `legacy_models`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["taken", "changed", "left out", "unknown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one value: `value`, as TOML would give it, for a key of ours; None leaves that at its default."""

    outcome: Outcome
    value: Any = None
    why: str = ""  # always there when the outcome is not "taken"


Convert = Callable[[Any, Mapping[str, Any]], Verdict]  # value, all values by path; ValueError says what is expected


@dataclass(frozen=True, slots=True)
class Rule:
    """One key of the Go program."""

    path: str  # "Swarm.ConnMgr.Type"
    type: type  # as JSON has it: str, bool, int, or list (of str)
    becomes: str  # "p2p.port_mapping", "peer.key"; empty: nothing
    doc: str  # its row in docs/migration.md
    convert: Convert


def _take(value: Any, _: Mapping[str, Any]) -> Verdict:
    return Verdict("taken", value)


def _leave(path: str, kind: type, why: str, allowed: tuple[str, ...] = ()) -> Rule:
    """A key that we have nothing for; `allowed` texts, when it is not free."""

    def convert(value: Any, _: Mapping[str, Any]) -> Verdict:
        _demand(not allowed or value in allowed, "one of " + ", ".join(filter(None, allowed)))
        return Verdict("left out", None, why)

    return Rule(path, kind, "", why, convert)


def _word(words: Mapping[str, str], why: Mapping[str, str]) -> Convert:
    """Their word → ours, an empty one → our default; `why`, by their word, where ours does not mean the same."""

    def convert(value: Any, _: Mapping[str, Any]) -> Verdict:
        if value == "":
            return Verdict("left out", None, "empty: aicn's default holds")
        _demand(value in words, "one of " + ", ".join(words))
        return Verdict("changed" if value in why else "taken", words[value], why.get(value, ""))

    return convert


def _demand(fits: bool, expected: str) -> None:
    if not fits:
        raise ValueError(expected)


_OTHER = re.compile(r"/(udp|quic|quic-v1|webtransport|webrtc-direct|wss?|tls|unix|onion3|p2p-circuit|dnsaddr)(/|$)")


def _addresses(addresses: Iterable[str], own: str = "") -> tuple[list[str], list[str]]:
    """Those over TCP and remarks about the rest; `/ipfs/<id>` is the old way to write `/p2p/<id>`. `own` is left out."""
    kept, remarks = [], []
    for address in addresses:
        if _OTHER.search(address):
            remarks.append(f"without {address}: aicn takes /ip4, /ip6 and /dns addresses over plain TCP")
        elif own and address.endswith(f"/{own}"):
            remarks.append(f"without {address}: that is this node itself")
        else:
            kept.append(address.replace("/ipfs/", "/p2p/"))
    return kept, remarks


def _listed(kept: list[str], remarks: list[str]) -> Verdict:
    if kept and not remarks:
        return Verdict("taken", kept)
    if kept:
        return Verdict("changed", kept, "; ".join(remarks))
    return Verdict("left out", None, "; ".join(remarks) or "empty")


def _bootstrap(value: Any, said: Mapping[str, Any]) -> Verdict:
    return _listed(*_addresses(value, own=str(said.get("Identity.PeerID") or "")))


def _relays(value: Any, _: Mapping[str, Any]) -> Verdict:
    return _listed(*_addresses(value))


def _listen(value: Any, _: Mapping[str, Any]) -> Verdict:
    kept, remarks = _addresses(value)
    _demand(bool(kept), "at least one multiaddr such as /ip4/0.0.0.0/tcp/6001")
    return _listed(kept, remarks)


def _api(value: Any, _: Mapping[str, Any]) -> Verdict:
    _demand(value != "", "an address and port such as 127.0.0.1:6000")
    if value.startswith(":"):
        return Verdict("changed", f"0.0.0.0{value}", f"{value} is all addresses there. {_OPEN}")  # noqa: S104 - as it was
    return Verdict("taken", value, "" if value.startswith(("127.", "localhost:", "[::1]")) else _OPEN)


_OPEN = (
    "Clients on other machines now need an API key (aicn keys create), unless keys.required is never. "
    "Names that clients call it by belong in http.allowed_hosts"
)


def _high_water(value: Any, said: Mapping[str, Any]) -> Verdict:
    if value in (0, _GO_HIGH_WATER):
        return Verdict("left out", None, "the Go program's default; aicn keeps more")
    if said.get("Swarm.ConnMgr.Type") == "none":
        return Verdict("left out", None, "not used with Swarm.ConnMgr.Type none; aicn's default holds")
    most = -(-value * 4 // 3)
    return Verdict(
        "changed", most, f"aicn closes connections of least use above three quarters of it, which is {value}"
    )


_GO_HIGH_WATER = 400
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """A duration as Go writes it (`20s`, `1h30m`, `1.5s`) in seconds; ValueError when it is none."""
    expected = "a duration such as 20s or 1m30s"
    bare = text.removeprefix("+")
    _demand(bare == "0" or (0 < len(bare) <= 64 and re.fullmatch(f"(?:{_PART.pattern})+", bare) is not None), expected)
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(bare))


def _length(value: Any, _: Mapping[str, Any]) -> Verdict:
    length = seconds(value) if value else 0.0
    return Verdict("taken", length) if length else Verdict("left out", None, "none; aicn's default holds")


def _duration(path: str, why: str) -> Rule:
    """A duration that we have nothing for."""

    def convert(value: Any, _: Mapping[str, Any]) -> Verdict:
        seconds(value or "0")
        return Verdict("left out", None, why)

    return Rule(path, str, "", why, convert)


def _opposite(value: Any, _: Mapping[str, Any]) -> Verdict:
    return Verdict("taken", not value)


def _relay_client(value: Any, _: Mapping[str, Any]) -> Verdict:
    if value:
        return Verdict("taken", "auto", "")
    return Verdict("taken", "off", 'if nobody can dial this node, "auto" lets it be reached through relays')


def _relay_service(value: Any, _: Mapping[str, Any]) -> Verdict:
    if not value:
        return Verdict("taken", False)
    return Verdict(
        "changed", True, "without the 2 minutes and 128 KiB that go-libp2p allows a connection (p2p.relay_circuit_s)"
    )


def _prefix(value: Any, _: Mapping[str, Any]) -> Verdict:
    if value == "":
        return Verdict("changed", "/ipfs", "what the Go program's library uses when it is empty")
    return Verdict("taken", value)


def _collect(value: Any, _: Mapping[str, Any]) -> Verdict:
    if value:
        return Verdict("taken", True)
    return Verdict(
        "left out", None, "aicn nodes know the network's projects by default; directory.enabled = false turns it off"
    )


def _or_none(value: Any, _: Mapping[str, Any]) -> Verdict:
    return Verdict("taken", value) if value else Verdict("left out", None, "empty")


def _project(value: Any, _: Mapping[str, Any]) -> Verdict:
    if value == "":
        return Verdict("left out", None, "empty")
    return Verdict("left out", None, "aicn nodes connect to nodes of all projects; name the project in each request")


_DHT = {"auto": "auto", "dhtclient": "client", "dhtserver": "server", "none": "client"}
_LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "error": "error", "panic": "error", "fatal": "error"}
_LOG = "aicn writes to standard error: the service manager keeps it, or 2>>FILE does"

RULES: tuple[Rule, ...] = (
    Rule(
        "Bootstrap",
        list,
        "p2p.bootstrap",
        "Those over TCP; the node itself is left out. Also asked to be relays.",
        _bootstrap,
    ),
    Rule("Addresses", list, "p2p.listen", "Those over TCP.", _listen),
    Rule("API.Addr", str, "http.listen", "`:6000` becomes `0.0.0.0:6000`, which is everybody: see above.", _api),
    Rule(
        "Identity.PeerID",
        str,
        "",
        "Checked against the key.",
        lambda *_: Verdict("left out", None, "it follows from the key"),
    ),
    Rule("Identity.PrivKey", str, "peer.key", "The node stays who it is. A secret: mode 0600.", _or_none),
    _leave("Swarm.ConnMgr.Type", str, "aicn always has limits: p2p.connections", ("basic", "none", "")),
    Rule(
        "Swarm.ConnMgr.HighWater",
        int,
        "p2p.connections",
        "Four thirds of it, as aicn begins to close connections at three quarters. 400, the default there, is left out: aicn keeps 1000.",
        _high_water,
    ),
    _leave("Swarm.ConnMgr.LowWater", int, "aicn closes as many connections as it must, those of least use first"),
    _duration("Swarm.ConnMgr.GracePeriod", "aicn goes by use, not by age"),
    Rule("Swarm.DisableNatPortMap", bool, "p2p.port_mapping", "The opposite of it.", _opposite),
    Rule(
        "Swarm.RelayClient.Enabled",
        bool,
        "p2p.relay_client",
        'true: "auto"; false: "off". Better "auto", where nobody can dial the node.',
        _relay_client,
    ),
    Rule(
        "Swarm.RelayClient.StaticRelays",
        list,
        "p2p.relays",
        "Those over TCP. The Go program reads them and uses Bootstrap instead.",
        _relays,
    ),
    Rule(
        "Swarm.RelayService.Enabled",
        bool,
        "p2p.relay_service",
        "Without go-libp2p's limits (2 minutes, 128 KiB), which cut chats; set p2p.relay_circuit_s and p2p.relay_circuit_bytes to have some.",
        _relay_service,
    ),
    Rule("Swarm.EnableHolePunching", bool, "p2p.hole_punching", "As it is.", _take),
    Rule("Swarm.EnableAutoNATService", bool, "p2p.autonat_service", "As it is.", _take),
    Rule("Swarm.DialTimeout", str, "p2p.dial_s", "In seconds (v0.2).", _length),
    _leave("Pubsub.Enabled", bool, "pubsub is always on, there as here"),
    Rule(
        "Pubsub.Router",
        str,
        "p2p.pubsub_router",
        "As it is.",
        _word({"gossipsub": "gossipsub", "floodsub": "floodsub"}, {}),
    ),
    _leave("Pubsub.FloodPublish", bool, "aicn decides that itself"),
    Rule(
        "Routing.Type",
        str,
        "p2p.dht_mode",
        "`dhtserver`: server; `dhtclient`: client; `auto`: auto; `none`: client, which it is there, too.",
        _word(_DHT, {"none": "the Go program asks the DHT even so, and finds its peers by it"}),
    ),
    Rule("Routing.ProtocolPrefix", str, "p2p.dht_prefix", "As it is; empty: `/ipfs`, as go-libp2p has it.", _prefix),
    Rule(
        "App.LogLevel",
        str,
        "logging.level",
        "`warn`: warning; `panic` and `fatal`: error.",
        _word(_LEVELS, dict.fromkeys(("panic", "fatal"), "the least that aicn can say")),
    ),
    _leave("App.LogFile", str, _LOG),
    _leave("App.LogOutput", str, _LOG),
    Rule("App.PreSharedKey", str, "p2p.psk", "As it is. A secret: config.toml has mode 0600.", _or_none),
    Rule("App.TopicName", str, "p2p.topic", "As it is.", _take),
    _leave(
        "App.Datastore",
        str,
        "its LevelDB is not read: peers are found again through p2p.bootstrap; aicn's data is in DIR/data",
    ),
    Rule("App.IpfsStorageAPI", str, "ipfs.api", "As it is.", _or_none),
    _leave("App.AutoUpgrade.Enabled", bool, "aicn does not replace itself: update it as it was installed (v0.2)"),
    _duration("App.AutoUpgrade.TimeInterval", "aicn does not replace itself: update it as it was installed (v0.2)"),
    Rule(
        "App.PeersCollect.Enabled",
        bool,
        "directory.enabled",
        "true: true. false is left out: aicn nodes know the network's projects by default.",
        _collect,
    ),
    Rule(
        "App.PeersCollect.HeartbeatInterval",
        str,
        "legacy.heartbeat_s",
        "In seconds. Every change is told at once besides.",
        _length,
    ),
    Rule("App.PeersCollect.ClientProject", str, "", "aicn nodes connect to nodes of all projects.", _project),
)
