"""Directories of nodes in one process, on real hosts: who sees what, how soon, and what hostile announcers come to.

The deadlines are those of a machine under load; what an idle one takes is in docs/performance.md.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
import trio
import trio.testing

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind
from aicn.domain.nodes import Connectivity
from aicn.domain.offers import Lost, NodeType, Offer, OfferedModel, OfferedProject, OffersAsked, OffersPage
from aicn.errors import ProtocolViolation, Unsupported
from aicn.p2p.identity import generate_key, parse_key
from aicn.wire import control
from aicn.wire import offers as wire
from tests.fakes.directories import Member, killable, open_member
from tests.fakes.hosts import CONFIG, full_address, open_test_host, until
from tests.fakes.stores import MemoryOffers

SOON_S = 20.0
TOPIC = wire.topic(CONFIG.topic)
MODEL = OfferedModel("M", Kind.CHAT)
OFFERED = OfferedProject("P", (MODEL,))


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


async def test_a_killed_node_is_found_out() -> None:
    async with network(9) as members, killable() as worker:
        await worker.member.register("M")
        for other in (0, 4, 8):  # the others have never been connected to it
            await worker.member.host.connect(full_address(members[other].host))
        await until(lambda: all_see(members, "M", [worker.member]), seconds=SOON_S)
        await worker.kill()
        await within(lambda: all_see(members, "M", []), "a killed worker's offers are gone")


async def test_a_pair_finds_out_as_well_and_believes_hearsay_again() -> None:
    """The one that is left has no connection at all: it may be the one that is lost."""
    async with open_member() as alone, killable() as worker:
        await worker.member.register("M")
        await alone.host.connect(full_address(worker.member.host))
        await until(lambda: all_see([alone], "M", [worker.member]), seconds=SOON_S)
        signed = alone.directory.catalog.signed(worker.member.host.id)
        await worker.kill()
        await until(lambda: all_see([alone], "M", []), seconds=SOON_S)
        alone.directory.hear(signed, None)
        assert alone.sees("M") == [worker.member.host.id]


async def test_who_lies_about_a_loss_changes_nothing() -> None:
    async with network(3) as members, open_member() as apart:
        await members[0].register("M")
        await apart.host.connect(full_address(members[2].host))
        await until(lambda: all_see([*members, apart], "M", [members[0]]), seconds=SOON_S)
        offer = apart.directory.catalog.offer(members[0].host.id)
        assert offer is not None
        for node in (members[0].host.id, apart.host.id, members[1].host.id):
            lie = wire.encode_lost(Lost(node, offer.seq + 1))
            await members[1].host.topics.publish(TOPIC, lie)
        await until(lambda: members[0].host.id in {one.peer for one in apart.host.connections()}, seconds=SOON_S)
        await until(lambda: members[0].host.id not in apart.directory.enquiries, seconds=SOON_S)
        assert all_see([*members, apart], "M", [members[0]])


async def test_a_node_that_restarts_goes_on_counting_and_remembers_what_is_not_over() -> None:
    key, store = parse_key(generate_key()), MemoryOffers()
    async with open_member() as other:
        await other.register("M")
        async with open_member(key=key, store=store) as one:
            await one.register("N")
            await one.host.connect(full_address(other.host))
            await until(lambda: all_see([one], "M", [other]) and all_see([other], "N", [one]), seconds=SOON_S)
            first = one.directory.catalog.own_seq
        assert set(store.signed) == {one.host.id, other.host.id}
        await until(lambda: other.sees("N") == [], seconds=SOON_S)
        before = time.time
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aicn.services.announcer.time.time", lambda: before() - 3600)  # its clock has gone back
            async with open_member(key=key, store=store) as again:
                assert again.sees("M") == [other.host.id]  # without a connection
                await until(lambda: again.directory.catalog.own_seq > first, seconds=SOON_S)


async def test_a_node_that_lost_its_memory_is_told_by_others_where_it_was() -> None:
    key = parse_key(generate_key())
    async with open_member() as other:
        async with killable(key=key) as one:
            await one.member.register("N")
            one.member.directory.catalog.own_seq = int(time.time() * 1000) + 50_000_000  # its clock was ahead, once
            one.member.directory.announcer.changed()
            await one.member.host.connect(full_address(other.host))
            await until(lambda: all_see([other], "N", [one.member]), seconds=SOON_S)
            other.directory.catalog.lose = lambda *_, **__: False  # type: ignore[method-assign]
            await one.kill()
        async with open_member(key=key) as again:
            await again.register("O")
            await again.host.connect(full_address(other.host))
            await until(lambda: all_see([other], "O", [again]), seconds=SOON_S)


async def test_a_node_without_a_directory_is_seen_and_hands_on() -> None:
    async with open_member() as left, open_member(enabled=False) as between, open_member() as right:
        await left.host.connect(full_address(between.host))
        await right.host.connect(full_address(between.host))
        await until(lambda: len(between.host.topics.subscribers(TOPIC)) == 2, seconds=SOON_S)
        await between.register("B")
        await left.register("L")
        await until(lambda: right.sees("L") == [left.host.id] and right.sees("B") == [between.host.id], seconds=SOON_S)
        assert between.directory.catalog.nodes() == [between.host.id]
        for ask in (between.directory.projects, lambda: between.directory.models("P")):
            with pytest.raises(Unsupported):
                ask()
        with pytest.raises(Unsupported):
            await between.directory.nearest("P", None, 1)


async def test_whoever_is_far_is_measured_while_one_waits() -> None:
    async with network(2) as members, open_member() as apart:
        await members[0].register("M")
        await apart.host.connect(full_address(members[1].host))
        await until(lambda: apart.sees("M") == [members[0].host.id], seconds=SOON_S)
        [found] = await apart.directory.nearest("P", "M", 20)
        assert found.link.connectivity is Connectivity.CONNECTED
        assert 0 < found.link.rtt < 1


# ---- hostile announcers ----


async def test_what_no_announcement_may_be_is_not_handed_on() -> None:
    async with network(3) as members, AsyncExitStack() as stack:
        hostile = await stack.enter_async_context(open_test_host(dht_mode="none"))
        await hostile.connect(full_address(members[0].host))
        hostile.topics.join(TOPIC)
        await until(lambda: hostile.topics.subscribers(TOPIC) == [members[0].host.id], seconds=SOON_S)
        heard = stack.enter_context(members[1].host.topics.subscribe(TOPIC))
        now = time.time()
        good = Offer(PeerId(hostile.id), 9, now, now + 60, NodeType.MODEL, (OFFERED,))
        bad = [
            replace(good, issued=now + 3600, expires=now + 3660),
            replace(good, expires=now + 86_400),
            replace(good, issued=now - 3600, expires=now - 3540),
            replace(good, projects=(OfferedProject("P" * 129, ()),)),
            replace(good, projects=(OFFERED, OFFERED)),
            replace(good, projects=(OfferedProject("P", tuple(replace(MODEL, name=f"M{n}") for n in range(2000))),)),
            replace(good, protocols=("x" * 1000,) * 1000),
        ]
        for offer in bad:
            await hostile.topics.publish(TOPIC, wire.encode_offer(offer))
        for junk in (b"", b"junk", bytes(900_000), wire.encode_lost(Lost(PeerId("nobody"), 1))):
            await hostile.topics.publish(TOPIC, junk)
        await hostile.topics.publish(TOPIC, wire.encode_offer(good))
        await until(lambda: all(hostile.id in one.sees("M") for one in members), seconds=SOON_S)
        with trio.fail_after(SOON_S):
            assert (await heard.receive()).data == wire.encode_offer(good)


async def test_a_flood_is_cut_and_does_not_reach_others() -> None:
    async with network(2) as members, AsyncExitStack() as stack:
        hostile = await stack.enter_async_context(open_test_host(dht_mode="none"))
        await hostile.connect(full_address(members[0].host))
        hostile.topics.join(TOPIC)
        await until(lambda: hostile.topics.subscribers(TOPIC) == [members[0].host.id], seconds=SOON_S)
        accepted: list[bool] = []
        accept = members[1].directory.accept
        members[1].host.topics._accept[TOPIC] = lambda message: accepted.append(accept(message)) or accepted[-1]
        now = time.time()
        for seq in range(1, 1001):
            offer = Offer(PeerId(hostile.id), seq, now, now + 60, NodeType.MODEL, (OFFERED,))
            await hostile.topics.publish(TOPIC, wire.encode_offer(offer))
        await until(lambda: hostile.id in members[1].sees("M"), seconds=SOON_S)
        await members[0].register("M")
        await until(lambda: members[0].host.id in members[1].sees("M"), seconds=SOON_S)
        assert len(accepted) < 100


async def test_what_others_repeat_is_worth_its_signature() -> None:
    async with open_member() as member, open_test_host() as stranger:
        stranger.topics.join(TOPIC)
        stranger.topics.join("another topic")
        now = time.time()
        offer = wire.encode_offer(Offer(PeerId(stranger.id), 1, now, now + 60, NodeType.MODEL, (OFFERED,)))
        signed = await stranger.topics.publish(TOPIC, offer)
        elsewhere = await stranger.topics.publish("another topic", offer)
        lost = await stranger.topics.publish(TOPIC, wire.encode_lost(Lost(PeerId(member.host.id), 1)))
        for false in (signed.replace(b"M", b"N"), signed[:-1], elsewhere, lost, b""):
            with pytest.raises(ProtocolViolation):
                member.directory.hear(false, None)
        assert member.directory.hear(signed, None) == stranger.id
        assert member.sees("M") == [stranger.id]


async def test_a_list_of_offers_that_never_ends_is_left() -> None:
    async def tell(asked: OffersAsked) -> OffersPage:
        questions.append(asked)
        return OffersPage((), "" if asked.only else "a")

    questions: list[OffersAsked] = []
    async with open_member() as member, open_member() as hostile:
        hostile.nodes.answer(control.OFFERS, tell)
        await member.host.connect(full_address(hostile.host))
        await until(lambda: len(questions) >= 3, seconds=SOON_S)
        await trio.testing.wait_all_tasks_blocked()
        assert questions == [OffersAsked(only=hostile.host.id), OffersAsked(), OffersAsked(after="a")]
