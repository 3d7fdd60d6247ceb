"""Dialling without a network: scripted addresses, mock clock."""

from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from trio.testing import MockClock

from aicn.errors import AicnError, DeadlineExceeded, UnknownNode, Unreachable
from aicn.p2p.backoff import Backoff
from aicn.p2p.dialing import STAGGER_S, Dialer

PEER = ID(b"\x00\x01a")


class Net:
    """Addresses by number, and what dialling each does: seconds until it answers; negative: until it refuses."""

    def __init__(self, **script: float) -> None:
        self.script = {address(int(name[1:])): seconds for name, seconds in script.items()}
        self.known = list(self.script)
        self.attempts: list[tuple[float, Multiaddr]] = []
        self.lookups = 0
        self.dialer = Dialer(self.attempt, lambda _: self.known, self.find, deadline_s=15)
        self.found: list[Multiaddr] = []

    async def attempt(self, _: ID, to: Multiaddr) -> Any:
        self.attempts.append((trio.current_time(), to))
        seconds = self.script[to]
        await trio.sleep(abs(seconds))
        if seconds < 0:
            raise Unreachable("refused")
        return SimpleNamespace(to=to)

    async def find(self, _: ID) -> None:
        self.lookups += 1
        await trio.sleep(1)
        self.known = [*self.known, *self.found]


def address(number: int) -> Multiaddr:
    return Multiaddr(f"/ip4/192.0.2.{number}/tcp/1")


async def dial(net: Net, *, lookup: bool = False) -> Any:
    async with trio.open_nursery() as nursery:
        return await net.dialer.dial(PEER, nursery, lookup=lookup)


async def failed(wait: Callable[[], Awaitable[object]]) -> AicnError:
    with pytest.RaisesGroup(AicnError) as caught:
        await wait()
    (error,) = caught.value.exceptions
    assert isinstance(error, AicnError)
    return error


async def test_a_dial_that_works_costs_no_delay(autojump_clock: MockClock) -> None:
    net = Net(a1=0.01)
    started = trio.current_time()
    assert (await dial(net)).to == address(1)
    assert trio.current_time() - started == pytest.approx(0.01)


async def test_the_next_address_follows_a_refusal_at_once_and_silence_after_the_stagger(
    autojump_clock: MockClock,
) -> None:
    net = Net(a1=-0.01, a2=100, a3=0.01)
    started = trio.current_time()
    assert (await dial(net)).to == address(3)
    assert [at - started for at, _ in net.attempts] == pytest.approx([0, 0.01, 0.01 + STAGGER_S])
    assert trio.current_time() - started == pytest.approx(0.02 + STAGGER_S)


async def test_all_addresses_are_tried_and_told(autojump_clock: MockClock) -> None:
    net = Net(a1=-0.01, a2=-0.02, a3=-0.03)
    error = await failed(lambda: dial(net))
    assert type(error) is Unreachable
    assert "192.0.2.3" in error.message
    assert len(net.attempts) == 3


async def test_no_address(autojump_clock: MockClock) -> None:
    assert type(await failed(lambda: dial(Net()))) is UnknownNode


async def test_the_deadline(autojump_clock: MockClock) -> None:
    net = Net(**{f"a{number}": 1000 for number in range(1, 13)})
    started = trio.current_time()
    error = await failed(lambda: dial(net))
    assert isinstance(error, DeadlineExceeded | Unreachable)
    assert trio.current_time() - started <= 15


async def test_one_dial_for_all_who_ask_and_cancelling_one_leaves_the_others(autojump_clock: MockClock) -> None:
    net = Net(a1=1)
    got = []

    async def ask() -> None:
        got.append(await net.dialer.dial(PEER, nursery, lookup=False))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            await net.dialer.dial(PEER, nursery, lookup=False)
        for _ in range(10):
            nursery.start_soon(ask)
    assert len(got) == 10
    assert len({id(one) for one in got}) == 1
    assert len(net.attempts) == 1


async def test_an_address_heard_of_meanwhile_is_tried(autojump_clock: MockClock) -> None:
    net = Net(a1=-1, a2=0.01)
    net.known = [address(1)]

    async def connect_elsewhere() -> None:
        await trio.sleep(0.5)
        net.known.append(address(2))
        assert (await net.dialer.dial(PEER, nursery, lookup=False)).to == address(2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect_elsewhere)
        with pytest.raises(Unreachable):
            await net.dialer.dial(PEER, nursery, lookup=False)


async def test_the_lookup_comes_after_the_known_addresses(autojump_clock: MockClock) -> None:
    net = Net(a1=-0.1, a2=0.1)
    net.known, net.found = [address(1)], [address(2)]
    assert (await dial(net, lookup=True)).to == address(2)
    assert [to for _, to in net.attempts] == [address(1), address(2)]
    assert net.lookups == 1


async def test_who_may_look_up_is_not_put_off_by_a_dial_that_may_not(autojump_clock: MockClock) -> None:
    net = Net(a1=-1, a2=0.1)
    net.known, net.found = [address(1)], [address(2)]

    async with trio.open_nursery() as nursery:

        async def without() -> None:
            with pytest.raises(Unreachable):
                await net.dialer.dial(PEER, nursery, lookup=False)

        nursery.start_soon(without)
        await trio.sleep(0.1)
        assert (await net.dialer.dial(PEER, nursery, lookup=True)).to == address(2)


async def test_the_node_stops_meanwhile(autojump_clock: MockClock) -> None:
    net = Net(a1=100)
    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(Unreachable, match="shutting down"):
                await net.dialer.dial(PEER, nursery, lookup=False)

        outer.start_soon(ask)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def test_what_kept_us_waiting_is_not_waited_for_again(autojump_clock: MockClock) -> None:
    net = Net(a1=1000)
    await failed(lambda: dial(net, lookup=True))
    started = trio.current_time()
    error = await failed(lambda: dial(net, lookup=True))
    assert trio.current_time() == started
    assert type(error) is Unreachable
    assert "tried again in" in error.message
    assert "192.0.2.1/tcp/1: no answer" in error.message
    assert error.retry_after is not None
    assert (len(net.attempts), net.lookups) == (1, 1)
    await trio.sleep(error.retry_after)
    net.script[address(1)] = 0.01
    await dial(net)


async def test_an_operator_is_never_put_off(autojump_clock: MockClock) -> None:
    net = Net(a1=-0.01)
    await failed(lambda: dial(net))
    net.script[address(1)] = 0.01
    async with trio.open_nursery() as nursery:
        await net.dialer.dial(PEER, nursery, lookup=False, force=True)
    assert len(net.attempts) == 2


async def test_the_pause_grows_to_its_limit_and_is_forgotten_when_the_peer_is_reached(
    autojump_clock: MockClock,
) -> None:
    net = Net(a1=-0.01)
    pauses = []
    for _ in range(8):
        await failed(lambda: dial(net))
        pause = net.dialer.backoff.pause(PEER, address(1))
        assert pause is not None
        pauses.append(pause.until - trio.current_time())
        await trio.sleep(pauses[-1])
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30])
    net.script[address(1)] = 0.01
    await dial(net)
    net.script[address(1)] = -0.01
    await failed(lambda: dial(net))
    pause = net.dialer.backoff.pause(PEER, address(1))
    assert pause is not None
    assert pause.failures == 1


async def test_a_paused_address_is_left_out_and_others_are_tried(autojump_clock: MockClock) -> None:
    net = Net(a1=-0.01, a2=0.01)
    net.known = [address(1)]
    await failed(lambda: dial(net))
    net.known.append(address(2))
    started = trio.current_time()
    assert (await dial(net)).to == address(2)
    assert trio.current_time() - started == pytest.approx(0.01)


async def test_who_lost_the_race_is_no_failure(autojump_clock: MockClock) -> None:
    net = Net(a1=100, a2=0.01)
    told = []
    net.dialer.tell = lambda *outcome: told.append(outcome)
    await dial(net)
    assert net.dialer.backoff.pause(PEER, address(1)) is None
    assert told == [(PEER, address(2), True)]


async def test_attempts_at_once_are_bounded_and_waiting_for_a_turn_is_no_failure(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aicn.p2p.dialing._MOST_ATTEMPTS", 3)
    net = Net(a1=1)
    at_work = most = 0

    async def attempt(_: ID, __: Multiaddr) -> Any:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await trio.sleep(1)
        at_work -= 1
        return SimpleNamespace()

    net.dialer._attempt = attempt
    async with trio.open_nursery() as nursery, trio.open_nursery() as asking:
        for number in range(12):
            asking.start_soon(partial(net.dialer.dial, ID(bytes((0, 1, number))), nursery, lookup=False))
    assert most == 3


async def test_all_addresses_of_a_name_are_tried(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    name = Multiaddr("/dns4/node.example/tcp/1")
    net = Net(a1=100, a2=-0.01, a3=0.01)
    net.known = [name]

    async def resolve(asked: Multiaddr) -> list[Multiaddr]:
        assert asked == name
        return list(net.script)

    monkeypatch.setattr("aicn.p2p.names.resolve", resolve)
    assert (await dial(net)).to == address(3)
    net.script = {address(1): -0.01, address(2): -0.01}
    error = await failed(lambda: dial(net))
    assert "192.0.2.1/tcp/1: refused" in error.message
    assert net.dialer.backoff.pause(PEER, name) is not None


def test_the_memory_of_failures_is_bounded() -> None:
    async def fail_often() -> None:
        backoff = Backoff()
        for number in range(10_000):
            backoff.failed(ID(number.to_bytes(4, "big")), address(1), took_s=0)
        assert len(backoff._pauses) == 1024
        assert backoff.pause(ID((9_999).to_bytes(4, "big")), address(1)) is not None

    trio.run(fail_often)
