"""Places for inbound connections and handshakes."""

from __future__ import annotations

import ipaddress
from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock

from aicn.errors import Busy
from aicn.p2p.limits import Door, Handshakes, outbound_room


def ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


def test_places_in_all_are_given_back() -> None:
    door = Door(2, per_ip=10)
    for _ in range(5):
        with ExitStack() as stack:
            stack.enter_context(door.place(ip("192.0.2.1")))
            stack.enter_context(door.place(None))
            with pytest.raises(Busy, match="all places"), door.place(ip("192.0.2.2")):
                pass
    with pytest.raises(KeyError), door.place(ip("192.0.2.1")):
        raise KeyError
    assert door._free == 2
    assert not door._taken


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"),
    ],
)
def test_places_of_one_address(first: str, same: str, other: str) -> None:
    door = Door(100, per_ip=3)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(door.place(ip(first)))
        with pytest.raises(Busy, match="3 connections already"), door.place(ip(same)):
            pass
        with door.place(ip(other)):
            pass
    with door.place(ip(same)):
        pass
    assert not door._taken


@pytest.mark.parametrize("exempt", ["127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine_has_no_limit_of_its_own(exempt: str) -> None:
    door = Door(100, per_ip=1)
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(door.place(ip(exempt)))


@pytest.mark.parametrize(("connections", "room"), [(8, 1), (1000, 125), (100_000, 12_500)])
def test_room_for_outbound(connections: int, room: int) -> None:
    assert outbound_room(connections) == room


async def test_the_oldest_handshake_makes_room(autojump_clock: MockClock) -> None:
    handshakes = Handshakes(3, deadline_s=10)
    ended: list[tuple[int, str]] = []

    async def hold(number: int) -> None:
        try:
            with handshakes.one():
                await trio.sleep_forever()
        except (Busy, trio.TooSlowError) as error:
            ended.append((number, type(error).__name__))

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(hold, number)
            await trio.sleep(1)
        assert ended == [(0, "Busy"), (1, "Busy")]
        assert len(handshakes) == 3
        with handshakes.one():
            await trio.sleep(0.1)  # an honest one
        assert ended == [(0, "Busy"), (1, "Busy"), (2, "Busy")]
    assert ended[3:] == [(3, "TooSlowError"), (4, "TooSlowError")]
    assert len(handshakes) == 0


async def test_a_handshake_that_ends_before_it_is_pushed_out_is_none(autojump_clock: MockClock) -> None:
    handshakes = Handshakes(1, deadline_s=10)
    with pytest.raises(KeyError), handshakes.one():
        raise KeyError
    with handshakes.one():
        pass
    assert len(handshakes) == 0
