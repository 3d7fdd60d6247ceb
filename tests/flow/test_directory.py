"""Directories of nodes in one process, on real hosts: who sees what, how soon, and what hostile announcers come to.

The deadlines are those of a machine under load; what an idle one takes is in docs/performance.md.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from tests.fakes.directories import Member, open_member
from tests.fakes.hosts import full_address, until

SOON_S = 20.0


@asynccontextmanager
async def network(count: int) -> AsyncIterator[list[Member]]:
    """Nodes that have all joined through the first one, and through the one before them."""
    async with AsyncExitStack() as stack:
        members: list[Member] = []
        for number in range(count):
            member = await stack.enter_async_context(open_member())
            for other in {0, number - 1} if number else ():
                await member.host.connect(full_address(members[other].host))
            members.append(member)
        await until(lambda: all(len(one.directory.members()) == count for one in members), seconds=SOON_S)
        await until(lambda: all(len(one.directory.catalog.nodes()) == count for one in members), seconds=SOON_S)
        yield members


async def within(condition: Callable[[], bool], what: str) -> float:
    began = time.perf_counter()
    await until(condition, seconds=SOON_S)
    took = time.perf_counter() - began
    print(f"{what}: {took:.3f} s")
    return took


def all_see(members: Sequence[Member], model: str, nodes: Sequence[Member]) -> bool:
    expected = sorted(one.host.id for one in nodes)
    return all(sorted(member.sees(model)) == expected for member in members)


async def test_offers_come_and_go_on_ten_nodes() -> None:
    async with network(10) as members:
        await trio.sleep(0.6)
        await members[3].register("M")
        await within(lambda: all_see(members, "M", [members[3]]), "a new offer is seen by all")
        await members[7].register("M")
        await within(lambda: all_see(members, "M", [members[3], members[7]]), "another one")
        async with open_member() as joining:
            began = time.perf_counter()
            await joining.host.connect(full_address(members[9].host))
            await until(lambda: all_see([joining], "M", [members[3], members[7]]), seconds=SOON_S)
            print(f"a node that joins knows the offers: {time.perf_counter() - began:.3f} s")
            await until(lambda: len(joining.directory.catalog.nodes()) == 11, seconds=SOON_S)
            print(f"and all nodes: {time.perf_counter() - began:.3f} s")
            await within(lambda: all(len(one.directory.catalog.nodes()) == 11 for one in members), "and is known")
        await within(lambda: all(len(one.directory.catalog.nodes()) == 10 for one in members), "it has left again")
        await members[3].registration.unregister("P")
        await within(lambda: all_see(members, "M", [members[7]]), "an offer that is withdrawn")
