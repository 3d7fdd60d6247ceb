"""AutoNAT v1, the answering side (libp2p spec, autonat/autonat-v1): dial peers back who want to know whether that works.

Upstream's (host/autonat/autonat.py:396) "dials" a peer that is connected already, which always succeeds: it tells the whole network
that it is public. Here it is a new connection, from a port and in the name of a key that nobody has seen, so that neither
a router's mapping nor the asker's own bookkeeping of us plays a part.

Nobody is dialled for another: the asker names ports, the IP address is the one that it comes from. What that costs is bounded,
and that a dial fails is said only when its whole time has passed, so that we are no port scanner either.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import trio
from google.protobuf.message import DecodeError
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.errors import ProtocolViolation, Unreachable
from aicn.p2p import addresses, tcp
from aicn.p2p.autonat import LARGEST
from aicn.p2p.connection import Connection
from aicn.p2p.messages import Messages
from aicn.p2p.stream import Stream
from aicn.p2p.upgrade import Upgrader

log = logging.getLogger(__name__)

DIAL_S = 15.0  # for all addresses of one question, as in go
_QUESTION_S = 10.0  # for the asker to say what it wants
_MOST_DIALS = 4  # addresses of one question: each is one TCP connection to the asker
_WINDOW_S = 60.0
_MOST_PER_WINDOW = 30  # questions of all peers, and of one, as in go
_MOST_PER_PEER = 3


class Quota:
    """How often strangers may make us dial: so many in a window in all, so many of one peer, one at a time of each."""

    def __init__(self) -> None:
        self._since = 0.0
        self._all = 0
        self._of: Counter[ID] = Counter()
        self._busy: set[ID] = set()

    def enter(self, peer: ID) -> bool:
        """Whether `peer` may have one now; `leave` afterwards if so."""
        now = trio.current_time()
        if now - self._since >= _WINDOW_S:
            self._since, self._all = now, 0
            self._of.clear()
        if peer in self._busy or self._all >= _MOST_PER_WINDOW or self._of[peer] >= _MOST_PER_PEER:
            return False
        self._all += 1
        self._of[peer] += 1
        self._busy.add(peer)
        return True

    def leave(self, peer: ID) -> None:
        self._busy.discard(peer)


class AutoNatServer:
    """Answers. `own` gives our addresses: who shares our router's cannot be told anything. `private`, for tests: dial any IP."""

    def __init__(
        self,
        own: Callable[[], Iterable[Multiaddr]],
        *,
        psk: bytes | None,
        private: bool = False,
        dial_s: float = DIAL_S,
    ) -> None:
        self._own = own
        self._upgrader = Upgrader(create_new_key_pair(), psk=psk, streams_per_connection=1)
        self._private = private
        self._dial_s = dial_s
        self._quota = Quota()

    async def serve(self, connection: Connection, stream: Stream) -> None:
        """Answer one question."""
        messages = Messages(stream, limit=LARGEST)
        with trio.move_on_after(_QUESTION_S) as late:
            data = await messages.receive()
        if late.cancelled_caught:
            raise ProtocolViolation("AutoNAT: no question came")
        response = await self._answer(connection, data)
        answer = Message(type=Message.DIAL_RESPONSE, dialResponse=response)
        with trio.move_on_after(_QUESTION_S):
            await messages.send(answer.SerializeToString())

    async def _answer(self, connection: Connection, data: bytes) -> Message.DialResponse:
        try:
            ports = _asked(data, connection.peer)
        except ProtocolViolation as error:
            return _refusal(Message.E_BAD_REQUEST, error.message)
        targets = self._targets(connection, ports)
        if not targets:
            return _refusal(Message.E_DIAL_REFUSED, "nothing there that could be dialled from here")
        if not self._quota.enter(connection.peer):
            return _refusal(Message.E_DIAL_REFUSED, "too many questions")
        try:
            started = trio.current_time()
            reached = await self._dial_back(connection.peer, targets)
            if reached is None:
                await trio.sleep_until(started + self._dial_s)
        finally:
            self._quota.leave(connection.peer)
        if reached is None:
            return _refusal(Message.E_DIAL_ERROR, "dial failed")
        return Message.DialResponse(status=Message.OK, addr=reached.to_bytes())

    def _targets(self, connection: Connection, ports: Sequence[int]) -> list[Multiaddr]:
        """Where to dial the asker: the ports it named, at the address it comes from. Nowhere when that says nothing."""
        if connection.relayed or connection.remote is None:
            return []
        ip = addresses.ip_of(connection.remote)
        if ip is None or (not self._private and (not ip.is_global or ip in map(addresses.ip_of, self._own()))):
            return []
        return [Multiaddr(f"/ip{ip.version}/{ip}/tcp/{port}") for port in ports[:_MOST_DIALS]]

    async def _dial_back(self, peer: ID, targets: Sequence[Multiaddr]) -> Multiaddr | None:
        """The first of `targets` at which `peer` answers, within the deadline."""
        reached: list[Multiaddr] = []
        with trio.move_on_after(self._dial_s):
            async with trio.open_nursery() as nursery:
                for target in targets:
                    nursery.start_soon(self._try, peer, target, reached, nursery.cancel_scope)
        return reached[0] if reached else None

    async def _try(self, peer: ID, target: Multiaddr, reached: list[Multiaddr], others: trio.CancelScope) -> None:
        try:
            raw = await tcp.dial(target, ())
        except Unreachable:
            return
        try:
            await self._upgrader.outbound(raw, peer)
        except Exception as error:  # noqa: BLE001 - each security transport has its own
            log.debug("AutoNAT: %s does not answer at %s: %r", peer, target, error)
        else:
            reached.append(target)
            others.cancel()
        finally:
            with trio.CancelScope(shield=True):  # closing a socket does not wait for the peer
                await raw.close()


def _asked(data: bytes, asker: ID) -> list[int]:
    """The ports that a question names. ProtocolViolation."""
    message = Message()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise ProtocolViolation("not a question") from None
    if message.type != Message.DIAL or not message.HasField("dial"):
        raise ProtocolViolation("not a question")
    if message.dial.peer.id and message.dial.peer.id != asker.to_bytes():
        raise ProtocolViolation("asked for another peer")
    plain = addresses.read_plain(message.dial.peer.addrs)
    return [port for port in dict.fromkeys(map(addresses.port_of, plain)) if port]


def _refusal(status: Message.ResponseStatus.ValueType, text: str) -> Message.DialResponse:
    return Message.DialResponse(status=status, statusText=text)
