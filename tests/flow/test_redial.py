"""Connections that break are made again; those that somebody has ended are not."""

from __future__ import annotations

import pytest
import trio

from aicn.p2p import redial
from aicn.p2p.host import Host, open_host
from aicn.p2p.identity import generate_key, parse_key
from tests.fakes.hosts import CONFIG, full_address, open_test_host, until
from tests.fakes.stores import MemoryAddresses


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redial, "_FIRST_PAUSE_S", 0.02)


async def break_off(host: Host) -> None:
    """As a cable that is pulled out: nothing is said."""
    for connection in host._swarm.open_connections():
        await connection.muxer.secured_conn.close()


async def meet(one: Host, other: Host) -> None:
    """`one` dials `other`; both know that the other one is in the topic."""
    await one.connect(full_address(other))
    for here, there in ((one, other), (other, one)):
        await until(lambda here=here, there=there: there.id in here.topics.subscribers(CONFIG.topic))


@pytest.mark.parametrize("dialled", [True, False])
async def test_a_connection_that_breaks_is_made_again_by_either_side(
    monkeypatch: pytest.MonkeyPatch, dialled: bool
) -> None:
    async with open_test_host() as a, open_test_host() as b:
        await meet(a, b)
        idle, active = (b, a) if dialled else (a, b)
        monkeypatch.setattr(idle._redial, "_wanted", lambda _: False)
        await break_off(active)
        await until(lambda: [(one.number > 1, one.direction) for one in active.connections()] == [(True, "Outbound")])


async def test_who_is_disconnected_by_hand_stays_so() -> None:
    async with open_test_host() as a, open_test_host() as b:
        await meet(a, b)
        await a.disconnect(full_address(b))
        await until(lambda: not b.connections())
        await trio.sleep(0.3)  # ten times the first pause
        assert not a.connections()
        assert not b.connections()


async def test_a_peer_whose_connections_never_last_is_left_alone() -> None:
    async with open_test_host() as a, open_test_host() as b:
        b._redial._wanted = lambda _: False
        for _ in range(redial._MOST_BRIEF):
            await meet(a, b)
            await break_off(b)
            await until(lambda: not b.connections())
            await until(lambda: b.connections())
        await until(lambda: b.id in a.topics.subscribers(CONFIG.topic))
        await break_off(b)
        await until(lambda: not a.connections())
        await trio.sleep(0.3)
        assert not a.connections()
        assert not a._redial._at_work


async def test_a_peer_without_an_address_where_it_came_from_is_not_sought() -> None:
    async with open_test_host() as a, open_test_host(listen=(), relay_client="off") as hidden:
        await hidden.connect(full_address(a))
        await until(lambda: hidden.id in a.topics.subscribers(CONFIG.topic))
        hidden._redial._wanted = lambda _: False
        await break_off(hidden)
        await until(lambda: not a.connections())
        assert not a._redial._at_work


async def test_who_came_to_us_is_found_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicn.p2p.history._HEAD_START_S", 0.01)
    monkeypatch.setattr("aicn.p2p.history.WRITE_S", 0.01)
    key, book = parse_key(generate_key()), MemoryAddresses()
    async with open_test_host() as b:
        async with open_host(CONFIG, key, agent_version="aicn/test", address_book=book) as a:
            await b.connect(full_address(a))
            await until(lambda: book.known)
            assert [(one.peer, one.address, one.successes) for one in book.known.values()] == [
                (b.id, b.addresses()[0], 0)
            ]
        await until(lambda: not b.connections())
        async with open_host(CONFIG, key, agent_version="aicn/test", address_book=book) as a:
            await until(lambda: [one.peer for one in a.connections()] == [b.id])
            await until(lambda: [one.successes for one in book.known.values()] == [1])
