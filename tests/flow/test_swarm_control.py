"""What an operator does to the connections of a host: disconnecting for good, addresses, the rendezvous."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connectivity, Link
from aicn.errors import InvalidRequest, NotConnected, Unreachable, Unsupported
from aicn.p2p import bootstrap
from aicn.p2p.host import Host
from tests.fakes.hosts import ECHO, PEER_OF_NOBODY, echo, exchange, full_address, open_test_host, until


@asynccontextmanager
async def pair(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Host, Host]]:
    """Two hosts, `b` among the bootstrap peers of `a`, which goes back to them at once."""
    monkeypatch.setattr(bootstrap, "_FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(bootstrap, "_LONGEST_DELAY_S", 0.02)
    async with open_test_host(dht_mode="server") as b:
        b.serve(ECHO, echo)
        async with open_test_host(bootstrap=(full_address(b),)) as a:
            await until(lambda: a.connections() and b.connections())
            yield a, b


async def stays_closed(host: Host) -> None:
    """No connection within the time of a dozen attempts of the bootstrap task."""
    with trio.move_on_after(0.3):
        while True:
            await trio.sleep(0.01)
            assert host.connections() == []


async def test_a_peer_stays_disconnected_until_it_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair(monkeypatch) as (a, b):
        await a.disconnect(full_address(b))
        assert a.connections() == []
        await until(lambda: not b.connections())
        await stays_closed(a)
        with pytest.raises(Unreachable, match=b.id):
            await a.open_stream(b.id, ECHO)
        assert await a.links.measure(b.id) == Link(Connectivity.CANNOT_CONNECT, 0.0)
        assert a.connections() == []
        await a.connect(full_address(b))
        assert await exchange(a, b) == b"hello"


async def test_a_disconnected_peer_may_come_back_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair(monkeypatch) as (a, b):
        await a.disconnect(full_address(b))
        await until(lambda: not b.connections())
        await b.connect(full_address(a))
        await until(lambda: a.connections())
        assert a.connections()[0].direction == "Inbound"
        assert await exchange(a, b) == b"hello"
        await b.disconnect(f"/p2p/{a.id}")  # the other one: from now on it is a that dials
        await until(lambda: a.connections() and a.connections()[0].direction == "Outbound")


async def test_all_connections_of_the_peer_are_closed() -> None:
    async with open_test_host() as a, open_test_host() as b, open_test_host() as c:
        await a.connect(full_address(c))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.connect, full_address(b))
            nursery.start_soon(b.connect, full_address(a))
        await until(lambda: len(b.connections()) == len([one for one in a.connections() if one.peer == b.id]) > 0)
        lost: list[PeerId] = []
        a.links.on_lost(lost.append)
        await a.disconnect(b.id)
        assert [one.peer for one in a.connections()] == [c.id]
        await until(lambda: lost)
        assert lost == [b.id]


@pytest.mark.parametrize("form", ["{address}/p2p/{id}", "/p2p/{id}", "{id}", "/ip4/10.9.8.7/udp/1/p2p/{id}"])
async def test_how_a_peer_may_be_named(form: str) -> None:
    async with open_test_host() as a, open_test_host() as b:
        await a.connect(full_address(b))
        await a.disconnect(form.format(address=b.addresses()[0], id=b.id))
        assert a.connections() == []


async def test_what_cannot_be_disconnected() -> None:
    async with open_test_host() as a, open_test_host() as b:
        for wrong in (
            "",
            "x",
            "/ip4/1.2.3.4/tcp/1",
            "/p2p/x",
            "/ip4/1.2.3.4/tcp/1/p2p/",
            f"/ip4/1.2.3.4/p2p/{b.id}/p2p-circuit",
        ):
            with pytest.raises(InvalidRequest, match=r"^node_addr: "):
                await a.disconnect(wrong)
        for nobody in (PEER_OF_NOBODY, full_address(b), a.id):
            with pytest.raises(NotConnected, match=r"^not connected$"):
                await a.disconnect(nobody)
        await a.connect(full_address(b))  # being refused was no order to keep away from it
        await a.disconnect(b.id)
        with pytest.raises(NotConnected):
            await a.disconnect(b.id)


async def test_measuring_connects_but_not_to_whom_we_were_told_to_leave() -> None:
    async with open_test_host() as a, open_test_host() as b:
        await b.connect(full_address(a))
        await until(lambda: b.id in [one.peer for one in a.connections()])
        await until(lambda: a.links.protocols_of(b.id))
        await b.disconnect(a.id)
        await until(lambda: not a.connections())
        assert a.links.link(b.id).connectivity is Connectivity.CAN_CONNECT
        assert (await a.links.measure(b.id)).connectivity is Connectivity.CONNECTED
        await a.disconnect(b.id)
        assert (await a.links.measure(b.id)).connectivity is Connectivity.CANNOT_CONNECT


async def test_known_addresses() -> None:
    async with open_test_host() as a, open_test_host() as b:
        assert await a.known_addresses() == [(a.id, sorted(a.addresses()))]
        await a.connect(full_address(b))
        expected = sorted([(a.id, sorted(a.addresses())), (b.id, sorted(b.addresses()))])
        assert await a.known_addresses() == expected
    async with open_test_host(listen=()) as deaf:
        assert await deaf.known_addresses() == [(deaf.id, [])]


async def test_the_rendezvous_knows_who_advertises_the_topic() -> None:
    async with (
        open_test_host(dht_mode="server") as server,
        open_test_host(bootstrap=(full_address(server),)) as a,
        open_test_host(bootstrap=(full_address(server),)) as b,
    ):
        everybody = sorted([server.id, a.id, b.id])
        with trio.fail_after(10):
            while await a.rendezvous() != everybody:
                await trio.sleep(0.1)


async def test_without_a_dht_there_is_no_rendezvous() -> None:
    async with open_test_host(dht_mode="none") as a:
        with pytest.raises(Unsupported, match="dht_mode"):
            await a.rendezvous()
