"""The one schema of config.toml: frozen, typed, every key with its default, its bounds and what it does.

`load` reads it, `save` writes it with these texts as comments, docs/configuration.md is checked against it. Durations end in
`_s` (seconds), sizes in `_bytes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


def key(
    default: Any,
    doc: str,
    *,
    least: float | None = None,
    most: float | None = None,
    secret: bool = False,
    kind: str = "",
) -> Any:
    """One key: `doc` is its sentence in config.toml and docs; `kind` names a further check of load (multiaddr, hex32 …)."""
    metadata = {"doc": doc, "least": least, "most": most, "secret": secret, "kind": kind}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who the node is."""

    key_file: Path = key(
        Path("peer.key"),
        "The node's private key (base64 of the libp2p protobuf, or that itself; secp256k1); mode 0600.",
        kind="file",
    )


@dataclass(frozen=True, kw_only=True)
class P2P:
    """The libp2p host."""

    listen: tuple[str, ...] = key(
        ("/ip4/0.0.0.0/tcp/6001",), "Multiaddrs to listen on; port 0 takes a free one.", kind="listen_multiaddr"
    )
    announce: tuple[str, ...] = key(
        (),
        "Multiaddrs to tell others instead of the ones listened on, for a node behind a forwarded port.",
        kind="multiaddr",
    )
    bootstrap: tuple[str, ...] = key(
        (), "Peers to join through, as multiaddrs that end in /p2p/<id>.", kind="peer_multiaddr"
    )
    psk: str = key(
        "",
        "Private network key: 64 hex digits, the same on all nodes. Empty: no private network.",
        secret=True,
        kind="hex32",
    )
    psk_file: str = key(
        "", "A file with that key instead: 64 hex digits, or the swarm.key of an IPFS network.", kind="file"
    )
    dht_mode: Literal["auto", "server", "client", "none"] = key(
        "auto",
        "Part in the DHT: server answers queries; client only asks; auto is server when listening on a public address.",
    )
    dht_prefix: str = key("/dbc", "Protocol prefix of the DHT: <prefix>/kad/1.0.0.", kind="protocol_prefix")
    pubsub_router: Literal["gossipsub", "floodsub"] = key("gossipsub", "How pubsub messages spread.")
    topic: str = key("DeepBrainChain", "The topic all nodes of the network share.", kind="name")
    relays: tuple[str, ...] = key(
        (), "Relays to be reached through, as multiaddrs that end in /p2p/<id>.", kind="peer_multiaddr"
    )
    relay_client: Literal["auto", "on", "off"] = key(
        "auto",
        "Be reached through relays, the configured ones and those met: on; off; auto: while others cannot dial this node.",
    )
    relay_service: bool = key(False, "Be a relay for others (circuit relay v2); for nodes that everybody can dial.")
    relay_reservations: int = key(1024, "Most peers that a relay keeps reachable.", least=1, most=1_000_000)
    relay_reservations_per_ip: int = key(64, "Most of them with one IP address.", least=1, most=1_000_000)
    relay_circuits: int = key(4096, "Most connections through this relay at a time.", least=1, most=1_000_000)
    relay_circuits_per_peer: int = key(256, "Most of them from or to one peer.", least=1, most=1_000_000)
    relay_circuit_s: float = key(
        0.0,
        "Longest time of one, seconds; 0: no limit. go peers send no ordinary requests over a relay with a limit.",
        least=0,
        most=31_536_000,
    )
    relay_circuit_bytes: int = key(
        0, "Most bytes through one in each direction; 0: no limit, see above.", least=0, most=2**53
    )
    port_mapping: bool = key(
        True, "Ask the router for a port (UPnP) while this node has no public address; given back when it stops."
    )
    hole_punching: bool = key(
        True, "Replace connections that come in through a relay by direct ones where the routers let them (DCUtR)."
    )
    autonat_service: bool = key(
        True, "Tell peers whether they can be dialled (AutoNAT), by dialling them back at their own IP address."
    )
    dial_s: float = key(15.0, "Longest time to reach a peer, seconds.", least=0.1, most=600)
    connections: int = key(
        1000,
        "Most open connections, an eighth of them for peers that we dial; above three quarters those of least use are closed.",
        least=8,
        most=100_000,
    )
    connections_per_ip: int = key(
        64,
        "Most inbound connections from one address (IPv6: from one /64); loopback has no limit.",
        least=1,
        most=100_000,
    )
    streams_per_connection: int = key(
        4096, "Most streams a peer may have open on one connection.", least=16, most=1_000_000
    )


@dataclass(frozen=True, kw_only=True)
class Http:
    """The HTTP API."""

    listen: str = key(
        "127.0.0.1:6000",
        "Address and port of the HTTP API. Beyond loopback, clients need API keys: see keys.required.",
        kind="hostport",
    )
    allowed_hosts: tuple[str, ...] = key(
        (),
        "Further names that clients may call this node by (Host header); IP addresses and localhost always pass. '*': any.",
        kind="name",
    )
    allowed_origins: tuple[str, ...] = key(
        (), "Web pages (origins) whose scripts may call the API; '*': any.", kind="name"
    )
    docs: bool = key(True, "Serve /openapi.json and the page /docs.")
    metrics: bool = key(True, "Serve /metrics, for Prometheus.")
    body_bytes: int = key(32 * 2**20, "Largest request body.", least=1024, most=2**31)
    bodies_bytes: int = key(
        256 * 2**20,
        "Most bytes of request bodies held at once; beyond it those over 64 KiB are answered 503. One of the largest always fits.",
        least=1024,
        most=2**40,
    )
    requests: int = key(2048, "Most requests at work at once; more are answered 503.", least=1, most=1_000_000)
    requests_per_client: int = key(
        256,
        "Most of them from one address (IPv6: from one /64). Loopback has no limit; behind a proxy on another machine, all clients are one.",
        least=1,
        most=1_000_000,
    )


@dataclass(frozen=True, kw_only=True)
class Keys:
    """API keys of the HTTP API."""

    required: Literal["auto", "always", "never"] = key(
        "auto",
        "auto: all but this machine's programs need one, if http.listen is beyond loopback; always: all; never: nobody.",
    )


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Where the node keeps what it must not forget."""

    dir: Path = key(Path("data"), "Data directory; one node each. Relative to the configuration file.")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Admission and deadlines of inference."""

    concurrency: int = key(32, "Requests of one model that run at once on this node.", least=1, most=100_000)
    model_concurrency: dict[str, int] = key(
        {}, 'Exceptions to it by model name, such as { "Llama3-70B" = 4 }.', least=1, most=100_000
    )
    queue: int = key(
        256, "Requests of one model that may wait for a free place; more are refused as busy.", least=0, most=100_000
    )
    queue_s: float = key(60.0, "Longest wait in that queue, seconds.", least=0.0, most=3600)
    connect_s: float = key(5.0, "Longest time to connect to a model endpoint, seconds.", least=0.05, most=600)
    first_byte_s: float = key(
        300.0, "Longest time until a model endpoint begins its answer, seconds.", least=0.05, most=86_400
    )
    gap_s: float = key(120.0, "Longest silence inside an answer, seconds.", least=0.05, most=86_400)
    request_s: float = key(3600.0, "Longest time one request may take in all, seconds.", least=0.1, most=86_400)
    answer_bytes: int = key(32 * 2**20, "Largest answer that is not streamed.", least=1024, most=2**31)
    shutdown_grace_s: float = key(
        5.0, "How long running requests may go on after a stop signal, seconds.", least=0.0, most=3600
    )


@dataclass(frozen=True, kw_only=True)
class Wallet:
    """Who may use the models of this node."""

    required: bool = key(
        False,
        "Answer requests only that carry the proof of an Ethereum wallet: `wallet`, `signature`, `hash`; all others are refused (1009).",
    )


@dataclass(frozen=True, kw_only=True)
class Ipfs:
    """Where images go that models of this node draw."""

    api: str = key(
        "",
        "RPC address of the IPFS node, such as http://127.0.0.1:5001; empty: none, and images are only answered inline.",
        secret=True,
        kind="url",
    )
    public_url: str = key(
        "", "What clients are told as `ipfs_node` instead, such as the address of its gateway.", kind="url"
    )
    allowed_nodes: tuple[str, ...] = key(
        (), "Other IPFS nodes that clients may ask for as `ipfs_node`: hosts, or host:port.", kind="name"
    )
    timeout_s: float = key(30.0, "Longest time to add one image, seconds.", least=0.1, most=3600)


@dataclass(frozen=True, kw_only=True)
class Images:
    """How the images are fetched that a model endpoint answers as an URL or path."""

    fetch_s: float = key(30.0, "Longest time to fetch one, seconds.", least=0.1, most=3600)
    private_hosts: tuple[str, ...] = key(
        (),
        "Hosts with private addresses that images are fetched from; the endpoint's own host always is one.",
        kind="name",
    )
    local_paths: str = key(
        "", "The folder below which a path that an endpoint answers is read; empty: none is.", kind="folder"
    )


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """A model that this node runs itself: llama.cpp as a child process."""

    enabled: bool = key(False, "Start it and register it.")
    project: str = key("local", "Project it is registered under.", kind="name")
    model: str = key("SmolLM2-135M", "Name it is registered under.", kind="name")
    path: str = key("", "A GGUF file; empty: the bundled SmolLM2-135M-Instruct.", kind="file")
    threads: int = key(0, "CPU threads; 0: one less than there are cores.", least=0, most=1024)
    context: int = key(2048, "Context length per conversation, tokens.", least=64, most=1_048_576)
    parallel: int = key(2, "Conversations at once.", least=1, most=256)


@dataclass(frozen=True, kw_only=True)
class Directory:
    """What the node knows of the offers of others."""

    enabled: bool = key(
        True,
        "Keep them: needed for /ai/projects and for requests that name no node. Its own are announced in any case.",
    )


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Requests that name a model and no node."""

    resume: bool = key(
        True,
        "When a node dies inside a streamed answer, let another one go on with it; off: the stream ends with an error.",
    )
    hedge: bool = key(
        True,
        "Ask a second node beside one that is slower to begin than nearly all before; at most 5 % of the requests.",
    )


@dataclass(frozen=True, kw_only=True)
class Legacy:
    """Membership in the existing network (AIComputingNode v0.1.x): its messages on the topic, its streams."""

    enabled: bool = key(
        True,
        "Answer its nodes, ask them, and tell them what this node offers. Off: their messages are only handed on.",
    )
    heartbeat_s: float = key(180.0, "How often they are told what this node offers, seconds.", least=1, most=3600)


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What the node tells of its machine (/host/info)."""

    share: bool = key(True, "Tell other nodes; false: only this node's own API does.")
    serial_numbers: bool = key(
        True, "With the serial numbers of the disks, as the existing program does; false: they are empty."
    )


@dataclass(frozen=True, kw_only=True)
class Logging:
    """What the node says on standard error."""

    level: Literal["debug", "info", "warning", "error"] = key("info", "Least important messages to show.")
    format: Literal["text", "json"] = key("text", "One line of text, or one JSON object, per message.")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole configuration."""

    identity: Identity = field(default_factory=Identity)
    p2p: P2P = field(default_factory=P2P)
    http: Http = field(default_factory=Http)
    keys: Keys = field(default_factory=Keys)
    storage: Storage = field(default_factory=Storage)
    limits: Limits = field(default_factory=Limits)
    wallet: Wallet = field(default_factory=Wallet)
    ipfs: Ipfs = field(default_factory=Ipfs)
    images: Images = field(default_factory=Images)
    local_model: LocalModel = field(default_factory=LocalModel)
    directory: Directory = field(default_factory=Directory)
    routing: Routing = field(default_factory=Routing)
    legacy: Legacy = field(default_factory=Legacy)
    hardware: Hardware = field(default_factory=Hardware)
    logging: Logging = field(default_factory=Logging)
