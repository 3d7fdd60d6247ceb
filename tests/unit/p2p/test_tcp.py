"""TCP from the port that we listen on."""

from __future__ import annotations

import socket
from typing import Self

import pytest
from libp2p.io.trio import TrioTCPStream
from multiaddr import Multiaddr

from aicn.errors import StartupError, Unreachable
from aicn.p2p import fixes, tcp
from aicn.p2p.addresses import from_socket, port_of
from aicn.p2p.listener import Listener, bind

ANY = Multiaddr("/ip4/127.0.0.1/tcp/0")


@pytest.fixture(autouse=True)
def corrected() -> None:
    fixes.apply()


class Sockets:
    def __init__(self) -> None:
        self.own: Listener = bind(ANY)
        self.other = socket.create_server(("127.0.0.1", 0))
        self.there = from_socket(self.other.getsockname())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.own._socket.close()
        self.other.close()


async def test_dials_come_from_the_listening_port() -> None:
    with Sockets() as sockets:
        (here,) = sockets.own.get_addrs()
        raw = await tcp.dial(sockets.there, [here])
        assert raw.local == here
        with pytest.raises(StartupError, match="in use"):  # sharing is with ourselves, not with a second node
            bind(here)
        assert isinstance(raw.stream, TrioTCPStream)
        await raw.close()


async def test_a_second_connection_to_the_same_peer_has_another_port() -> None:
    with Sockets() as sockets:
        (here,) = sockets.own.get_addrs()
        first, second = await tcp.dial(sockets.there, [here]), await tcp.dial(sockets.there, [here])
        assert first.local == here != second.local
        await first.close()
        await second.close()


@pytest.mark.parametrize("listening", ["/ip4/0.0.0.0/tcp/1", "/ip6/::1/tcp/1"])
async def test_a_port_from_which_the_peer_is_not_reached_is_left_alone(listening: str) -> None:
    with Sockets() as sockets:
        raw = await tcp.dial(sockets.there, [Multiaddr(listening)])
        assert port_of(raw.local) != 1
        await raw.close()


async def test_a_node_does_not_connect_to_itself_by_accident() -> None:
    with Sockets() as sockets:
        (here,) = sockets.own.get_addrs()
        raw = await tcp.dial(here, [here])
        assert raw.local != here
        await raw.close()


async def test_a_refusal_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="refused"):
            await tcp.dial(from_socket(unused.getsockname()), [])
    with pytest.raises(Unreachable):
        await tcp.dial(Multiaddr("/dns4/example.org/tcp/1"), [])
