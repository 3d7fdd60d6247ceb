"""AutoNAT: what answers decide, and when whom is asked."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.errors import ProtocolViolation
from aicn.p2p.autonat import PER_SERVER_S, REFRESH_S, AutoNat, Vote, Votes, read_vote
from aicn.p2p.autonat_server import _asked
from aicn.p2p.reachability import Reachability, State
from aicn.wire.framing import encode_frame

HERE = "/ip4/8.8.4.4/tcp/6001"
OK, FAILED = Vote(HERE), Vote("")


def peer(number: int) -> ID:
    return ID(bytes((0, 1, number)))


def decide(*votes: Vote, servers: int) -> State | None:
    counted = Votes()
    for number, vote in enumerate(votes):
        counted.add(peer(number), vote)
    decision = counted.decide(servers)
    return None if decision is None else decision[0]


@pytest.mark.parametrize(
    ("votes", "servers", "state"),
    [
        ((), 5, None),
        ((OK,), 5, None),
        ((OK, OK), 5, None),
        ((OK, OK, OK), 5, State.PUBLIC),
        ((FAILED, FAILED, FAILED), 5, State.PRIVATE),
        ((OK, FAILED, OK, FAILED), 5, None),
        ((OK, OK, OK, FAILED, FAILED, FAILED), 9, None),
        ((OK, OK, OK, OK, FAILED, FAILED, FAILED), 9, State.PUBLIC),
        ((OK,), 1, State.PUBLIC),  # nobody else could be asked
        ((FAILED, FAILED), 2, State.PRIVATE),
        ((OK, FAILED), 2, None),
        ((FAILED,), 0, State.PRIVATE),  # that one has left since
    ],
)
def test_votes(votes: tuple[Vote, ...], servers: int, state: State | None) -> None:
    assert decide(*votes, servers=servers) is state


def test_one_server_has_one_vote() -> None:
    votes = Votes()
    for _ in range(10):
        votes.add(peer(1), FAILED)
    assert votes.decide(5) is None


def test_only_the_latest_servers_count() -> None:
    assert decide(*[FAILED] * 20, *[OK] * 8, servers=99) is State.PUBLIC


# ---- the schedule ----


class Server:
    """A connection to a peer that answers with `vote`, or refuses."""

    def __init__(self, number: int, vote: Vote | None) -> None:
        self.peer = peer(number)
        self.vote = vote
        self.asked: list[float] = []
        self._answer = b""

    async def open_stream(self, protocol: str) -> Any:
        assert protocol == "/libp2p/autonat/1.0.0"
        return SimpleNamespace(send_all=self._take, receive_some=self._give, reset=lambda: None)

    async def _take(self, data: bytes) -> None:
        self.asked.append(trio.current_time())
        response = Message.DialResponse(status=Message.E_DIAL_REFUSED)
        if self.vote == OK:
            response = Message.DialResponse(status=Message.OK, addr=Multiaddr(HERE).to_bytes())
        elif self.vote == FAILED:
            response = Message.DialResponse(status=Message.E_DIAL_ERROR)
        answer = Message(type=Message.DIAL_RESPONSE, dialResponse=response)
        self._answer = encode_frame(answer.SerializeToString())

    async def _give(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._answer


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)


def simulate(
    clock: trio.testing.MockClock,
    servers: list[Server],
    *,
    seconds: float,
    candidates: Callable[[], list[Multiaddr]] = lambda: [Multiaddr(HERE)],
    meanwhile: Callable[[AutoNat], None] = lambda _: None,
) -> Reachability:
    reachability = Reachability(list)
    asking: Any = servers
    client = AutoNat(peer(0), reachability, lambda: asking, candidates)

    async def run() -> None:
        client.reconsider()
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                await trio.sleep(seconds / 2)
                meanwhile(client)

    trio.run(run, clock=clock)
    return reachability


def test_three_are_asked_and_no_more_until_it_is_time_again(clock: trio.testing.MockClock) -> None:
    servers = [Server(number, OK) for number in range(1, 9)]
    reachability = simulate(clock, servers, seconds=REFRESH_S / 2)
    assert reachability.state is State.PUBLIC
    assert sum(len(server.asked) for server in servers) == 3


def test_what_is_known_is_asked_again(clock: trio.testing.MockClock) -> None:
    servers = [Server(1, FAILED)]
    reachability = simulate(clock, servers, seconds=3.5 * REFRESH_S)
    assert reachability.state is State.PRIVATE
    assert len(servers[0].asked) == 4


def test_no_server_is_asked_too_often(clock: trio.testing.MockClock) -> None:
    servers = [Server(number, None) for number in (1, 2)]  # they refuse, and nothing is ever known
    reachability = simulate(clock, servers, seconds=3600)
    assert reachability.state is State.UNKNOWN
    for server in servers:
        assert len(server.asked) > 10
        assert all(
            later - earlier >= PER_SERVER_S for earlier, later in zip(server.asked, server.asked[1:], strict=False)
        )


def test_nobody_is_asked_while_there_is_nothing_to_dial(clock: trio.testing.MockClock) -> None:
    servers = [Server(1, OK)]
    simulate(clock, servers, seconds=3600, candidates=list)
    assert servers[0].asked == []


def test_new_addresses_are_a_new_question(clock: trio.testing.MockClock) -> None:
    servers, addresses = [Server(1, FAILED)], [Multiaddr("/ip4/10.0.0.1/tcp/6001")]

    def move(client: AutoNat) -> None:
        addresses[:] = [Multiaddr(HERE)]
        servers[0].vote = OK
        client.reconsider()

    reachability = simulate(clock, servers, seconds=400, candidates=lambda: addresses, meanwhile=move)
    assert reachability.state is State.PUBLIC
    assert len(servers[0].asked) == 2


# ---- what comes over the wire ----


@given(st.binary(max_size=200))
def test_no_answer_does_more_than_be_refused(data: bytes) -> None:
    try:
        vote = read_vote(data)
    except ProtocolViolation:
        return
    assert vote is None or vote.state in (State.PUBLIC, State.PRIVATE)


@given(st.binary(max_size=200))
def test_no_question_names_more_than_ports(data: bytes) -> None:
    try:
        ports = _asked(data, peer(1))
    except ProtocolViolation:
        return
    assert all(0 < port < 65536 for port in ports)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_junk_among_the_addresses_is_left_out(junk: list[bytes]) -> None:
    named = [*junk, Multiaddr(HERE).to_bytes()]
    info = Message.PeerInfo(id=peer(1).to_bytes(), addrs=named)
    question = Message(type=Message.DIAL, dial=Message.Dial(peer=info))
    assert 6001 in _asked(question.SerializeToString(), peer(1))
