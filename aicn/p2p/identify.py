"""Identify (libp2p spec, identify): who a peer is, what it serves, where it is and where it sees us; and push, when ours changes.

In place of upstream's (identity/identify, identity/identify_push, host/basic_host.py:1183, :1241), which has constants for versions
(identify/identify.py:40), forgets what peers say of theirs (identity/update.py), reports a relay's address as that of the peer
behind it (identify.py:152), takes one message where go sends several, asks only while a peer is unknown (basic_host.py:1218), in
system tasks, and pushes nothing by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio
from google.protobuf.message import DecodeError
from libp2p.crypto.keys import KeyPair
from libp2p.identity.identify.pb.identify_pb2 import Identify as Message
from libp2p.identity.update import update_peerstore_from_identify
from libp2p.peer.id import ID
from libp2p.peer.peerstore import create_signed_peer_record
from libp2p.stream_muxer.exceptions import MuxedConnError
from multiaddr import Multiaddr

from aicn.domain.nodes import PROTOCOL_VERSION
from aicn.errors import AicnError, ProtocolViolation
from aicn.p2p import addresses, peerbook
from aicn.p2p.connection import Connection
from aicn.p2p.messages import Messages
from aicn.p2p.own_addresses import OwnAddresses
from aicn.p2p.peerbook import PeerBook
from aicn.p2p.protocols import Protocols
from aicn.p2p.stream import Stream
from aicn.p2p.swarm import Swarm

log = logging.getLogger(__name__)

IDENTIFY = "/ipfs/id/1.0.0"
PUSH = "/ipfs/id/push/1.0.0"
EXCHANGE_S = 10.0  # for one peer to answer or to take a push
DEBOUNCE_S = 0.1  # a start registers a dozen protocols, a new interface brings several addresses: one push for all
_LOOK_S = 15.0  # interfaces come and go without telling: how often our addresses are compared
_LARGEST = 64 << 10  # bytes of a message: go sends at most 8 KiB in each, with a signed record of at most as much
_MOST_MESSAGES = 10  # parts of one answer, as in go
_PUSHES = 16  # at a time
_LONGEST_VERSION = 128  # characters kept


@dataclass(frozen=True)
class PeerInfo:
    """What a peer says of itself."""

    agent_version: str
    protocol_version: str
    protocols: tuple[str, ...]


class Identify:
    """Serves identify, asks each peer that connects, and pushes our changes to them while `run` runs."""

    def __init__(
        self,
        swarm: Swarm,
        book: PeerBook,
        protocols: Protocols,
        keys: KeyPair,
        own: OwnAddresses,
        *,
        agent_version: str,
    ) -> None:
        self._swarm = swarm
        self._book = book
        self._protocols = protocols
        self._keys = keys
        self._own = own
        self._record: tuple[list[Multiaddr], bytes] = ([], b"")  # our addresses, and the same signed
        self._asked: set[ID] = set()  # connected peers that were asked, or are
        self.known: set[ID] = set()  # connected peers that have answered
        self._agent_version = agent_version
        self._dirty = trio.Event()
        self.observed: Callable[[Connection, Multiaddr], None] = lambda *_: None  # told how a peer sees us
        self.identified: Callable[[ID], None] = lambda _: None  # told whenever a connected peer has said who it is
        swarm.on_began(self._began)
        protocols.serve_connection(IDENTIFY, self._answer)
        protocols.serve_connection(PUSH, self._take_push)
        protocols.changed = self.changed

    # ---- about others ----

    def _began(self, connection: Connection) -> None:
        if connection.peer not in self._asked:
            self._asked.add(connection.peer)
            self._swarm.nursery.start_soon(self._meet, connection)

    async def _meet(self, connection: Connection) -> None:
        peer = connection.peer
        while not await self.ask(connection):
            other = self._swarm.live(peer)
            if other is None or other is connection:
                return
            connection = other  # that one has ended
        if self._swarm.is_connected(peer):
            self.known.add(peer)
            self.identified(peer)

    def disconnected(self, peer: ID) -> None:
        """The last connection to `peer` has ended."""
        self._asked.discard(peer)
        self.known.discard(peer)

    async def ask(self, connection: Connection) -> bool:
        """Ask the peer at the other end who it is; whether it said so."""
        try:
            with trio.fail_after(EXCHANGE_S):
                stream = await connection.open_stream(IDENTIFY)
                await stream.send_eof()
                message = await _receive(stream)
        except (AicnError, MuxedConnError, trio.TooSlowError) as error:
            log.debug("%s was not identified: %r", connection.peer, error)
            return False
        await self._learn(connection.peer, message)
        observed = addresses.decode(message.observed_addr)
        if observed is not None and not connection.relayed:
            self.observed(connection, observed)
        return True

    async def _take_push(self, connection: Connection, stream: Stream) -> None:
        with trio.move_on_after(EXCHANGE_S):
            await self._learn(connection.peer, await _receive(stream))
            if self._swarm.is_connected(connection.peer):
                self.identified(connection.peer)

    async def _learn(self, peer: ID, message: Message) -> None:
        await update_peerstore_from_identify(self._book, peer, message)
        for name, value in ((peerbook.AGENT, message.agent_version), (peerbook.PROTOCOL, message.protocol_version)):
            if value:
                self._book.put(peer, name, value[:_LONGEST_VERSION])

    def info(self, peer: ID) -> PeerInfo | None:
        """What `peer` said; None when it has said nothing."""
        data = self._book.peer_data_map.get(peer)
        if data is None or peerbook.AGENT not in data.metadata:
            return None
        return PeerInfo(
            agent_version=str(data.metadata[peerbook.AGENT]),
            protocol_version=str(data.metadata.get(peerbook.PROTOCOL, "")),
            protocols=tuple(data.get_protocols()),
        )

    # ---- about us ----

    async def _answer(self, connection: Connection, stream: Stream) -> None:
        observed = None if connection.relayed else connection.remote
        await Messages(stream, limit=_LARGEST).send(self._message(observed).SerializeToString())

    def _message(self, observed: Multiaddr | None) -> Message:
        return Message(
            protocol_version=PROTOCOL_VERSION,
            agent_version=self._agent_version,
            public_key=self._keys.public_key.serialize(),
            listen_addrs=[addresses.without_peer(one).to_bytes() for one in self._own.advertised()],
            observed_addr=b"" if observed is None else observed.to_bytes(),
            protocols=self._protocols.names,
            signedPeerRecord=self._signed_record(),
        )

    def _signed_record(self) -> bytes:
        """Our addresses, signed (libp2p RFC 0003); the same record as long as they are the same."""
        own = self._own.advertised()
        if not self._record[1] or own != self._record[0]:
            here = Multiaddr(f"/p2p/{self._swarm.own_id}")
            named = [addresses.without_peer(one).encapsulate(here) for one in own]
            sealed = create_signed_peer_record(self._swarm.own_id, named, self._keys.private_key)
            self._record = own, sealed.marshal_envelope()
        return self._record[1]

    def changed(self) -> None:
        """Our protocols or addresses may be others than before."""
        self._dirty.set()

    async def run(self) -> None:
        """Push what changes to all peers, until cancelled."""
        said = self._state()
        while True:
            with trio.move_on_after(_LOOK_S):
                await self._dirty.wait()
                await trio.sleep(DEBOUNCE_S)
            self._dirty = trio.Event()
            if (now := self._state()) != said:
                said = now
                await self._push()

    def _state(self) -> tuple[frozenset[str], frozenset[Multiaddr]]:
        return frozenset(self._protocols.names), frozenset(self._own.advertised())

    async def _push(self) -> None:
        message = self._message(None).SerializeToString()
        limiter = trio.CapacityLimiter(_PUSHES)
        async with trio.open_nursery() as nursery:
            for peer in tuple(self._swarm.connections):
                connection = self._swarm.live(peer)
                if connection is not None and self._takes_push(peer):
                    nursery.start_soon(_push_one, connection, message, limiter)

    def _takes_push(self, peer: ID) -> bool:
        data = self._book.peer_data_map.get(peer)
        return data is not None and PUSH in data.get_protocols()


async def _push_one(connection: Connection, message: bytes, limiter: trio.CapacityLimiter) -> None:
    async with limiter:
        try:
            with trio.fail_after(EXCHANGE_S):
                stream = await connection.open_stream(PUSH)
                await Messages(stream, limit=_LARGEST).send(message)
                await stream.finish()
        except (AicnError, MuxedConnError, trio.TooSlowError) as error:
            log.debug("%s did not take our push: %r", connection.peer, error)


async def _receive(stream: Stream) -> Message:
    """All parts of one message, until the stream ends. ProtocolViolation, TooLarge, Unsupported, AnswerBroken."""
    parts, message = Messages(stream, limit=_LARGEST), Message()
    try:
        for _ in range(_MOST_MESSAGES):
            part = await parts.receive_or_end()
            if part is None:
                break
            message.MergeFromString(part)
    except DecodeError:
        raise ProtocolViolation("identify: not a message") from None
    finally:
        stream.reset()  # does nothing after a clean end
    return message
