"""The seams between services and the world: what the packages p2p, backends and storage offer, by shape."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import trio

from aicn.domain.hardware import HostInfo
from aicn.domain.ids import PeerId
from aicn.domain.inference import Accepted, Chunk, End, Head, InferenceRequest
from aicn.domain.keys import Key
from aicn.domain.nodes import Connection, DialOutcome, KnownAddress, Link, Message, NodeInfo
from aicn.domain.registration import Endpoint
from aicn.domain.routing import Trace
from aicn.domain.usage import Counts, Row


class Answer(trio.abc.ReceiveChannel[Chunk]):
    """The one currency between facade and backend: chunks in order.

    `receive` raises trio.EndOfChannel once the answer said that it is complete, and an AicnError when it broke; nothing else
    ends it. `aclose` before the end abandons the work behind it at once (stream reset, endpoint's connection closed), does not
    wait, and may be called again.
    """

    node: PeerId | None = None  # who answers; None until known to the layer above
    accepted: Accepted = Accepted()
    trace: Trace | None = None  # how the request found its way; None: nobody had to look for one
    end: End | None = None  # set when `receive` has raised trio.EndOfChannel
    interruptible = False  # `waiting` is the scope of the `receive` that waits: cancelled, it raises DeadlineExceeded
    waiting: trio.CancelScope | None = None

    @property
    def head(self) -> Head | None:
        """How the endpoint's answer begins, once its first chunk has come; a Content-Length is that of all chunks. None: not known."""
        return None

    @abstractmethod
    async def receive(self) -> Chunk: ...

    @abstractmethod
    async def aclose(self) -> None: ...


class PeerStream(Protocol):
    """One libp2p stream for one exchange. Reads and writes may be cancelled without harm to the connection."""

    @property
    def peer(self) -> PeerId: ...

    async def send_all(self, data: bytes) -> None:
        """Hand `data` to the connection; waits while the peer's window is full. AnswerBroken when the peer reset or is gone."""

    async def send_eof(self) -> None:
        """No more will be sent; the other direction stays open."""

    async def receive_some(self) -> bytes:
        """All that is there, at least a byte; b"" at the clean end. AnswerBroken when the peer reset or is gone."""

    def reset(self) -> None:
        """Abort both directions at once; the peer is told. Does nothing after both directions ended."""

    def cancel_on_reset(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the peer resets the stream or its connection dies (also when that happened already)."""


class Peers(Protocol):
    """The p2p host."""

    @property
    def id(self) -> PeerId: ...

    def info(self) -> NodeInfo: ...

    def serve(self, protocol: str, handler: Callable[[PeerStream], Awaitable[None]]) -> None:
        """Serve `protocol`. An exception of the handler resets its stream and nothing else; its return closes the stream."""

    async def open_stream(self, peer: PeerId, protocol: str, *, limited: bool = True) -> PeerStream:
        """A new stream, dialling first if need be. UnknownNode, Unreachable or DeadlineExceeded.

        `limited`: it may be on a connection that a relay limits, where go peers take no streams but those of libp2p itself.

        The negotiation costs no round trip of its own: that the peer does not speak the protocol (Unsupported) may show only at
        the first `receive_some`.
        """

    async def reach(self, peer: PeerId) -> None:
        """Be connected to `peer`, dialling first if need be. UnknownNode, Unreachable or DeadlineExceeded."""

    async def connect(self, address: str) -> PeerId:
        """Dial a multiaddr that ends in /p2p/<id>. InvalidRequest, Unreachable or DeadlineExceeded."""

    def connections(self) -> Sequence[Connection]: ...


class Links(Protocol):
    """How near peers are, and who comes and goes; the p2p host."""

    def link(self, peer: PeerId) -> Link:
        """What is known now, without asking anybody."""

    async def measure(self, peer: PeerId) -> Link:
        """Connect if need be, and ping. A peer that does not answer is CANNOT_CONNECT; nothing is raised."""

    def protocols_of(self, peer: PeerId) -> frozenset[str]:
        """What identify has told that the peer serves, now or when it was last connected; empty when it has told nothing (yet)."""

    def is_identified(self, peer: PeerId) -> bool:
        """Whether the peer is connected, and identify has told since then what it serves."""

    def agent_of(self, peer: PeerId) -> str:
        """The program and version that identify has told; empty when it has told nothing (yet)."""

    def on_joined(self, tell: Callable[[PeerId], None]) -> None:
        """Call `tell` whenever identify has told what a connected peer serves: after connecting, and again when that changes.

        `tell` neither waits nor raises.
        """

    def on_lost(self, tell: Callable[[PeerId], None]) -> None:
        """Call `tell` whenever the last connection to a peer has ended. `tell` neither waits nor raises."""


class SwarmControl(Protocol):
    """What an operator may ask of the p2p host."""

    async def disconnect(self, address: str) -> None:
        """Close all connections to the peer of a multiaddr (or bare peer id), and dial it no more until asked to by `connect`
        or until it dials us. InvalidRequest naming node_addr; NotConnected when there is none."""

    async def known_addresses(self) -> Sequence[tuple[PeerId, Sequence[str]]]:
        """Peers with the multiaddrs known for them, without /p2p/<id>; sorted, this node included."""

    async def rendezvous(self) -> Sequence[PeerId]:
        """Who advertises the network's topic in the DHT, this node among them; sorted, as far as found in some seconds.

        Unsupported when this node has no part in the DHT.
        """


class Topics(Protocol):
    """The pubsub router of the p2p host."""

    def join(self, topic: str, accept: Callable[[Message], bool]) -> None:
        """Hear `topic` and hand its messages on, those that `accept` takes; it neither waits nor raises."""

    def subscribe(self, topic: str) -> AbstractContextManager[AsyncIterator[Message]]:
        """The accepted messages of others, as long as the block runs."""

    async def publish(self, topic: str, data: bytes) -> bytes:
        """Sign `data` and send it to all subscribers that are connected; the signed message. TooLarge."""

    def subscribers(self, topic: str) -> Sequence[PeerId]:
        """Connected peers that are members of `topic`."""

    def on_member(self, tell: Callable[[str, PeerId], None]) -> None:
        """Call `tell` with topic and peer whenever a connected peer says that it is a member of a topic that was joined here.

        Peers may say so again. `tell` neither waits nor raises.
        """

    async def flush(self) -> None:
        """Returns when what was published is on its way to the peers. They may not take it: the caller has a deadline."""

    def verify(self, signed: bytes) -> Message:
        """The message that somebody else passes on, checked against its sender's signature. ProtocolViolation."""


class Keyring(Protocol):
    """Secrets between this node and others, from their libp2p keys (the existing network's encryption of bodies)."""

    @property
    def public(self) -> bytes:
        """This node's key, as libp2p's protobuf."""

    def public_key_of(self, peer: PeerId) -> bytes | None:
        """The secp256k1 key of a peer, which its id holds, as libp2p's protobuf; None: it has another kind of key."""

    def shared_with(self, public: bytes) -> bytes:
        """The 32-byte secret with the owner of that key. ProtocolViolation: no secp256k1 key."""


class HardwareSource(Protocol):
    """Reads this machine."""

    async def read(self) -> HostInfo:
        """As fresh as makes sense; never blocks the event loop, never raises for what cannot be read."""


class OfferStore(Protocol):
    """Offers kept over a restart. StorageError."""

    async def load(self) -> Sequence[bytes]:
        """Signed messages, as they were heard; old ones may be among them."""

    async def save(self, signed: Mapping[PeerId, bytes], gone: Collection[PeerId]) -> None:
        """Keep these, in place of what was kept of those nodes; forget the nodes in `gone`. Atomic."""


class Endpoints(Protocol):
    """The caller of model endpoints."""

    async def open(self, endpoint: Endpoint, request: InferenceRequest) -> Answer:
        """Post the request; returns when the endpoint has answered a good head, raises ModelFailed otherwise.

        EndpointDown, a ModelFailed, says that nothing was sent. The answer keeps the request's deadline (DeadlineExceeded);
        until it is there the caller does.
        """

    async def probe(self, endpoint: Endpoint) -> None:
        """Ask it something harmless; ModelFailed when it cannot work as it is registered."""


class PeerModels(Protocol):
    """The caller of models over a stream to a node of the existing network (`/chat-proxy/0.0.1`)."""

    async def open(self, stream: PeerStream, request: InferenceRequest) -> Answer:
        """As `Endpoints.open`; the stream is reset when it raises, and whenever the answer is left.

        An answer that breaks off is AnswerBroken. Until it is there, the caller keeps the request's deadline.
        """


class Fetcher(Protocol):
    """Gets the images that endpoints name instead of sending them."""

    async def fetch(self, location: str, *, endpoint: str, most: int) -> bytes:
        """At most `most` bytes of the URL or path that the endpoint at the URL `endpoint` has named. ModelFailed."""


class ImageStore(Protocol):
    """IPFS nodes, by their RPC addresses."""

    async def check(self, api: str) -> None:
        """IpfsDown when nobody answers there, IpfsFailed when it refuses or is no IPFS node."""

    async def add(self, api: str, data: bytes) -> str:
        """Add and pin; the CID. IpfsFailed; IpfsDown when nobody answers."""


class RegistrationStore(Protocol):
    """Durable registrations: what a method did is on disk when it returns. StorageError."""

    async def load(self) -> Sequence[Endpoint]: ...

    async def replace_project(self, project: str, endpoints: Sequence[Endpoint]) -> None:
        """The project has exactly these endpoints from now on, atomically; none: it is gone."""


class AddressBook(Protocol):
    """Durable addresses at which peers were reached. StorageError."""

    async def load(self, limit: int) -> Sequence[KnownAddress]:
        """At most `limit`, the most promising first: those that fail the least, then those that were reached last."""

    async def record(self, outcomes: Sequence[DialOutcome]) -> None:
        """Take down what happened, in order, atomically. A failure of an address that is not in the book is no news.

        What failed ten times in a row and was not reached for 30 days is forgotten.
        """


class Metered(Protocol):
    """One request that is counted."""

    def end(self, answer: Answer | None, *, whole: bool, left: bool, sent: int) -> None:
        """It is over. `whole`: with a whole answer; `left`: the client has gone; `sent`: bytes of the answer."""


class KeyStore(Protocol):
    """Durable API keys: what a method did is on disk when it returns. StorageError."""

    async def load(self) -> Sequence[Key]:
        """All of them, the oldest first."""

    async def add(self, key: Key) -> None: ...

    async def remove(self, key_id: str) -> None:
        """Forget the key; one that is not there is no error."""


class UsageStore(Protocol):
    """Durable counts of usage. StorageError."""

    async def add(self, counts: Mapping[Row, Counts], *, forget_before: int) -> None:
        """Add these to what is there, and forget the hours before that Unix time. Atomic."""

    async def load(self, since: int) -> Sequence[tuple[Row, Counts]]:
        """Those of the hours from the Unix time `since` on, in the order of their rows."""
