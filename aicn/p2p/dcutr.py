"""Direct connections in place of relayed ones (libp2p spec, relay/DCUtR): hole punching over TCP.

Who was dialled through a relay begins. First it dials the other at the public addresses that identify told; if that does not do,
both agree over the relayed connection on a moment in which both dial the other, from the ports on which they listen: each
router takes the other's packet for the answer to its own node's, and the two half-open connections are one (see tcp.py).

The relayed connection then serves the streams that it has, and is closed when they have ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio
from google.protobuf.message import DecodeError
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from libp2p.stream_muxer.exceptions import MuxedConnError
from multiaddr import Multiaddr

from aicn.errors import AicnError, ProtocolViolation, Unreachable
from aicn.p2p import addresses
from aicn.p2p.connection import Connection
from aicn.p2p.messages import Messages
from aicn.p2p.stream import Stream
from aicn.p2p.swarm import Swarm

log = logging.getLogger(__name__)

PROTOCOL = "/libp2p/dcutr"
_LARGEST = 4096  # bytes of a message (specification)
_ATTEMPTS = 3  # (specification)
_EXCHANGE_S = 20.0  # for the messages of one attempt: a relayed round trip, and what go takes to answer
_DIRECT_S = 5.0  # for dialling without help
# For one attempt: lost first packets are repeated after 1 s and 3 s. Go's take 5 s, and the next one needs the port of the last.
PUNCH_S = 4.0
# Who answers dials last: if its packet arrived before the other has dialled, the other's listener would take it, the other's own
# dial would find the port in use and leave from one that its router maps elsewhere.
_ANSWERER_DELAY_S = 0.05
_MOST_ADDRESSES = 8  # of the peer, dialled at once
_MOST_UPGRADES = 32  # at a time
_GRACE_S = 15.0  # before the relayed connection is looked at: requests that were about to use it
_LOOK_S = 1.0  # between looks at whether it is still in use
_LONGEST_USE_S = 3600.0  # streams that take longer are broken: a relay is no place to stay
# How long the peer may take, after its greeting, to begin the handshakes, before we do: see Upgrader.simultaneous. An old
# go peer begins at once whichever side it is on; among ourselves it is who answers, as the specification has it.
_ASKER_PATIENCE_S = 2.0
_ANSWERER_PATIENCE_S = 0.3


class DirectUpgrade:
    """Upgrades relayed connections. `own` gives the addresses at which the peer should dial us.

    `loopback`, for tests: dial that, too. A peer may make us dial addresses, but not what listens on this machine alone.
    """

    def __init__(self, swarm: Swarm, own: Callable[[], Sequence[Multiaddr]], *, loopback: bool = False) -> None:
        self._swarm = swarm
        self._own = own
        self._loopback = loopback
        self._busy: set[ID] = set()  # peers that we upgrade
        self._answering: dict[
            ID, trio.CancelScope
        ] = {}  # peers that upgrade us; a new attempt takes the place of the last one
        self._nursery: trio.Nursery | None = None
        self._arrivals: dict[
            ID, trio.Event
        ] = {}  # while somebody waits for a connection: set when one begins, or an attempt fails
        swarm.on_began(lambda connection: self._arrived(connection.peer))

    def _arrived(self, peer: ID) -> None:
        if peer in self._arrivals:
            self._arrivals.pop(peer).set()

    async def run(self) -> None:
        """What `begin` begins lives here, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    def begin(self, connection: Connection) -> None:
        """Give the peer of an inbound relayed connection a direct one, if that can be had and not too many wait for theirs."""
        if self._nursery is not None and connection.peer not in self._busy and len(self._busy) < _MOST_UPGRADES:
            self._busy.add(connection.peer)
            self._nursery.start_soon(self._upgrade, connection)

    async def _upgrade(self, connection: Connection) -> None:
        peer = connection.peer
        try:
            direct = await self._dial(peer) or await self._punch(connection)
        finally:
            self._busy.discard(peer)
        if direct is None:
            log.debug("no direct connection to %s; it stays behind its relay", peer)
            return
        log.debug("%s is connected directly now, at %s", peer, direct.remote)
        await self._retire(connection)

    async def _dial(self, peer: ID) -> Connection | None:
        """Dial the public addresses of `peer`, if it has any."""
        live = self._swarm.live_direct(peer)
        if live is not None or not any(map(addresses.is_public, self._swarm.candidates(peer))):
            return live
        with trio.move_on_after(_DIRECT_S):
            try:
                return await self._swarm.connect_directly(peer)
            except AicnError as error:
                log.debug("%s cannot be dialled: %s", peer, error.message)
        return None

    async def _punch(self, connection: Connection) -> Connection | None:
        peer = connection.peer
        try:
            for attempt in range(_ATTEMPTS):
                theirs, round_trip_s = await self._ask(connection)
                await trio.sleep(round_trip_s / 2)  # until the peer has our SYNC
                try:
                    return await self._connect(peer, theirs, patience_s=_ASKER_PATIENCE_S)
                except Unreachable as error:
                    log.debug("hole punching with %s, attempt %d: %s", peer, attempt + 1, error.message)
        except (AicnError, MuxedConnError, trio.TooSlowError) as error:
            log.debug("hole punching with %s: %r", peer, error)
        return self._swarm.live_direct(peer)

    async def _ask(self, connection: Connection) -> tuple[list[Multiaddr], float]:
        """Exchange addresses and say when: the peer's, and the round trip in seconds.

        On a stream of its own each time, as go and rust want it; the specification keeps the first one for all attempts.
        """
        own = list(self._own())
        if not own:
            raise Unreachable("no address of ours is known that could be dialled")
        with trio.fail_after(_EXCHANGE_S):
            stream = await connection.open_stream(PROTOCOL)
            try:
                messages = Messages(stream, limit=_LARGEST)
                started = trio.current_time()
                await messages.send(_message(HolePunch.CONNECT, own))
                theirs = _read(await messages.receive(), HolePunch.CONNECT)
                round_trip_s = trio.current_time() - started
                await messages.send(_message(HolePunch.SYNC, ()))
                await stream.finish()
            except BaseException:
                stream.reset()
                raise
        return theirs, round_trip_s

    async def serve(self, connection: Connection, stream: Stream) -> None:
        """The other side of it. An attempt that fails may be followed by more on the same stream."""
        if not connection.relayed:
            raise ProtocolViolation("a direct connection needs no hole punching")
        peer = connection.peer
        if (last := self._answering.pop(peer, None)) is not None:
            last.cancel()
        elif len(self._answering) >= _MOST_UPGRADES:
            raise ProtocolViolation("too many hole punchings at a time")
        with trio.CancelScope() as scope:
            self._answering[peer] = scope
            try:
                await self._answer(connection, stream)
            finally:
                if self._answering.get(peer) is scope:
                    del self._answering[peer]

    async def _answer(self, connection: Connection, stream: Stream) -> None:
        messages = Messages(stream, limit=_LARGEST)
        for _ in range(_ATTEMPTS):
            with trio.move_on_after(_EXCHANGE_S + PUNCH_S) as late:
                data = await messages.receive_or_end()
                if data is None:
                    return
                theirs = _read(data, HolePunch.CONNECT)
                await messages.send(_message(HolePunch.CONNECT, self._own()))
                _read(await messages.receive(), HolePunch.SYNC)
            if late.cancelled_caught:
                raise ProtocolViolation("the exchange took too long")
            await trio.sleep(_ANSWERER_DELAY_S)
            try:
                await self._connect(connection.peer, theirs, patience_s=_ANSWERER_PATIENCE_S)
            except Unreachable as error:
                log.debug("hole punching with %s: %s", connection.peer, error.message)
            else:
                if self._nursery is not None:
                    self._nursery.start_soon(self._retire, connection)
                return

    async def _connect(self, peer: ID, theirs: Sequence[Multiaddr], *, patience_s: float) -> Connection:
        """Dial all of `theirs` at once until there is a direct connection, by whichever side. Unreachable."""
        failures: list[str] = []
        with trio.move_on_after(PUNCH_S):
            async with trio.open_nursery() as nursery:
                targets = [one for one in theirs if self._loopback or not addresses.is_local(one)][:_MOST_ADDRESSES]
                for address in targets:
                    nursery.start_soon(self._try, peer, address, patience_s, failures)
                while len(failures) < len(targets) and self._swarm.live_direct(peer) is None:
                    await self._arrivals.setdefault(peer, trio.Event()).wait()
                nursery.cancel_scope.cancel()
        self._arrivals.pop(peer, None)
        live = self._swarm.live_direct(peer)
        if live is None:
            raise Unreachable("; ".join(failures) or "no answer")
        return live

    async def _try(self, peer: ID, address: Multiaddr, patience_s: float, failures: list[str]) -> None:
        try:
            await self._swarm.punch(peer, address, patience_s=patience_s)
        except AicnError as error:
            failures.append(f"{address}: {error.message}")
            self._arrived(peer)

    async def _retire(self, relayed: Connection) -> None:
        """Close a relayed connection in whose place there is a direct one, once nobody uses it."""
        await trio.sleep(_GRACE_S)
        with trio.move_on_after(_LONGEST_USE_S):
            while relayed.in_use:
                with trio.move_on_after(_LOOK_S):
                    await relayed.event_closed.wait()
        if not relayed.is_closed and self._swarm.live_direct(relayed.peer) is not None:
            await relayed.close()


def _message(kind: HolePunch.Type.ValueType, own: Sequence[Multiaddr]) -> bytes:
    return HolePunch(type=kind, ObsAddrs=[one.to_bytes() for one in own]).SerializeToString()


def _read(data: bytes, kind: HolePunch.Type.ValueType) -> list[Multiaddr]:
    """The addresses in a message that must be of `kind`. ProtocolViolation."""
    message = HolePunch()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise ProtocolViolation("DCUtR: not a message") from None
    if message.type != kind:
        raise ProtocolViolation("DCUtR: a message out of turn")
    return addresses.read_plain(message.ObsAddrs)
