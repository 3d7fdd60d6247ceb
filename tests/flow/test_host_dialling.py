"""Real hosts that dial: both at once, twice, somebody who has gone, a name."""

from __future__ import annotations

import socket

import pytest
import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.domain.ids import PeerId
from aicn.errors import Unreachable
from aicn.p2p.host import Host
from tests.fakes.hosts import ECHO, PEER_OF_NOBODY, echo, exchange, full_address, open_test_host, port_of, until


def know(host: Host, peer: Host) -> None:
    host._book.add_addrs(ID.from_base58(peer.id), [Multiaddr(peer.addresses()[0])])


async def test_two_that_dial_each_other_at_once_end_up_connected() -> None:
    for _ in range(20):
        async with open_test_host() as a, open_test_host() as b:
            for host in (a, b):
                host.serve(ECHO, echo)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a.connect, full_address(b))
                nursery.start_soon(b.connect, full_address(a))
            for _ in range(3):
                assert await exchange(a, b) == b"hello"
                assert await exchange(b, a) == b"hello"
            await until(lambda: len(a.connections()) == len(b.connections()))
            assert 1 <= len(a.connections()) <= 2
            await a.connect(full_address(b))
            assert len(a.connections()) <= 2  # no third one


async def test_one_of_two_connections_may_end() -> None:
    async with open_test_host() as a, open_test_host() as b:
        a.serve(ECHO, echo)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.connect, full_address(b))
            nursery.start_soon(b.connect, full_address(a))
        for _ in range(2):
            if connections := a._swarm.open_connections():
                await connections[0].close()
            assert await exchange(b, a) == b"hello"


async def test_a_hundred_who_ask_share_one_connection() -> None:
    async with open_test_host() as a, open_test_host() as b:
        b.serve(ECHO, echo)
        know(a, b)
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(exchange, a, b)
        assert await exchange(a, b) == b"hello"
        assert len(a.connections()) == 1
        assert a.connections()[0].number == 1


async def test_a_vanished_host_costs_its_silence_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicn.p2p.dialing._ADDRESS_S", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)  # the kernel accepts, nobody answers
        async with open_test_host() as a:
            a._book.add_addrs(ID.from_base58(PEER_OF_NOBODY), [Multiaddr(address_of(silent))])
            with pytest.raises(Unreachable, match="no answer"):
                await a.open_stream(PeerId(PEER_OF_NOBODY), ECHO)
            started = trio.current_time()
            with pytest.raises(Unreachable, match=r"could not be reached a moment ago, tried again in \d+ s"):
                await a.open_stream(PeerId(PEER_OF_NOBODY), ECHO)
            assert trio.current_time() - started < 0.9  # less than the silence itself
            with pytest.raises(Unreachable, match="no answer"):  # an operator's command is never put off
                await a.connect(f"{address_of(silent)}/p2p/{PEER_OF_NOBODY}")


async def test_a_peer_that_connects_to_us_is_dialled_again_at_once() -> None:
    async with open_test_host() as a, open_test_host() as b:
        a.serve(ECHO, echo)
        b.serve(ECHO, echo)
        peer = ID.from_base58(b.id)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            a._book.add_addrs(peer, [Multiaddr(address_of(unused))])
            with pytest.raises(Unreachable, match="refused"):
                await a.open_stream(b.id, ECHO)
            dead = Multiaddr(address_of(unused))
            assert a._swarm._dialer.backoff.pause(peer, dead) is not None
        await b.connect(full_address(a))
        assert await exchange(a, b) == b"hello"
        assert a._swarm._dialer.backoff.pause(peer, dead) is None


@pytest.mark.parametrize("family", ["dns", "dns4"])
async def test_a_name_is_dialled(family: str) -> None:
    async with open_test_host() as a, open_test_host() as b:
        await a.connect(f"/{family}/localhost/tcp/{port_of(b)}/p2p/{b.id}")
        assert [one.peer for one in a.connections()] == [b.id]


async def test_a_name_that_does_not_exist_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _refuse)
    async with open_test_host() as a:
        with pytest.raises(Unreachable, match=r"the name node\.invalid is not known"):
            await a.connect(f"/dns4/node.invalid/tcp/1/p2p/{PEER_OF_NOBODY}")


def _refuse(*_: object, **__: object) -> object:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def address_of(sock: socket.socket) -> str:
    return f"/ip4/127.0.0.1/tcp/{sock.getsockname()[1]}"
