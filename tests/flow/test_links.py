"""How near peers are, and who comes and goes, between real hosts."""

from __future__ import annotations

import pytest
import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connectivity, Link
from aicn.p2p import links
from aicn.p2p.host import Host, open_host
from aicn.p2p.identity import generate_key, parse_key
from tests.fakes.hosts import CONFIG, ECHO, PEER_OF_NOBODY, Stranger, echo, full_address, open_test_host, until

NOBODY = PeerId(PEER_OF_NOBODY)
GONE = Link(Connectivity.CAN_CONNECT, 0.0)
NO_ANSWER = Link(Connectivity.CANNOT_CONNECT, 0.0)
NOTHING_KNOWN = Link(Connectivity.NOT_CONNECTED, 0.0)


class Log:
    """Who joined and who was lost, in order."""

    def __init__(self, host: Host) -> None:
        self.events: list[tuple[str, PeerId]] = []
        host.links.on_joined(lambda peer: self.events.append(("joined", peer)))
        host.links.on_lost(lambda peer: self.events.append(("lost", peer)))


async def test_a_connected_peer_is_measured_at_once() -> None:
    async with open_test_host() as a, open_test_host() as b:
        await a.connect(full_address(b))
        link = await a.links.measure(b.id)
        assert link.connectivity is Connectivity.CONNECTED
        assert 0 < link.rtt < 5
        assert not link.relayed
        assert a.links.link(b.id).connectivity is Connectivity.CONNECTED


async def test_a_peer_that_is_gone_could_be_reached_until_an_attempt_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_test_host() as a:
        async with open_test_host() as b:
            await a.connect(full_address(b))
        await until(lambda: not a.connections())
        assert a.links.link(b.id) == GONE
        assert await a.links.measure(b.id) == NO_ANSWER
        assert a.links.link(b.id) == NO_ANSWER
        monkeypatch.setattr(links, "RECENT_S", 0.0)
        assert a.links.link(b.id) == NOTHING_KNOWN


async def test_a_peer_that_nobody_knows() -> None:
    async with open_test_host() as a:
        assert a.links.link(NOBODY) == NOTHING_KNOWN
        assert a.links.protocols_of(NOBODY) == frozenset()
        assert a.links.agent_of(NOBODY) == ""
        assert not a.links.is_identified(NOBODY)
        assert await a.links.measure(NOBODY) == NO_ANSWER


async def test_this_node_is_near() -> None:
    async with open_test_host() as a:
        assert await a.links.measure(a.id) == a.links.link(a.id) == Link(Connectivity.CONNECTED, 0.0)


async def test_a_peer_that_answers_no_ping_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_PONG_S", 0.2)
    async with open_test_host() as a, trio.open_nursery() as nursery:
        stranger = await Stranger.connect(a, nursery)
        await until(lambda: a.connections())
        peer = a.connections()[0].peer
        assert (await a.links.measure(peer)).connectivity is Connectivity.CONNECTED
        stranger.muxer.session.data_to_send = lambda: b""  # type: ignore[method-assign]
        assert await a.links.measure(peer) == NO_ANSWER
        nursery.cancel_scope.cancel()


async def test_a_peer_behind_a_relay() -> None:
    async with (
        open_test_host(relay_service=True) as relay,
        open_test_host(relays=(full_address(relay),), relay_client="on", hole_punching=False) as behind,
        open_test_host() as a,
    ):
        await until(lambda: any("p2p-circuit" in one for one in behind.addresses()))
        circuit = next(one for one in behind.addresses() if "p2p-circuit" in one)
        await a.connect(f"{circuit}/p2p/{behind.id}")
        assert a.links.link(behind.id).relayed
        link = await a.links.measure(behind.id)
        assert (link.connectivity, link.relayed) == (Connectivity.CONNECTED, True)
        assert link.rtt > 0


async def test_who_comes_and_goes_is_told() -> None:
    key = parse_key(generate_key())
    async with open_test_host() as a:
        log = Log(a)
        for _ in range(2):
            async with open_host(CONFIG, key, agent_version="aicn/test") as b:
                b.serve(ECHO, echo)
                log.events.clear()
                await a.connect(full_address(b))
                await until(lambda: ("joined", b.id) in log.events)
                assert ECHO in a.links.protocols_of(b.id)
                assert a.links.is_identified(b.id)
                assert a.links.agent_of(b.id) == "aicn/test"
            await until(lambda: log.events[-1] == ("lost", b.id))
            assert not a.links.is_identified(b.id)
            assert log.events.count(("lost", b.id)) == 1


async def test_who_serves_something_new_is_told() -> None:
    async with open_test_host() as a, open_test_host() as b:
        log = Log(a)
        await a.connect(full_address(b))
        await until(lambda: ("joined", b.id) in log.events)
        log.events.clear()
        b.serve(ECHO, echo)
        await until(lambda: ("joined", b.id) in log.events)
        assert ECHO in a.links.protocols_of(b.id)


async def test_what_is_remembered_of_peers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_MOST_REMEMBERED", 1)
    async with open_test_host() as a:
        async with open_test_host() as b, open_test_host() as c:
            await a.connect(full_address(b))
            await a.connect(full_address(c))
        await until(lambda: not a.connections())
        await until(
            lambda: sorted([a.links.link(b.id), a.links.link(c.id)], key=str) == sorted([GONE, NOTHING_KNOWN], key=str)
        )
