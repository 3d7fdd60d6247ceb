"""The test network is what it claims to be, without any node of ours on it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.nat.namespaces import Namespace
from tests.nat.topology import PUBLIC, open_internet

pytestmark = [pytest.mark.nat, pytest.mark.timeout(60), pytest.mark.usefixtures("namespaces")]
PORT = 6001
REFUSED_S = 1.5  # without an answer in this time there is none: a SYN is sent again after 1 s


@asynccontextmanager
async def listening(where: Namespace) -> AsyncIterator[None]:
    """A server that tells each client its address as "ip port"."""
    sock = where.tcp_socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)
    sock.bind(("0.0.0.0", PORT))
    sock.listen()

    async def tell(stream: trio.SocketStream) -> None:
        host, port = stream.socket.getpeername()
        async with stream:
            await stream.send_all(f"{host} {port}".encode())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, tell, [trio.SocketListener(trio.socket.from_stdlib_socket(sock))])
        yield
        nursery.cancel_scope.cancel()


async def seen(client: Namespace, server: str, *, port: int = 0, within: float = REFUSED_S) -> tuple[str, int] | None:
    """As whom `server` sees a connection from `client`, whose own port is `port`; None: it does not get there."""
    with trio.move_on_after(within), trio.socket.from_stdlib_socket(client.tcp_socket()) as sock:
        await sock.bind(("0.0.0.0", port))
        await sock.connect((server, PORT))
        host, _, text = (await trio.SocketStream(sock).receive_some(100)).decode().partition(" ")
        return host, int(text)
    return None


async def test_nodes_reach_the_public_but_nobody_reaches_them() -> None:
    with open_internet() as net:
        async with listening(net.public), listening(net.b.node):
            for home in (net.a, net.b):
                own = PORT if home is net.a else PORT + 1  # the listener of b's node has the other
                assert await seen(home.node, PUBLIC, port=own) == (home.router_ip, own)
            async with trio.open_nursery() as nursery:
                for stranger in (net.a.node, net.public):
                    for target in (net.b.router_ip, net.b.node_ip):
                        nursery.start_soon(_expect_nobody, stranger, target)


async def _expect_nobody(stranger: Namespace, target: str) -> None:
    try:
        assert await seen(stranger, target) is None
    except OSError:  # the public segment has no route to a private address
        return


async def test_a_symmetric_router_hides_the_port() -> None:
    with open_internet(symmetric=True) as net:
        async with listening(net.public):
            answers = [await seen(net.a.node, PUBLIC, port=PORT + i) for i in range(8)]
            assert {answer[0] for answer in answers if answer} == {net.a.router_ip}
            assert [answer[1] for answer in answers if answer] != [PORT + i for i in range(8)]


@pytest.mark.parametrize("symmetric", [False, True])
async def test_both_may_meet_in_the_middle(symmetric: bool) -> None:
    """Connecting from both sides at once passes both routers, unless they hide the port: hole punching lives of it."""
    with open_internet(symmetric=symmetric) as net:
        a, b = (trio.socket.from_stdlib_socket(home.node.tcp_socket()) for home in (net.a, net.b))
        with a, b, trio.move_on_after(REFUSED_S if symmetric else 10) as deadline:
            for sock in (a, b):
                await sock.bind(("0.0.0.0", PORT))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a.connect, (net.b.router_ip, PORT))
                nursery.start_soon(b.connect, (net.a.router_ip, PORT))
            await a.send(b"hello")
            assert await b.recv(5) == b"hello"
        assert deadline.cancelled_caught == symmetric


async def test_a_cut_line_is_silent() -> None:
    with open_internet() as net:
        async with listening(net.public):
            net.cut(net.a)
            assert await seen(net.a.node, PUBLIC) is None
            net.mend(net.a)
            assert await seen(net.a.node, PUBLIC, within=10) is not None
