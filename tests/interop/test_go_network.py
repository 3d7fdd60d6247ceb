"""Our host and go-libp2p as members of one network: DHT, rendezvous, pubsub, and nodes that die."""

from __future__ import annotations

import secrets
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from libp2p.peer.id import ID

from aicn.p2p.dht.rendezvous import rendezvous_key
from aicn.p2p.identity import generate_key
from tests.fakes.hosts import CONFIG, full_address, open_test_host, until
from tests.interop.exchanges import Exchanges
from tests.interop.gopeer import GoPeer, open_go_peer
from tests.interop.pairs import member, open_pair

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

PSK = secrets.token_hex(32)
PRIVATE = ("-psk", PSK)
SOON_S = 30  # until what happens by itself is seen, on a loaded machine


# ---- DHT ----


@pytest.mark.parametrize("mode", ["server", "client"])
async def test_peers_that_know_only_a_go_server_find_each_other(go_program: Path, mode: str) -> None:
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(open_go_peer(go_program, *PRIVATE, "-dht", "server"))
        go = await stack.enter_async_context(open_go_peer(go_program, *PRIVATE, "-dht", mode))
        host = await stack.enter_async_context(open_test_host(psk=PSK, dht_mode=mode))
        ours = Exchanges(host)
        await go("connect", address=public.address)
        await host.connect(public.address)
        await go.until(lambda table: public.id in table, "routing-table")
        assert full_address(host).startswith(tuple(await go.until(bool, "find-peer", peer=host.id)))
        await ours.upload(go.id, 1000)

        # and announced to the server: Go by Go, ours by us
        await go("provide", protocol="of go")
        assert host._dht is not None
        with trio.fail_after(SOON_S):
            while not (providers := await host._dht.find_providers(rendezvous_key("of go"))):
                await trio.sleep(0.05)  # an announcement is not answered: the server may not have seen it yet
        (found,) = providers
        assert str(found.peer) == go.id
        assert [address for address in map(str, found.addresses) if go.address.startswith(address)]
        host._dht.provide(rendezvous_key("of ours"))
        await go.until(lambda found: host.id in found, "find-providers", protocol="of ours", count=5)


@pytest.mark.parametrize("mode", ["server", "client"])
async def test_go_peers_that_know_only_our_server_find_each_other(go_program: Path, mode: str) -> None:
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(open_test_host(psk=PSK, dht_mode="server"))
        peers = [await stack.enter_async_context(open_go_peer(go_program, *PRIVATE, "-dht", mode)) for _ in range(2)]
        for go in peers:
            await go("connect", address=full_address(host))
            await go.until(lambda table: host.id in table, "routing-table")
        asking, wanted = peers
        # the two may be connected by then, and not have said their addresses yet
        assert wanted.address.startswith(tuple(await asking.until(bool, "find-peer", peer=wanted.id)))
        await asking("provide", protocol="some rendezvous")
        found = await wanted.until(bool, "find-providers", protocol="some rendezvous", count=5)  # it is not answered
        assert asking.address.startswith(tuple(found[asking.id]))
        assert host._dht is not None
        table = host._dht.table
        await until(lambda: all((ID.from_base58(go.id) in table) is (mode == "server") for go in peers), seconds=SOON_S)


async def test_the_rendezvous_of_the_topic(go_program: Path) -> None:
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(open_go_peer(go_program, *PRIVATE, "-dht", "server"))
        go = await stack.enter_async_context(open_go_peer(go_program, *PRIVATE, "-dht", "client"))
        host = await stack.enter_async_context(open_test_host(psk=PSK, bootstrap=(public.address,)))
        await go("connect", address=public.address)
        await go.until(lambda table: public.id in table, "routing-table")
        found = await go.until(lambda found: host.id in found, "rendezvous", protocol=CONFIG.topic)
        assert full_address(host).startswith(tuple(found[host.id]))
        await go("provide", protocol=CONFIG.topic)
        with trio.fail_after(SOON_S):
            while await host.rendezvous() != sorted([host.id, go.id]):
                await trio.sleep(0.05)


# ---- pubsub ----


async def expect_all(go: GoPeer, sender: str, said: list[str]) -> None:
    """The Go peer hears each of these once, in any order."""
    heard = [(await go.event("message", peer=sender))["sha256"] for _ in said]
    assert Counter(heard) == Counter(said)


@pytest.mark.parametrize("of_go", ["gossipsub", "floodsub"])
@pytest.mark.parametrize("of_ours", ["gossipsub", "floodsub"])
async def test_members_hear_each_other(go_program: Path, of_ours: str, of_go: str) -> None:
    async with open_pair(go_program, *PRIVATE, "-pubsub", of_go, psk=PSK, pubsub_router=of_ours) as pair:
        with member(pair.host) as ours:
            await ours.meet(pair.go)
            # a burst, as fast as Go takes it in (its validation queue holds 32), and messages up to its limit of 1 MiB
            for count, size, pause_ms in ((200, 300, 5), (3, 100_000, 20), (2, 900_000, 100)):
                said = await ours.publish(count=count, size=size, pause_s=pause_ms / 1000)
                await expect_all(pair.go, ours.id, said)
                said = await pair.go("publish", count=count, size=size, pause_ms=pause_ms)
                await ours.hear(pair.go.id, said)


async def test_clients_of_which_we_are_a_direct_peer(go_program: Path) -> None:
    """The existing network's clients have their bootstrap nodes as direct peers: they never join our mesh."""
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(open_test_host(psk=PSK, pubsub_router="gossipsub"))
        flags = (*PRIVATE, "-pubsub", "gossipsub", "-direct", full_address(host))
        one, other = [await stack.enter_async_context(open_go_peer(go_program, *flags)) for _ in range(2)]
        ours = stack.enter_context(member(host))
        for go in (one, other):
            await ours.meet(go)
        said = await ours.publish(count=5, size=300, pause_s=0.02)
        for go in (one, other):
            await expect_all(go, host.id, said)
        said = await one("publish", count=5, size=300, pause_ms=20)
        await expect_all(other, one.id, said)
        await ours.hear(one.id, said)


# ---- nodes that die ----


async def test_a_killed_node_is_noticed_and_dialled_again(go_program: Path) -> None:
    key = generate_key()
    async with open_go_peer(go_program, "-key", key) as go:
        async with open_test_host(bootstrap=(go.address,)) as host:
            await until(host.connections, seconds=SOON_S)
            go.kill()
            await until(lambda: not host.connections(), seconds=5)
            transport = go.address.rpartition("/p2p/")[0]
            async with open_go_peer(go_program, "-key", key, "-listen", transport) as again:
                assert again.address == go.address
                await until(host.connections, seconds=SOON_S)
                await Exchanges(host).upload(again.id, 1000)


async def test_a_frozen_node_is_dropped(go_program: Path) -> None:
    async with open_pair(go_program) as pair:
        await pair.ours.upload(pair.go.id, 1000)
        frozen = trio.current_time()
        pair.go.freeze()
        await until(lambda: not pair.host.connections(), seconds=40)
        assert trio.current_time() - frozen < 25  # 15 s of silence, and what a loaded machine adds
