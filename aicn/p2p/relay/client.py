"""The side of those who need relays: a place kept with each of them, circuits accepted through them, circuits dialled.

run
 └─ nursery
     └─ one task per relay     reserves, renews, reserves again after the connection to it ended
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnError
from multiaddr import Multiaddr

from aicn.errors import AicnError, DeadlineExceeded, ProtocolViolation, Unreachable
from aicn.p2p import addresses
from aicn.p2p.connection import Connection
from aicn.p2p.relay.circuit import Circuit, open_circuit
from aicn.p2p.relay.messages import HOP, HopMessage, Reservation, Status, StopMessage, expect_ok, on, peer_in, receive
from aicn.p2p.stream import Stream
from aicn.p2p.swarm import Swarm

log = logging.getLogger(__name__)

_REQUEST_S = 10.0  # for a relay to answer a reservation, or to say who connects
_MOST_DISCOVERED = 8  # relays that we happened to meet and keep a place with; configured ones are not counted
_MOST_ADDRESSES = (
    4  # advertised per relay: what one relay may make others dial; with all relays within a peer book's 32
)
_SOONEST_S = 1.0  # before a place is renewed, whatever the relay says
_LATEST_S = 1800.0  # as before; go relays keep a place for an hour
_FIRST_DELAY_S = 1.0  # before a relay that failed or refused is asked again
_LONGEST_DELAY_S = 60.0  # the same after many times
_RELAY_KNOWN_S = 600  # how long the address of a relay in a circuit that we dial is remembered


@dataclass(frozen=True, slots=True)
class _Place:
    """A reservation that we have."""

    circuits: tuple[Multiaddr, ...]  # our addresses through this relay
    renew_s: float


class RelayClient:
    """Places with relays, as long as `wanted` says that this node needs them."""

    def __init__(
        self,
        swarm: Swarm,
        configured: Iterable[tuple[ID, Multiaddr]],
        *,
        wanted: Callable[[], bool],
    ) -> None:
        self._swarm = swarm
        self._configured: dict[ID, list[Multiaddr]] = {}
        for relay, address in configured:
            if relay != swarm.own_id:  # a node may be in the list that it shares with others
                self._configured.setdefault(relay, []).append(address)
        self._wanted = wanted
        self.changed: Callable[[], object] = lambda: None  # told when `addresses` are others than before
        self._places: dict[ID, _Place] = {}
        self._keepers: dict[ID, trio.CancelScope] = {}
        self._reconsider = trio.Event()

    # ---- places ----

    def addresses(self) -> list[Multiaddr]:
        """This node's addresses through relays: <relay address>/p2p/<relay>/p2p-circuit."""
        return [circuit for place in self._places.values() for circuit in place.circuits]

    @property
    def relays(self) -> tuple[ID, ...]:
        """Those that keep a place for us; connections to them are worth keeping."""
        return tuple(self._places)

    def reconsider(self) -> None:
        """Whether relays are wanted, or who is connected and serves as one, may have changed."""
        self._reconsider.set()

    async def run(self) -> None:
        """Keep places until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._reconsider = trio.Event()
                if self._wanted():
                    for relay in {*self._configured, *self._met()} - self._keepers.keys():
                        self._keepers[relay] = trio.CancelScope()
                        nursery.start_soon(self._keep, relay)
                else:
                    for scope in self._keepers.values():
                        scope.cancel()
                await self._reconsider.wait()

    def _met(self) -> Iterable[ID]:
        """Connected peers that serve as relays."""
        direct = {one.peer for one in self._swarm.open_connections() if not one.relayed}
        return [peer for peer in direct if HOP in self._swarm.book.protocols_of(peer)]

    async def _keep(self, relay: ID) -> None:
        with self._keepers[relay]:
            try:
                await self._renew(relay)
            finally:
                self._drop(relay)
                del self._keepers[relay]
        self.reconsider()

    async def _renew(self, relay: ID) -> None:
        """Have a place with `relay`, always if it is configured, else until the connection to it ends."""
        delay = _FIRST_DELAY_S
        while relay in self._configured or self._swarm.live_direct(relay) is not None:
            try:
                connection = await self._reach(relay)
                place = await self._reserve(connection)
            except (AicnError, MuxedConnError) as error:
                log.log(logging.INFO if delay == _FIRST_DELAY_S else logging.DEBUG, "relay %s: %s", relay, error)
                self._drop(relay)
                await trio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, as in bootstrap.py
                delay = min(delay * 2, _LONGEST_DELAY_S)
            else:
                delay = _FIRST_DELAY_S
                self._take(relay, place)
                with trio.move_on_after(place.renew_s):
                    await connection.event_closed.wait()
                    self._drop(relay)

    async def _reach(self, relay: ID) -> Connection:
        self._swarm.book.add_addrs(relay, self._configured.get(relay, ()))
        return await self._swarm.connect_directly(relay)

    async def _reserve(self, connection: Connection) -> _Place:
        relay = connection.peer
        discovered = [one for one in self._places if one not in self._configured and one != relay]
        if relay not in self._configured and len(discovered) >= _MOST_DISCOVERED:
            raise Unreachable("there are enough others")
        try:
            with trio.fail_after(_REQUEST_S):
                reservation = await _ask_for_place(await connection.open_stream(HOP))
        except trio.TooSlowError:
            raise DeadlineExceeded("no answer to a reservation") from None
        circuits = _circuits(connection, reservation)
        if not circuits:
            raise ProtocolViolation("no address under which the relay can be dialled")
        return _Place(circuits, _renewal(reservation))

    def _take(self, relay: ID, place: _Place) -> None:
        before = self._places.get(relay)
        self._places[relay] = place
        if before is None:
            log.info("relay %s keeps a place for this node", relay)
            self._swarm.trimmer.protect(relay, "relay")
        if before is None or before.circuits != place.circuits:
            self.changed()

    def _drop(self, relay: ID) -> None:
        if self._places.pop(relay, None) is not None:
            self._swarm.trimmer.unprotect(relay, "relay")
            self.changed()

    # ---- circuits ----

    async def serve_stop(self, connection: Connection, stream: Stream) -> None:
        """Somebody connects to us through the relay at the other end. The handler lasts as long as that connection."""
        messages = on(stream)
        try:
            with trio.fail_after(_REQUEST_S):
                request = await receive(messages, StopMessage)
                if request.type != StopMessage.CONNECT:
                    raise ProtocolViolation("the relay did not say CONNECT")
                peer_in(request)  # who that is shows in the handshake, whatever the relay says
                # from when we ask, not only from when we know: the relay may be asked for us in the moment in which it agrees
                status = Status.OK if connection.peer in self._keepers else Status.PERMISSION_DENIED
                answer = StopMessage(type=StopMessage.STATUS, status=status)
                await messages.send(answer.SerializeToString())
        except trio.TooSlowError:
            raise DeadlineExceeded("the relay took too long") from None
        if status == Status.OK:
            address = addresses.circuit_over(connection.peer, connection.remote)
            circuit = Circuit(messages.release(), address, initiator=False, limited=request.HasField("limit"))
            await self._swarm.accept(circuit, circuit=address)

    async def dial(self, circuit: Multiaddr, target: ID) -> Circuit:
        """A raw connection to `target` over the relay that `circuit` names. Unreachable, DeadlineExceeded and the like."""
        relay, transport = addresses.relay_of(circuit)
        if relay == self._swarm.own_id:
            raise Unreachable("that relay is this node itself")
        if transport is not None:
            self._swarm.book.add_addrs(relay, [transport], _RELAY_KNOWN_S)
        return await open_circuit(await self._swarm.connect_directly(relay), target, circuit)


async def _ask_for_place(stream: Stream) -> Reservation:
    messages = on(stream)
    try:
        await messages.send(HopMessage(type=HopMessage.RESERVE).SerializeToString())
        answer = await expect_ok(messages, HopMessage)
    except BaseException:
        stream.reset()
        raise
    await stream.finish()
    return answer.reservation


def _circuits(connection: Connection, reservation: Reservation) -> tuple[Multiaddr, ...]:
    """Our addresses through a relay: over the address that we dialled, and over what the relay says of itself."""
    relay = connection.peer
    found = [connection.remote] if connection.dialled and connection.remote else []
    for data in reservation.addrs[: 4 * _MOST_ADDRESSES]:
        address = addresses.decode(bytes(data))
        if address is None or addresses.peer_of(address) not in (None, relay):
            continue
        transport = addresses.without_peer(address)
        if addresses.diallable(transport) and not addresses.is_circuit(transport):
            found.append(transport)
    best = sorted(dict.fromkeys(found), key=addresses.rank)[:_MOST_ADDRESSES]
    return tuple(addresses.circuit_over(relay, one) for one in best)


def _renewal(reservation: Reservation) -> float:
    """Seconds until a place is to be renewed: half of its time. The relay's clock may be another than ours."""
    return min(max((reservation.expire - time.time()) / 2, _SOONEST_S), _LATEST_S)
