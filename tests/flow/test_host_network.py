"""Hosts as members of a network: finding each other, bootstrap, the topic."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from libp2p.peer.id import ID

from aicn.errors import (
    UnknownNode,
)
from tests.fakes.hosts import (
    ECHO,
    PEER_OF_NOBODY,
    echo,
    exchange,
    full_address,
    open_test_host,
    port_of,
    until,
)


@pytest.mark.parametrize(
    "modes", [("client", "client"), ("client", "server"), ("server", "client"), ("server", "server")]
)
async def test_nodes_that_know_only_a_public_node_find_each_other(modes: tuple[str, str]) -> None:
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(open_test_host(dht_mode="server"))
        knowing = {"bootstrap": (full_address(public),)}
        a = await stack.enter_async_context(open_test_host(dht_mode=modes[0], **knowing))
        b = await stack.enter_async_context(open_test_host(dht_mode=modes[1], **knowing))
        a.serve(ECHO, echo)
        b.serve(ECHO, echo)
        await until(lambda: len(public.connections()) == 2)  # perhaps not identified yet
        assert not [one for one in a.connections() if one.peer == b.id]
        assert await exchange(a, b) == b"hello"
        assert await exchange(b, a) == b"hello"


async def test_client_mode_peers_are_kept_out_of_the_routing_table() -> None:
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(open_test_host(dht_mode="server"))
        knowing = {"bootstrap": (full_address(public),)}
        client = await stack.enter_async_context(open_test_host(dht_mode="client", **knowing))
        server = await stack.enter_async_context(open_test_host(dht_mode="server", **knowing))
        for asking in (client, server):
            with pytest.raises(UnknownNode):  # both have asked the public node something
                await asking.open_stream(PEER_OF_NOBODY, ECHO)
        await until(lambda: len(public._identify.known) == 2)
        assert public._dht is not None
        await until(lambda: ID.from_base58(server.id) in public._dht.table)
        assert ID.from_base58(client.id) not in public._dht.table
        assert client._dht is not None
        assert ID.from_base58(public.id) in client._dht.table


async def _never_asks(_: object) -> None:
    """In place of asking a peer who it is."""


async def test_a_peer_that_identify_has_not_described_yet_is_asked_all_the_same() -> None:
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(open_test_host(dht_mode="server"))
        b = await stack.enter_async_context(open_test_host(bootstrap=(full_address(public),)))
        b.serve(ECHO, echo)
        await until(lambda: public._identify.known)
        a = await stack.enter_async_context(open_test_host())
        a._identify._meet = _never_asks
        await a.connect(full_address(public))
        assert await exchange(a, b) == b"hello"


async def test_the_routing_table_takes_only_who_is_connected_and_known_to_serve() -> None:
    async with open_test_host(dht_mode="server") as a, open_test_host() as b:
        dht, peer = a._dht, ID.from_base58(b.id)
        assert dht is not None
        a._book.set_protocols(peer, ["/dbc/kad/1.0.0"])
        dht.identified(peer)
        assert peer not in dht.table
        await a.connect(full_address(b))
        await until(lambda: peer in a._identify.known)
        for protocols, taken in (([], False), (["/dbc/kad/1.0.0"], True), (["/ipfs/ping/1.0.0"], False)):
            a._book.set_protocols(peer, protocols)
            dht.identified(peer)
            assert (peer in dht.table) is taken


async def test_the_dht_has_the_configured_prefix() -> None:
    async with open_test_host(dht_mode="server", dht_prefix="/other") as a:
        assert "/other/kad/1.0.0" in a.protocols
        assert not [name for name in a.protocols if name.startswith(("/dbc", "/ipfs/kad"))]


@pytest.mark.parametrize(("announce", "server"), [("/ip4/8.8.8.8/tcp/6001", True), ("/ip4/10.0.0.1/tcp/6001", False)])
async def test_dht_mode_auto(announce: str, server: bool) -> None:
    async with open_test_host(dht_mode="auto", announce=(announce,)) as a:
        assert ("/dbc/kad/1.0.0" in a.protocols) is server


async def test_dht_mode_none() -> None:
    async with open_test_host(dht_mode="none") as a:
        with pytest.raises(UnknownNode):
            await a.open_stream(PEER_OF_NOBODY, ECHO)


async def test_bootstrap_peers_are_connected_again() -> None:
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(open_test_host())
        port = port_of(public)
        member = await stack.enter_async_context(open_test_host(bootstrap=(full_address(public),)))
        await until(lambda: member.connections())
        for connection in public._swarm.open_connections():
            await connection.close()
        await until(lambda: not public.connections(), seconds=1)
        await until(lambda: public.connections() and member.connections())
        assert port_of(public) == port
