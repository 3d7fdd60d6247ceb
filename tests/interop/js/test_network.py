"""js-libp2p peers and ours in one network: the DHT under /dbc/kad/1.0.0, floodsub and gossipsub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import trio
from libp2p.peer.id import ID

from aicn.p2p.dht.rendezvous import rendezvous_key
from aicn.p2p.host import Host
from tests.fakes.hosts import full_address, open_test_host
from tests.interop.js.conftest import StartJs
from tests.interop.js.exchange import ask, sha256
from tests.interop.js.process import TOPIC, JsError, JsPeer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]  # the first one may have to install

Peer = JsPeer | Host
MESSAGES = [f"message {number}" for number in range(200)]  # in one burst


async def eventually(condition: Callable[[], Awaitable[object]], *, seconds: float = 40.0) -> None:
    """Until `condition` holds: what a peer in another process knows is learnt by asking it."""
    with trio.fail_after(seconds):
        while not await condition():
            await trio.sleep(0.1)


def address_of(peer: Peer) -> str:
    return peer.address if isinstance(peer, JsPeer) else full_address(peer)


async def join(peer: Peer, server: Peer) -> None:
    """Connect `peer` to `server`."""
    if isinstance(peer, JsPeer):
        await peer.call("dial", address=address_of(server))
    else:
        await peer.connect(address_of(server))


async def provide(peer: Peer, key: str) -> None:
    if isinstance(peer, JsPeer):
        await peer.call("provide", key=key)
    else:
        assert peer._dht is not None
        peer._dht.provide(rendezvous_key(key))


async def providers(peer: Peer, key: str) -> dict[str, list[str]]:
    """Who provides `key`, and the addresses of each."""
    if isinstance(peer, JsPeer):
        found = await peer.call("findProviders", key=key)
        assert isinstance(found, dict)
        return found
    assert peer._dht is not None
    listed = await peer._dht.find_providers(rendezvous_key(key))
    return {str(one.peer): [str(address) for address in one.addresses] for one in listed}


async def find(seeker: Peer, target: Peer) -> bool:
    """Whether `seeker` learns from the DHT where `target` is."""
    if isinstance(seeker, JsPeer):
        try:
            found = await seeker.call("findPeer", peer=target.id)
        except JsError as error:
            assert str(error).startswith("NotFoundError"), error
            return False  # not yet
        return any(address.startswith("/ip4/127.0.0.1/tcp/") for address in found.get(target.id, []))
    assert seeker._dht is not None
    peer = ID.from_base58(target.id)
    await seeker._dht.find(peer)
    return bool(seeker._book.known(peer))


@pytest.mark.parametrize(
    ("server_is", "target_is", "seeker_is"),
    [
        ("js", "js", "ours"),
        ("js", "ours", "js"),
        ("js", "ours", "ours"),
        ("ours", "js", "js"),
        ("ours", "js", "ours"),
        ("ours", "ours", "js"),
    ],
)
async def test_the_dht(start_js: StartJs, server_is: str, target_is: str, seeker_is: str) -> None:
    async with AsyncExitStack() as stack:

        async def start(kind: str, mode: str) -> Peer:
            if kind == "js":
                return await stack.enter_async_context(start_js(dht=mode))
            return await stack.enter_async_context(open_test_host(dht_mode=mode))

        server, target = await start(server_is, "server"), await start(target_is, "server")
        seeker = await start(seeker_is, "client")
        await join(target, server)
        await join(seeker, server)
        await eventually(lambda: find(seeker, target))

        async def found() -> bool:
            if isinstance(target, JsPeer):  # it tells whom it knows by now, once; ours tells by itself
                await provide(target, "a key")
            return target.id in await providers(seeker, "a key")

        await provide(target, "a key")
        await eventually(found)
        assert any("/tcp/" in address for address in (await providers(seeker, "a key"))[target.id])
        if isinstance(seeker, Host) and isinstance(target, JsPeer):  # and reaches it
            answer = await ask(seeker, target.id, "digest", b"hello")
            assert answer == f"{sha256(b'hello')}\nhello".encode()


async def test_a_js_client_stays_out_of_our_routing_table(start_js: StartJs) -> None:
    async with (
        start_js(dht="client") as client,
        start_js(dht="server") as server,
        open_test_host(dht_mode="server") as host,
    ):
        await client.call("dial", address=full_address(host))
        await server.call("dial", address=full_address(host))
        assert host._dht is not None
        dht = host._dht
        await eventually(lambda: _listed(host, server))
        await client.call("findPeer", peer=server.id)  # it asks us, which makes nobody a server
        assert ID.from_base58(client.id) not in dht.table


async def _listed(host: Host, peer: JsPeer) -> bool:
    assert host._dht is not None
    return ID.from_base58(peer.id) in host._dht.table


@pytest.mark.parametrize("dialler", ["js", "ours"])
@pytest.mark.parametrize("router", ["gossipsub", "floodsub"])
async def test_members_of_a_topic_hear_each_other(start_js: StartJs, router: str, dialler: str) -> None:
    async with start_js(pubsub=router, topic=TOPIC) as js, open_test_host(pubsub_router=router) as host:
        await (join(js, host) if dialler == "js" else join(host, js))

        async def acquainted() -> bool:
            heard = host.id in await js.call("subscribers", topic=TOPIC) and js.id in host.topics.subscribers(TOPIC)
            return heard and (router == "floodsub" or host.id in await js.call("mesh", topic=TOPIC))

        await eventually(acquainted)
        with host.topics.subscribe(TOPIC) as subscription:
            await js.call("publish", topic=TOPIC, messages=MESSAGES)
            with trio.fail_after(30):
                heard = [await subscription.receive() for _ in MESSAGES]
        assert sorted(one.data.decode() for one in heard) == sorted(MESSAGES)
        assert {one.sender for one in heard} == {js.id}

        for message in MESSAGES:
            await host.topics.publish(TOPIC, message.encode())

        async def arrived() -> bool:
            return len(js.events("message")) >= len(MESSAGES)

        await eventually(arrived)
        events = js.events("message", **{"from": host.id}, type="signed")
        assert sorted(event["data"] for event in events) == sorted(MESSAGES)


async def test_js_hands_on_between_two_of_ours(start_js: StartJs) -> None:
    async with start_js(pubsub="gossipsub", topic=TOPIC) as js, open_test_host() as a, open_test_host() as b:
        await a.connect(js.address)
        await b.connect(js.address)

        async def meshed() -> bool:
            return {a.id, b.id} <= set(await js.call("mesh", topic=TOPIC))

        await eventually(meshed)
        with b.topics.subscribe(TOPIC) as subscription:
            for message in MESSAGES:
                await a.topics.publish(TOPIC, message.encode())
            with trio.fail_after(30):
                heard = [await subscription.receive() for _ in MESSAGES]
        assert {one.sender for one in heard} == {a.id}
        assert not b._swarm.is_connected(ID.from_base58(a.id))
