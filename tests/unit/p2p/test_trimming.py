"""Which connections are closed when there are many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import trio
from libp2p.peer.id import ID
from trio.testing import MockClock

from aicn.p2p.trimming import GRACE_S, Trimmer


@dataclass
class Fake:
    """What a trimmer sees of a connection."""

    number: int
    peer: ID
    in_use: bool = False
    dialled: bool = False
    opened_at: float = field(default_factory=trio.current_time)

    async def close(self) -> None:
        OPEN.remove(self)


OPEN: list[Fake] = []


def peer(number: int) -> ID:
    return ID(bytes((0, 1, number)))


def trimmer(connections: list[Fake], *, most: int = 10, values: dict[ID, int] | None = None) -> Trimmer:
    return Trimmer(lambda: cast(Any, connections), lambda one: (values or {}).get(one, 0), most=most)


def numbers(trimmer: Trimmer) -> list[int]:
    return [one.number for one in trimmer.surplus()]


async def test_nothing_is_closed_up_to_the_high_mark(autojump_clock: MockClock) -> None:
    connections = [Fake(number, peer(number)) for number in range(7)]
    await trio.sleep(GRACE_S)
    one = trimmer(connections)
    assert numbers(one) == []
    connections.append(Fake(7, peer(7)))
    assert numbers(one) == [6, 5]  # down to six; the eighth is new


async def test_new_ones_have_a_grace(autojump_clock: MockClock) -> None:
    one = trimmer([Fake(number, peer(number)) for number in range(10)])
    await trio.sleep(GRACE_S - 0.1)
    assert numbers(one) == []
    await trio.sleep(0.1)
    assert numbers(one) == [9, 8, 7, 6]


async def test_what_is_of_use_stays(autojump_clock: MockClock) -> None:
    connections = [Fake(number, peer(number)) for number in range(10)]
    connections[9].in_use = True
    connections[7].dialled = True
    one = trimmer(connections, values={peer(6): 3, peer(5): 1})
    one.protect(peer(8), "bootstrap")
    await trio.sleep(GRACE_S)
    assert numbers(one) == [4, 3, 2, 1]
    del connections[:5]
    connections += [Fake(number, peer(number), opened_at=trio.current_time() - GRACE_S) for number in range(20, 23)]
    assert numbers(one) == [22, 21]


async def test_second_connections_go_first(autojump_clock: MockClock) -> None:
    connections = [Fake(number, peer(number % 6)) for number in range(8)]
    await trio.sleep(GRACE_S)
    assert set(numbers(trimmer(connections, values={peer(0): 9, peer(1): 9}))) == {0, 1}


async def test_each_reason_to_protect_has_its_own_end(autojump_clock: MockClock) -> None:
    one = trimmer([Fake(number, peer(0)) for number in range(10)])
    await trio.sleep(GRACE_S)
    one.protect(peer(0), "bootstrap")
    one.protect(peer(0), "relay")
    one.unprotect(peer(0), "relay")
    one.unprotect(peer(0), "relay")
    one.unprotect(peer(1), "relay")
    assert one.is_protected(peer(0))
    assert numbers(one) == []
    one.unprotect(peer(0), "bootstrap")
    assert not one.is_protected(peer(0))
    assert len(numbers(one)) == 4


async def test_it_closes_them(autojump_clock: MockClock) -> None:
    OPEN[:] = [Fake(number, peer(number)) for number in range(8)]
    with trio.move_on_after(GRACE_S + 10):
        await trimmer(OPEN).run()
    assert [one.number for one in OPEN] == [0, 1, 2, 3, 4, 5]
