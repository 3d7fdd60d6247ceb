"""A DHT of real hosts: provide, find, rendezvous, modes, and what becomes of nodes that die."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.p2p import multistream
from aicn.p2p.dht import rendezvous, service, wire
from aicn.p2p.dht.rendezvous import connect_to_some, rendezvous_key
from aicn.p2p.dht.service import Dht
from aicn.p2p.dht.wire import Found
from aicn.p2p.host import Host
from aicn.p2p.messages import Messages
from aicn.p2p.opening import open_stream
from aicn.p2p.stream import Stream
from aicn.wire.framing import encode_frame
from tests.fakes.hosts import (
    ECHO,
    PEER_OF_NOBODY,
    Stranger,
    echo,
    exchange,
    full_address,
    open_test_host,
    until,
)

KEY = rendezvous_key("something")
KAD = "/dbc/kad/1.0.0"


def id_of(host: Host) -> ID:
    return ID.from_base58(host.id)


def dht_of(host: Host) -> Dht:
    assert host._dht is not None
    return host._dht


@asynccontextmanager
async def network(servers: int, clients: int) -> AsyncIterator[list[Host]]:
    """Hosts that know only the first one, and that it knows."""
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(open_test_host(dht_mode="server"))]
        for number in range(1, servers + clients):
            mode = "server" if number < servers else "client"
            hosts.append(
                await stack.enter_async_context(open_test_host(dht_mode=mode, bootstrap=(full_address(hosts[0]),)))
            )
        await until(lambda: all(id_of(hosts[0]) in dht_of(one).table for one in hosts[1:]))
        await until(lambda: len(dht_of(hosts[0]).table) == servers - 1)
        yield hosts


def providers(found: list[Found]) -> set[ID]:
    assert len({one.peer for one in found}) == len(found), "each once"
    return {one.peer for one in found}


async def test_what_is_provided_is_found_by_everybody() -> None:
    async with network(4, 2) as hosts:
        dhts = [dht_of(one) for one in hosts]
        dhts[3].provide(KEY)
        dhts[5].provide(KEY)
        expected = {id_of(hosts[3]), id_of(hosts[5])}
        with trio.fail_after(20):
            for host, dht in zip(hosts, dhts, strict=True):
                while providers(await dht.find_providers(KEY)) != expected - {id_of(host)}:
                    await trio.sleep(0.1)
        for one in await dhts[4].find_providers(KEY):
            assert one.addresses
        # What others answered is not kept as if it had been announced here: clients are told nothing.
        assert not len(dhts[4].providers)
        assert not len(dhts[5].providers)


async def test_an_own_announcement_does_not_hide_the_others() -> None:
    async with network(2, 2) as hosts:
        dhts = [dht_of(one) for one in hosts]
        for dht in dhts[1:]:
            dht.provide(KEY)
        await until(lambda: len(dhts[0].providers.providers(KEY, trio.current_time())) == 3)
        for number in (1, 2, 3):
            found = providers(await dhts[number].find_providers(KEY))
            assert found == {id_of(one) for one in hosts[1:]} - {id_of(hosts[number])}


async def test_the_number_and_the_time_of_a_search_are_bounded() -> None:
    async with network(3, 0) as hosts:
        for one in hosts:
            dht_of(one).provide(KEY)
        await until(lambda: len(dht_of(hosts[0]).providers) >= 2)
        assert len(await dht_of(hosts[0]).find_providers(KEY, most=1)) == 1

        async def silent(stream: object) -> None:
            await trio.sleep_forever()

        for one in hosts[1:]:
            one.serve(KAD, silent)
        with trio.fail_after(5):
            assert await dht_of(hosts[0]).find_providers(rendezvous_key("else"), deadline_s=0.2) == []


async def test_nobody_announces_for_another() -> None:
    async with open_test_host(dht_mode="server") as a, trio.open_nursery() as nursery:
        stranger = await Stranger.connect(a, nursery)
        victim = Found(ID.from_base58(PEER_OF_NOBODY), (Multiaddr("/ip4/10.1.1.1/tcp/1"),))
        stream = await stranger.muxer.open_stream()
        await stream.send_all(multistream.proposal(KAD) + encode_frame(wire.announcement(KEY, victim)))
        await stream.send_all(encode_frame(wire.question(Message.GET_PROVIDERS, KEY)))
        answer = b""
        with trio.fail_after(5):
            while len(answer) <= len(multistream.proposal(KAD)):
                answer += await stream.receive_some()
        assert len(dht_of(a).providers) == 0
        assert a._book.known(victim.peer) == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "junk",
    [
        Message(type=Message.PUT_VALUE, key=b"/pk/x").SerializeToString(),
        Message(type=Message.FIND_NODE, key=b"k" * 81).SerializeToString(),
        Message(type=Message.FIND_NODE).SerializeToString(),
        b"\xff\xff\xff",
        bytes(wire.LARGEST_REQUEST + 1),
    ],
)
async def test_what_is_no_question_costs_its_stream(junk: bytes) -> None:
    async with open_test_host(dht_mode="server") as a, open_test_host() as b:
        await b.connect(full_address(a))
        stream = await b.open_stream(a.id, KAD)
        await stream.send_all(encode_frame(junk))
        with pytest.raises(Exception, match="reset"), trio.fail_after(5):
            await stream.receive_some()
        stream = await b.open_stream(a.id, KAD)
        await stream.send_all(encode_frame(wire.question(Message.FIND_NODE, id_of(a).to_bytes())))
        with trio.fail_after(5):
            data = await Messages(stream, limit=wire.LARGEST_ANSWER).receive()
        assert wire.named(wire.parse(data).closerPeers, 20) == [Found(id_of(a), [Multiaddr(a.addresses()[0])])]


async def test_a_ping_is_answered() -> None:
    async with open_test_host(dht_mode="server") as a, open_test_host() as b:
        await b.connect(full_address(a))
        stream = await open_stream(b._swarm, id_of(a), KAD)
        await stream.send_all(encode_frame(Message(type=Message.PING).SerializeToString()))
        with trio.fail_after(5):
            data = await Messages(stream, limit=100).receive()
        assert wire.parse(data).type == Message.PING


async def test_a_node_that_dies_leaves_the_tables() -> None:
    async with network(3, 0) as hosts:
        async with open_test_host(dht_mode="server", bootstrap=(full_address(hosts[0]),)) as dying:
            await until(lambda: id_of(dying) in dht_of(hosts[0]).table)
            await dht_of(hosts[1]).closest(id_of(dying).to_bytes())
            await until(lambda: id_of(dying) in dht_of(hosts[1]).table)
        await until(lambda: all(id_of(dying) not in dht_of(one).table for one in hosts))
        with trio.fail_after(10):
            assert id_of(dying) not in await dht_of(hosts[1]).closest(id_of(dying).to_bytes())
        hosts[2].serve(ECHO, echo)
        assert await exchange(hosts[1], hosts[2]) == b"hello"


async def test_a_peer_that_does_not_answer_leaves_the_table_and_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_ANSWER_S", 0.2)
    async with network(2, 0) as (a, b):

        async def silent(stream: object) -> None:
            await trio.sleep_forever()

        b.serve(KAD, silent)
        with trio.fail_after(5):
            assert await dht_of(a).closest(KEY) == []
        assert id_of(b) not in dht_of(a).table
        dht_of(a).identified(id_of(b))
        assert id_of(b) in dht_of(a).table


async def test_whom_one_only_heard_of_is_in_no_table() -> None:
    async with open_test_host(dht_mode="server") as liar, open_test_host() as a:
        invented = Found(ID.from_base58(PEER_OF_NOBODY), (Multiaddr("/ip4/127.0.0.1/tcp/1"),))

        async def lie(stream: Stream) -> None:
            messages = Messages(stream, limit=1000)
            while (data := await messages.receive_or_end()) is not None:
                await messages.send(wire.answer(wire.parse(data), closer=[invented] * 30))

        liar.serve(KAD, lie)
        await a.connect(full_address(liar))
        await until(lambda: id_of(liar) in dht_of(a).table)
        with trio.fail_after(10):
            assert await dht_of(a).closest(KEY) == [id_of(liar)]
        assert invented.peer not in dht_of(a).table
        assert len(dht_of(a).table) == 1


async def test_a_server_becomes_a_client_and_back() -> None:
    async with open_test_host(dht_mode="server") as a, open_test_host() as b:
        dht_of(a).set_server(False)
        assert KAD not in a.protocols
        await b.connect(full_address(a))
        with pytest.raises(Exception, match="does not speak"), trio.fail_after(5):
            await dht_of(b)._ask(id_of(a), wire.question(Message.FIND_NODE, KEY))
        for _ in range(2):  # to be told twice changes nothing
            dht_of(a).set_server(True)
        assert KAD in a.protocols
        assert (await dht_of(b)._ask(id_of(a), wire.question(Message.FIND_NODE, KEY))).type == Message.FIND_NODE


async def test_announcements_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_PROVIDE_S", 0.3)
    async with network(2, 0) as (a, b):
        dht_of(b).provide(KEY)
        store = dht_of(a).providers
        for _ in range(2):
            await until(lambda: store.providers(KEY, trio.current_time()) == [id_of(b)])
            store._remove(KEY, id_of(b))


async def test_what_nobody_took_is_announced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_PROVIDE_RETRY_S", 0.1)
    async with open_test_host() as a:
        dht_of(a).provide(KEY)
        dht_of(a).filled.set()
        async with open_test_host(dht_mode="server") as b:
            await a.connect(full_address(b))
            await until(lambda: dht_of(b).providers.providers(KEY, trio.current_time()) == [id_of(a)])


async def test_the_table_is_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_REFRESH_S", 0.2)
    async with network(4, 1) as hosts:
        others = {id_of(one) for one in hosts[:4]}
        await until(lambda: all(dht_of(one).table.nearest(KEY) for one in hosts))
        await until(lambda: set(dht_of(hosts[4]).table.nearest(KEY)) == others, seconds=20)


async def test_members_of_a_topic_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_FIRST_S", 0.2)
    async with network(1, 5) as hosts:
        await until(
            lambda: all(
                {one.peer for one in host.connections()} >= {x.id for x in hosts if x is not host} for host in hosts
            ),
            seconds=20,
        )


async def test_who_has_enough_peers_dials_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_WANTED", 2)
    async with network(1, 4) as hosts:
        key = rendezvous_key("DeepBrainChain")
        await until(lambda: len(dht_of(hosts[0]).providers.providers(key, trio.current_time())) == 4)
        for _ in range(3):
            await connect_to_some(dht_of(hosts[1]), hosts[1]._swarm, key)
        assert len({one.peer for one in hosts[1].connections()}) == 2


def test_the_key_is_that_of_the_existing_network() -> None:
    vector = json.loads((Path(__file__).parents[1] / "vectors/legacy/rendezvous.json").read_text())
    assert rendezvous_key(vector["topic"]).hex() == vector["multihash_hex"]
