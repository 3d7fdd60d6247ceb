"""A Go node's configuration in our terms: every key, wrong values, and junk."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.config.legacy import Line, Translation, translate
from aicn.config.legacy_keys import RULES, seconds
from aicn.config.load import load
from aicn.config.presets import ROLES
from aicn.config.save import render
from aicn.config.schema import Config
from aicn.domain.registration import Endpoint
from aicn.errors import ConfigError
from tests.fakes import go_config
from tests.fakes.go_config import BOOTSTRAP, IDENTITY, PSK

DOCS = Path(__file__).parents[3] / "docs"
OWN = f"/ip4/203.0.113.8/tcp/6001/p2p/{IDENTITY['peer_id']}"
QUIC = BOOTSTRAP.replace("tcp/6001", "udp/6001/quic-v1")


def moved(document: Any) -> Translation:
    return translate(json.dumps(document).encode(), source="go.json")


def with_key(path: str, value: Any) -> dict[str, Any]:
    """A client's file with `value` at `path`."""
    document = table = go_config.client()
    *parents, name = path.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
    table[name] = value
    return document


def line(translation: Translation, key: str) -> Line:
    (found,) = [line for line in translation.report if line.key == key]
    return found


@pytest.mark.parametrize(
    ("path", "value", "outcome", "ours", "becomes"),
    [
        ("Bootstrap", [BOOTSTRAP], "taken", "p2p.bootstrap", (BOOTSTRAP,)),
        ("Bootstrap", [BOOTSTRAP.replace("p2p", "ipfs")], "taken", "p2p.bootstrap", (BOOTSTRAP,)),
        ("Bootstrap", [OWN, QUIC, BOOTSTRAP], "changed", "p2p.bootstrap", (BOOTSTRAP,)),
        ("Bootstrap", ["/dnsaddr/node.example", BOOTSTRAP], "changed", "p2p.bootstrap", (BOOTSTRAP,)),
        ("Bootstrap", [OWN], "left out", "p2p.bootstrap", ()),
        ("Addresses", ["/ip4/0.0.0.0/tcp/6001"], "taken", "p2p.listen", ("/ip4/0.0.0.0/tcp/6001",)),
        ("Addresses", ["/ip4/0.0.0.0/udp/1/quic", "/ip6/::/tcp/6001"], "changed", "p2p.listen", ("/ip6/::/tcp/6001",)),
        ("API.Addr", ":6000", "changed", "http.listen", "0.0.0.0:6000"),
        ("API.Addr", "192.0.2.1:6000", "taken", "http.listen", "192.0.2.1:6000"),
        ("Swarm.ConnMgr.Type", "none", "left out", "p2p.connections", 1000),
        ("Swarm.ConnMgr.HighWater", 400, "left out", "p2p.connections", 1000),
        ("Swarm.ConnMgr.HighWater", 1000, "changed", "p2p.connections", 1334),
        ("Swarm.DisableNatPortMap", True, "taken", "p2p.port_mapping", False),
        ("Swarm.RelayClient.Enabled", True, "taken", "p2p.relay_client", "auto"),
        ("Swarm.RelayClient.Enabled", False, "taken", "p2p.relay_client", "off"),
        ("Swarm.RelayClient.StaticRelays", [BOOTSTRAP], "taken", "p2p.relays", (BOOTSTRAP,)),
        ("Swarm.RelayService.Enabled", True, "changed", "p2p.relay_service", True),
        ("Swarm.EnableHolePunching", False, "taken", "p2p.hole_punching", False),
        ("Swarm.EnableAutoNATService", False, "taken", "p2p.autonat_service", False),
        ("Swarm.DialTimeout", "1m30s", "taken", "p2p.dial_s", 90.0),
        ("Swarm.DialTimeout", "", "left out", "p2p.dial_s", 15.0),
        ("Pubsub.Router", "floodsub", "taken", "p2p.pubsub_router", "floodsub"),
        ("Pubsub.Router", "", "left out", "p2p.pubsub_router", "gossipsub"),
        ("Routing.Type", "dhtserver", "taken", "p2p.dht_mode", "server"),
        ("Routing.Type", "auto", "taken", "p2p.dht_mode", "auto"),
        ("Routing.Type", "none", "changed", "p2p.dht_mode", "client"),
        ("Routing.ProtocolPrefix", "", "changed", "p2p.dht_prefix", "/ipfs"),
        ("Routing.ProtocolPrefix", "/dbc", "taken", "p2p.dht_prefix", "/dbc"),
        ("App.LogLevel", "warn", "taken", "logging.level", "warning"),
        ("App.LogLevel", "fatal", "changed", "logging.level", "error"),
        ("App.PreSharedKey", PSK.upper(), "taken", "p2p.psk", PSK),
        ("App.PreSharedKey", "", "left out", "p2p.psk", ""),
        ("App.TopicName", "Mine", "taken", "p2p.topic", "Mine"),
        ("App.IpfsStorageAPI", "http://203.0.113.9:4002", "taken", "ipfs.api", "http://203.0.113.9:4002"),
        ("App.PeersCollect.HeartbeatInterval", "60s", "taken", "legacy.heartbeat_s", 60.0),
        ("App.PeersCollect.HeartbeatInterval", "", "left out", "legacy.heartbeat_s", 180.0),
        ("App.PeersCollect.Enabled", True, "taken", "directory.enabled", True),
        ("App.PeersCollect.Enabled", False, "left out", "directory.enabled", True),
    ],
)  # fmt: skip
def test_a_key(path: str, value: Any, outcome: str, ours: str, becomes: Any) -> None:
    translation = moved(with_key(path, value))
    section, name = ours.split(".")
    assert getattr(getattr(translation.config, section), name) == becomes
    said = line(translation, path)
    assert said.outcome == outcome
    assert said.text
    if outcome != "left out":
        assert said.text.startswith(f"{ours} ")


def test_every_key_has_a_line_and_every_rule_a_use() -> None:
    document = go_config.worker()
    document["App"]["AutoUpgrade"] = {"Enabled": True, "TimeInterval": "1h"}
    document["Swarm"]["DialTimeout"] = "15s"
    report = moved(document).report
    assert [one.key for one in report if not one.key.startswith("AIProjects")] == [rule.path for rule in RULES]


def test_the_manual_has_the_table() -> None:
    text = (DOCS / "migration.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \| (?:`([\w.]+)`)? ?\| (.*) \|$", text, re.MULTILINE)
    assert rows == [(rule.path, rule.becomes, rule.doc) for rule in RULES]


@pytest.mark.parametrize(
    ("document", "role"),
    [(go_config.client(), "input"), (go_config.server(), "public"), (go_config.worker(), "input")],
    ids=["client", "server", "worker"],
)
def test_what_the_program_writes_becomes_a_node_of_that_role(document: Any, role: str, tmp_path: Path) -> None:
    translation = moved(document)
    ours, preset = translation.config.p2p, ROLES[role].config.p2p
    assert (ours.dht_mode, ours.relay_service) == (preset.dht_mode, preset.relay_service)
    assert (ours.relay_circuit_s, ours.relay_circuit_bytes) == (0, 0)
    assert ours.pubsub_router == document["Pubsub"]["Router"]
    assert translation.config.directory.enabled
    assert (translation.peer_id, translation.private_key) == (IDENTITY["peer_id"], IDENTITY["private_key_base64"])
    assert not [one for one in translation.report if one.outcome == "unknown"]
    path = tmp_path / "config.toml"
    path.write_text(render(translation.config))
    assert load(path, {}).p2p == ours


def test_no_secret_is_told() -> None:
    document = go_config.worker()
    document["App"]["IpfsStorageAPI"] = "http://user:hunter2@203.0.113.9:4002"
    document["AIProjects"][0]["Models"][0]["API"] = "http://me:hunter2@127.0.0.1:1/hunter2?key=hunter2"
    translation = moved(document)
    for secret in (PSK, IDENTITY["private_key_base64"], "hunter2"):
        assert secret not in str(translation.report)
    assert IDENTITY["private_key_base64"] not in repr(translation)
    for path in ("App.PreSharedKey", "App.IpfsStorageAPI", "Identity.PrivKey"):
        for wrong in ("hunter2", ["hunter2"]):
            if (path, wrong) != ("Identity.PrivKey", "hunter2"):  # what is no key is for those who know keys to see
                with pytest.raises(ConfigError) as caught:
                    moved(with_key(path, wrong))
                assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("Bootstrap", "text", "a list of texts"),
        ("Bootstrap", [1], "a list of texts"),
        ("Bootstrap", ["nowhere"], '/p2p/<peer id>.*got "nowhere"'),
        ("Addresses", [], "at least one multiaddr"),
        ("Addresses", ["/ip4/0.0.0.0/udp/1/quic"], "at least one multiaddr"),
        ("API", 5, "an object"),
        ("API.Addr", "", "127.0.0.1:6000"),
        ("API.Addr", "127.0.0.1:7001", "another port"),
        ("Identity.PeerID", 1, "text"),
        ("Swarm.ConnMgr.Type", "huge", "one of basic, none"),
        ("Swarm.ConnMgr.HighWater", True, "a whole number"),
        ("Swarm.ConnMgr.HighWater", 10**4299, "a whole number"),
        ("Swarm.ConnMgr.HighWater", 12.5, "a whole number"),
        ("Swarm.ConnMgr.GracePeriod", "20", "a duration"),
        ("Swarm.DialTimeout", "2h", "from 0.1 to 600"),
        ("Swarm.RelayClient", [], "an object"),
        ("Pubsub.Enabled", 1, "true or false"),
        ("Pubsub.Router", "randomsub", "gossipsub, floodsub"),
        ("Routing.Type", "dht", "auto, dhtclient, dhtserver, none"),
        ("Routing.ProtocolPrefix", "dbc", "protocol prefix"),
        ("App.LogLevel", "trace", "debug, info, warn"),
        ("App.PreSharedKey", "12", "64 hex digits"),
        ("App.TopicName", "", "name"),
        ("App.IpfsStorageAPI", "ftp://x", "URL"),
        ("App.PeersCollect.HeartbeatInterval", "soon", "a duration"),
        ("AIProjects", {}, "a list of projects"),
        ("AIProjects", [1], "an object"),
        ("AIProjects", [{"Project": 1}], "text"),
        ("AIProjects", [{"Project": "P", "Models": {}}], "a list of models"),
        ("AIProjects", [{"Project": "P", "Models": [{"Type": "0"}]}], "a whole number"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used(path: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        moved(with_key(path, value))
    assert caught.value.message.startswith("go.json: ")
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    if "another port" not in words:
        assert path in caught.value.message
        assert "take it out of the file" in caught.value.message


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"5", b"\xff", b'{"a": "\\ud800"}', b"[" * 100_000, b"1" * 10_000])
def test_a_file_that_is_none(data: bytes) -> None:
    with pytest.raises(ConfigError, match="expected the JSON file of an AIComputingNode"):
        translate(data, source="go.json")


def test_keys_are_read_as_go_reads_them() -> None:
    translation = translate(
        b'\xef\xbb\xbf{"swarm": {"enableholepunching": true, "EnableHolePunching": false, "New": 1}, "Bootstrap": null, "\\u001b": 2}',
        source="go.json",
    )
    assert not translation.config.p2p.hole_punching
    assert [(one.key, one.outcome) for one in translation.report] == [
        ("Swarm.EnableHolePunching", "taken"),
        ("Swarm.New", "unknown"),
        ("\x1b", "unknown"),
    ]
    assert moved({}) == Translation(Config(), "", "", (), ())


def test_models_are_what_the_api_would_store() -> None:
    translation = moved(go_config.worker())
    assert translation.endpoints == (
        Endpoint("SuperImage", "SuperImageAI", "http://127.0.0.1:1088/models", 1),
        Endpoint("DecentralGPT", "Llama3-70B", "http://127.0.0.1:1042/v1/chat/completions", 0),
        Endpoint("DecentralGPT", "Qwen2-72B", "http://127.0.0.1:1043/v1/chat/completions", 0),
    )
    said = line(translation, "AIProjects[0].Models[0]")
    assert said.text == "model 'SuperImageAI' of project 'SuperImage' at http://127.0.0.1:1088, text to image"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"Model": "M", "API": "file:///models", "Type": 0}, "only http:// and https://"),
        ({"Model": "M", "API": "", "Type": 0}, "url: needed"),
        ({"Model": "M", "Type": 0}, "url: needed"),
        ({"Model": "", "API": "http://127.0.0.1:1/", "Type": 0}, "1 to 128 printable characters"),
        ({"Model": "M\n", "API": "http://127.0.0.1:1/", "Type": 0}, "1 to 128 printable characters"),
        ({"Model": "M", "API": "http://127.0.0.1:1/", "Type": 3}, "type 3"),
    ],
)
def test_a_model_that_the_api_would_refuse_is_named_and_left_out(model: Any, words: str) -> None:
    good = {"model": "G", "api": "http://127.0.0.1:1/"}
    translation = moved(with_key("AIProjects", [{"Project": "P", "Models": [model, good]}]))
    assert translation.endpoints == (Endpoint("P", "G", "http://127.0.0.1:1/", 0),)
    said = line(translation, "AIProjects[0].Models[0]")
    assert said.outcome == "left out"
    assert words in said.text
    assert "'P'" in said.text


def test_projects_without_models_and_members_that_nobody_knows_are_named() -> None:
    projects = [{"Project": "P", "Models": None}, {"Project": "Q", "Size": 1, "Models": [{"Model": "M", "GPU": 1}]}]
    report = moved(with_key("AIProjects", projects)).report[-4:]
    assert [(one.key, one.outcome) for one in report] == [
        ("AIProjects[0]", "left out"),
        ("AIProjects[1].Size", "unknown"),
        ("AIProjects[1].Models[0].GPU", "unknown"),
        ("AIProjects[1].Models[0]", "left out"),
    ]


@pytest.mark.parametrize(
    ("text", "length"),
    [("20s", 20), ("1h30m", 5400), ("1.5s", 1.5), (".5s", 0.5), ("300ms", 0.3), ("0", 0), ("+2s", 2)],
)
def test_durations(text: str, length: float) -> None:
    assert seconds(text) == pytest.approx(length)


@pytest.mark.parametrize("text", ["20", "s", "-5s", "1 s", "1s1", "", ".s", "9" * 99 + "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        seconds(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([BOOTSTRAP, ":6000", "20s", PSK]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(path=st.sampled_from(["AIProjects", *(rule.path for rule in RULES)]), value=JSON, data=st.binary(max_size=40))
def test_junk_is_translated_or_refused(path: str, value: Any, data: bytes) -> None:
    for junk in (json.dumps(with_key(path, value)).encode(), json.dumps(value).encode(), data):
        try:
            translation = translate(junk, source="go.json")
        except ConfigError as error:
            assert error.message.startswith("go.json: ")
        else:
            tomllib.loads(render(translation.config))
            assert all(one.text for one in translation.report)
