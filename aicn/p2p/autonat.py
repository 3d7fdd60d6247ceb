"""AutoNAT v1, the asking side (libp2p spec, autonat/autonat-v1): peers dial us back, and say whether it worked.

One peer may lie, be behind the same router, or be cut off itself. So the answer of each is one vote: NEEDED of the peers asked, or
all of them where there are fewer, must agree before the state changes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import trio
from google.protobuf.message import DecodeError
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnError
from multiaddr import Multiaddr

from aicn.errors import AicnError, ProtocolViolation
from aicn.p2p import addresses
from aicn.p2p.connection import Connection
from aicn.p2p.messages import Messages
from aicn.p2p.reachability import Reachability, State

log = logging.getLogger(__name__)

PROTOCOL = "/libp2p/autonat/1.0.0"
LARGEST = 4096  # bytes of a message, as in go
MOST_ADDRESSES = 16  # named in one question, as in go

NEEDED = 3  # votes that agree
_MOST_VOTES = 8  # of the peers asked last
ANSWER_S = 30.0  # a server dials for up to 15 s
FIRST_S = 2.0  # after an occasion to ask, so that a burst of them is one
NEXT_S = 5.0  # between questions while there are not votes enough
RETRY_S = 90.0  # before asking again while nothing is known or others disagree
REFRESH_S = 900.0  # before asking again what is known
PER_SERVER_S = 90.0  # between questions to one server: servers refuse those who ask too often


@dataclass
class Vote:
    """What one server said last: where it has reached us, or that it could not ("")."""

    address: str

    @property
    def state(self) -> State:
        return State.PUBLIC if self.address else State.PRIVATE


class Votes:
    """The latest answer of each of the servers asked last."""

    def __init__(self) -> None:
        self._votes: dict[ID, Vote] = {}

    def add(self, server: ID, vote: Vote) -> None:
        self._votes.pop(server, None)
        self._votes[server] = vote
        while len(self._votes) > _MOST_VOTES:
            del self._votes[next(iter(self._votes))]

    def clear(self) -> None:
        self._votes.clear()

    def decide(self, servers: int) -> tuple[State, str] | None:
        """The state that enough votes agree on, and an address; None while there are too few. `servers`: who could be asked."""
        reached = [vote.address for vote in self._votes.values() if vote.state is State.PUBLIC]
        failed = len(self._votes) - len(reached)
        needed = max(1, min(NEEDED, servers))
        if len(reached) >= needed and len(reached) > failed:
            return State.PUBLIC, reached[-1]
        if failed >= needed and failed > len(reached):
            return State.PRIVATE, ""
        return None


class AutoNat:
    """Asks the peers that `servers` gives, at the addresses that `candidates` gives, and tells `reachability`."""

    def __init__(
        self,
        own: ID,
        reachability: Reachability,
        servers: Callable[[], Iterable[Connection]],
        candidates: Callable[[], Sequence[Multiaddr]],
    ) -> None:
        self._own = own
        self._reachability = reachability
        self._servers = servers
        self._candidates = candidates
        self._votes = Votes()
        self._asked: dict[ID, float] = {}  # when, of the servers that are connected
        self._named: frozenset[Multiaddr] = frozenset()  # the addresses that the votes are about
        self._occasion = trio.Event()

    def reconsider(self) -> None:
        """A server may have come, or our addresses may have changed."""
        self._occasion.set()

    async def run(self) -> None:
        """Ask whenever there is reason to, until cancelled."""
        pause = RETRY_S
        while True:
            with trio.move_on_after(pause):
                await self._occasion.wait()
                await trio.sleep(FIRST_S)
            self._occasion = trio.Event()
            pause = await self._round()

    async def _round(self) -> float:
        """Ask one server, if one may be asked; how long to wait before the next."""
        candidates = self._candidates()[:MOST_ADDRESSES]
        if frozenset(candidates) != self._named:
            self._named = frozenset(candidates)
            self._votes.clear()
        servers = {connection.peer: connection for connection in self._servers()}
        self._asked = {peer: when for peer, when in self._asked.items() if peer in servers}
        now = trio.current_time()
        rested = [peer for peer in servers if now - self._asked.get(peer, -PER_SERVER_S) >= PER_SERVER_S]
        if not candidates or not rested:
            return RETRY_S
        server = random.choice(rested)  # noqa: S311 - whom a stranger cannot foresee; no secret
        self._asked[server] = now
        vote = await self._ask(servers[server], candidates)
        if vote is None:
            return NEXT_S
        self._votes.add(server, vote)
        decision = self._votes.decide(len(servers))
        if decision is None:
            return NEXT_S
        self._reachability.set(*decision)
        return REFRESH_S

    async def _ask(self, connection: Connection, candidates: Sequence[Multiaddr]) -> Vote | None:
        """The vote of one server; None when it has none."""
        dial = Message.Dial(
            peer=Message.PeerInfo(id=self._own.to_bytes(), addrs=[one.to_bytes() for one in candidates])
        )
        try:
            with trio.fail_after(ANSWER_S):
                stream = await connection.open_stream(PROTOCOL)
                try:
                    messages = Messages(stream, limit=LARGEST)
                    await messages.send(Message(type=Message.DIAL, dial=dial).SerializeToString())
                    return read_vote(await messages.receive())
                finally:
                    stream.reset()
        except (AicnError, MuxedConnError, trio.TooSlowError) as error:
            log.debug("AutoNAT: %s did not answer: %r", connection.peer, error)
            return None


def read_vote(data: bytes) -> Vote | None:
    """The vote in an answer; None when the server refused. ProtocolViolation."""
    message = Message()
    try:
        message.ParseFromString(data)
        if message.type != Message.DIAL_RESPONSE or not message.HasField("dialResponse"):
            raise ProtocolViolation("AutoNAT: not an answer")
    except DecodeError:
        raise ProtocolViolation("AutoNAT: an answer that cannot be read") from None
    response = message.dialResponse
    if response.status == Message.OK:
        reached = addresses.read_plain([response.addr])
        if not reached:
            raise ProtocolViolation("AutoNAT: reached nowhere")
        return Vote(str(reached[0]))
    return Vote("") if response.status == Message.E_DIAL_ERROR else None
