"""Dialling without a network: scripted addresses, mock clock."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from trio.testing import MockClock

from aicn.errors import AicnError, DeadlineExceeded, UnknownNode, Unreachable
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
