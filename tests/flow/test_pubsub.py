"""Topics on real hosts: who hears what, in bursts and in megabytes, and what hostile peers cost."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.pubsub.pb.rpc_pb2 import RPC

from aicn.errors import InvalidRequest, ProtocolViolation, TooLarge
from aicn.p2p import multistream
from aicn.p2p.host import Host
from aicn.p2p.identity import generate_key, parse_key
from aicn.p2p.pubsub import messages, service
from aicn.p2p.pubsub.messages import LARGEST_RPC, Signer
from aicn.p2p.pubsub.subscription import Subscription
from aicn.wire.framing import encode_frame
from tests.fakes.hosts import CONFIG, Stranger, full_address, open_test_host, until

TOPIC = CONFIG.topic
MESHSUB, FLOODSUB = "/meshsub/1.1.0", "/floodsub/1.0.0"
GOSSIP, FLOOD = "gossipsub", "floodsub"


@asynccontextmanager
async def network(routers: Sequence[str], edges: Sequence[tuple[int, int]]) -> AsyncIterator[list[Host]]:
    """Hosts with these routers, connected along `edges`, without a DHT; all know their neighbours' subscriptions."""
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(open_test_host(dht_mode="none", pubsub_router=router)) for router in routers
        ]
        for a, b in edges:
            await join(hosts[a], hosts[b])
        yield hosts


async def join(a: Host, b: Host) -> None:
    await a.connect(full_address(b))
    await until(lambda: b.id in a.topics.subscribers(TOPIC) and a.id in b.topics.subscribers(TOPIC))


def chain(length: int) -> list[tuple[int, int]]:
    return list(itertools.pairwise(range(length)))


async def heard(subscription: Subscription, count: int, *, seconds: float = 20.0) -> list[bytes]:
    """The next `count` messages."""
    with trio.fail_after(seconds):
        return [(await subscription.receive()).data for _ in range(count)]


MIXED = [[GOSSIP] * 5, [FLOOD] * 5, [GOSSIP, FLOOD, GOSSIP, GOSSIP, FLOOD]]


@pytest.mark.parametrize("routers", MIXED, ids="-".join)
async def test_a_message_goes_through_a_chain_once(routers: list[str]) -> None:
    async with network(routers, chain(5)) as hosts:
        with AsyncExitStackOf(hosts) as subscriptions:
            for number, host in enumerate(hosts):  # before any heartbeat, and each in both directions
                await host.topics.publish(TOPIC, b"from %d" % number)
            for number, subscription in enumerate(subscriptions):
                expected = sorted(b"from %d" % one for one in range(5) if one != number)
                assert sorted(await heard(subscription, 4)) == expected
            await trio.sleep(2.2)  # gossip, which must not bring them again
            assert not any(one._messages for one in subscriptions)


class AsyncExitStackOf:
    """The subscriptions of all hosts."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._contexts = [host.topics.subscribe(TOPIC) for host in hosts]

    def __enter__(self) -> list[Subscription]:
        return [one.__enter__() for one in self._contexts]

    def __exit__(self, *_: object) -> None:
        for one in self._contexts:
            one.__exit__(None, None, None)


@pytest.mark.parametrize("routers", [[GOSSIP] * 3, [FLOOD] * 3, [FLOOD, GOSSIP, FLOOD]], ids="-".join)
async def test_a_burst_arrives(routers: list[str]) -> None:
    async with network(routers, chain(3)) as hosts:
        with hosts[2].topics.subscribe(TOPIC) as subscription:
            for number in range(1000):
                await hosts[0].topics.publish(TOPIC, b"%d" % number)
            assert sorted(map(int, await heard(subscription, 1000))) == list(range(1000))
            assert subscription.lost == 0


@pytest.mark.parametrize("router", [GOSSIP, FLOOD])
async def test_a_megabyte_arrives(router: str) -> None:
    async with network([router] * 3, chain(3)) as hosts:
        with hosts[2].topics.subscribe(TOPIC) as subscription:
            sent = [bytes([number]) * 1_000_000 for number in range(5)]
            for one in sent:
                await hosts[0].topics.publish(TOPIC, one)
            assert sorted(await heard(subscription, 5)) == sent
        with pytest.raises(TooLarge):
            await hosts[0].topics.publish(TOPIC, bytes(LARGEST_RPC))


async def test_a_message_can_be_handed_on_outside_pubsub() -> None:
    async with network([GOSSIP, GOSSIP, GOSSIP], []) as (a, b, c):
        await join(a, b)
        with b.topics.subscribe(TOPIC) as subscription:
            signed = await a.topics.publish(TOPIC, b"you")
            with trio.fail_after(5):
                message = await subscription.receive()
        assert message.signed == signed
        assert (message.topic, message.sender, message.data) == (TOPIC, a.id, b"you")
        assert c.topics.verify(signed) == message
        for junk in (b"", b"\xff", signed[:-1], signed.replace(b"you", b"yoo")):
            with pytest.raises(ProtocolViolation):
                c.topics.verify(junk)
        with pytest.raises(InvalidRequest):
            await a.topics.publish("another", b"")


async def test_who_comes_late_hears_what_follows_and_what_was_said_just_now() -> None:
    async with network([GOSSIP, GOSSIP], []) as (a, late):
        await a.topics.publish(TOPIC, b"just now")
        with late.topics.subscribe(TOPIC) as subscription:
            await join(late, a)
            await a.topics.publish(TOPIC, b"now")
            assert sorted(await heard(subscription, 2)) == [b"just now", b"now"]


async def test_a_node_that_restarts_is_heard_again() -> None:
    key = parse_key(generate_key())
    async with open_test_host(dht_mode="none") as a:
        with a.topics.subscribe(TOPIC) as subscription:
            for life in range(3):
                async with open_test_host(key=key) as b:
                    await join(b, a)
                    for number in range(3):
                        await b.topics.publish(TOPIC, b"%d %d" % (life, number))
                    assert sorted(await heard(subscription, 3)) == [b"%d %d" % (life, number) for number in range(3)]


async def test_the_validator_decides_before_anybody_else_hears() -> None:
    async with network([GOSSIP] * 3, chain(3)) as hosts:
        hosts[1].topics.leave(TOPIC)
        hosts[1].topics.join(TOPIC, lambda message: message.sender == hosts[0].id and message.data != b"bad")
        await until(lambda: all(hosts[1].id in hosts[one].topics.subscribers(TOPIC) for one in (0, 2)))
        with hosts[2].topics.subscribe(TOPIC) as subscription, hosts[1].topics.subscribe(TOPIC) as between:
            for data in (b"bad", b"good"):
                await hosts[0].topics.publish(TOPIC, data)
            assert await heard(subscription, 1) == await heard(between, 1) == [b"good"]


async def test_further_topics_are_joined_and_left() -> None:
    async with network([GOSSIP, FLOOD, GOSSIP], chain(3)) as hosts:
        for one in hosts:
            one.topics.join("offers")
        await until(lambda: len(hosts[1].topics.subscribers("offers")) == 2)
        with hosts[2].topics.subscribe("offers") as subscription:
            await until(lambda: hosts[0].topics.subscribers("offers"))
            await hosts[0].topics.publish("offers", b"one")
            assert await heard(subscription, 1) == [b"one"]
        hosts[2].topics.leave("offers")
        await until(lambda: hosts[1].topics.subscribers("offers") == [hosts[0].id])
        with pytest.raises(InvalidRequest):
            hosts[2].topics.leave("offers")
        with pytest.raises(InvalidRequest):
            hosts[0].topics.join(TOPIC)


async def test_a_reader_that_is_too_slow_loses_the_oldest() -> None:
    async with network([GOSSIP, GOSSIP], chain(2)) as (a, b):
        with b.topics.subscribe(TOPIC) as subscription:
            for number in range(4):
                await a.topics.publish(TOPIC, bytes([number]) + bytes(900_000))
            await until(lambda: len(subscription._messages) == 4)
            subscription._bytes += 32 << 20  # as if there were more
            await a.topics.publish(TOPIC, b"last")
            await until(lambda: subscription.lost)
            assert subscription.lost == 5
            await a.topics.publish(TOPIC, b"newer")
            await until(lambda: subscription.lost == 6)


class Peer:
    """A stranger that speaks pubsub by hand."""

    def __init__(self, stranger: Stranger, keys: KeyPair) -> None:
        self.muxer = stranger.muxer
        self.signer = Signer(keys)
        self.received = bytearray()

    @classmethod
    async def connect(cls, host: Host, nursery: trio.Nursery, protocol: str = MESHSUB) -> Peer:
        peer = cls(await Stranger.connect(host, nursery), create_new_key_pair())
        nursery.start_soon(peer._take)
        await peer.open(protocol)
        return peer

    async def _take(self) -> None:
        """Agree to whatever the host wants, read and forget."""
        while True:
            stream = await self.muxer.accept_stream()
            data = b""
            while data.count(b"\n") < 2:
                data += await stream.receive_some()
            end = [i for i, byte in enumerate(data) if byte == 10][1] + 1
            if b"/ipfs/id" in data[:end]:
                stream.abort()
                continue
            await stream.send_all(data[:end])
            self.received += data[end:]
            while part := await stream.receive_some():
                self.received += part

    async def open(self, protocol: str = MESHSUB) -> None:
        self.stream = await self.muxer.open_stream()
        await self.stream.send_all(multistream.proposal(protocol))
        rpc = RPC()
        rpc.subscriptions.add(subscribe=True, topicid=TOPIC)
        await self.say(rpc)

    async def say(self, rpc: RPC) -> None:
        await self.stream.send_all(encode_frame(rpc.SerializeToString()))

    async def publish(self, data: bytes) -> None:
        await self.say(RPC(publish=[self.signer.message(TOPIC, data)]))


async def test_who_prunes_us_hears_everything_all_the_same() -> None:
    """As go clients do that list a bootstrap node as a direct peer."""
    async with network([GOSSIP, GOSSIP], chain(2)) as (a, b), trio.open_nursery() as nursery:
        peer = await Peer.connect(a, nursery)
        refusal = RPC()
        refusal.control.prune.add(topicID=TOPIC, backoff=60)
        await until(lambda: len(a.topics.subscribers(TOPIC)) == 2)
        await peer.say(refusal)
        await until(lambda: a.topics.mesh._refused[TOPIC])
        await b.topics.publish(TOPIC, b"forwarded")
        await a.topics.publish(TOPIC, b"its own")
        await until(lambda: b"forwarded" in peer.received and b"its own" in peer.received)
        with b.topics.subscribe(TOPIC) as subscription:
            await peer.publish(b"of the direct peer")
            assert await heard(subscription, 1) == [b"of the direct peer"]
        nursery.cancel_scope.cancel()


async def test_only_what_its_sender_signed_is_taken() -> None:
    async with network([GOSSIP], []) as (a,), trio.open_nursery() as nursery:
        peer = await Peer.connect(a, nursery)
        with a.topics.subscribe(TOPIC) as subscription:
            for change in ("data", "seqno", "signature", "from_id"):
                message = peer.signer.message(TOPIC, b"forged")
                setattr(message, change, getattr(message, change)[:-1] + b"x")
                await peer.say(RPC(publish=[message]))
            unsigned = peer.signer.message(TOPIC, b"unsigned")
            unsigned.signature = b""
            two = peer.signer.message(TOPIC, b"two topics")
            two.topicIDs.append("another")
            await peer.say(RPC(publish=[unsigned, two]))
            await peer.publish(b"honest")
            assert await heard(subscription, 1) == [b"honest"]
        nursery.cancel_scope.cancel()


async def test_a_flood_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_MESSAGES", 50.0)
    monkeypatch.setattr(service, "_MESSAGES_BURST", 100.0)
    async with network([GOSSIP, GOSSIP], chain(2)) as (a, honest), trio.open_nursery() as nursery:
        peer = await Peer.connect(a, nursery)
        with a.topics.subscribe(TOPIC) as subscription:
            began = trio.current_time()
            for number in range(100):  # an RPC and a message each: 200, of which 100 pass at once
                await peer.publish(b"%d" % number)
            await honest.topics.publish(TOPIC, b"honest")
            with trio.fail_after(1):
                while (await subscription.receive()).data != b"honest":
                    pass
            while (await subscription.receive()).data != b"99":
                pass
            assert trio.current_time() - began > 1.0
        nursery.cancel_scope.cancel()


async def test_too_large_or_no_rpc_costs_the_stream_and_a_new_one_works() -> None:
    async with network([GOSSIP], []) as (a,), trio.open_nursery() as nursery:
        peer = await Peer.connect(a, nursery)
        with a.topics.subscribe(TOPIC) as subscription:
            for junk in (encode_frame(b"\xff\xff\xff"), b"\xff\xff\xff\xff\x7f", encode_frame(bytes(LARGEST_RPC + 1))):
                with trio.fail_after(5), pytest.raises(Exception, match="reset"):
                    await peer.stream.send_all(junk)
                    await peer.stream.receive_some()
                    await peer.stream.receive_some()
                await peer.open()
            await peer.publish(b"still here")
            assert await heard(subscription, 1) == [b"still here"]
        nursery.cancel_scope.cancel()


async def test_a_second_stream_takes_the_place_of_the_first() -> None:
    async with network([GOSSIP], []) as (a,), trio.open_nursery() as nursery:
        peer = await Peer.connect(a, nursery)
        with a.topics.subscribe(TOPIC) as subscription:
            for number in range(50):
                await peer.open()
                await peer.publish(b"%d" % number)
            await until(lambda: a.topics._peers)
            (connection,) = a._swarm.open_connections()
            await until(lambda: len(connection.muxer.session.streams) < 10)
            assert (await heard(subscription, 1))[0].isdigit()
        nursery.cancel_scope.cancel()


async def test_what_was_missed_is_asked_for() -> None:
    async with network([GOSSIP], []) as (a,), trio.open_nursery() as nursery:
        peer = await Peer.connect(a, nursery)
        message = peer.signer.message(TOPIC, b"told of")
        told = RPC()
        told.control.ihave.add(topicID=TOPIC, messageIDs=[messages.message_id(message)])
        await peer.say(told)
        await until(lambda: messages.message_id(message) in peer.received)  # IWANT
        with a.topics.subscribe(TOPIC) as subscription:
            await peer.say(RPC(publish=[message]))
            assert await heard(subscription, 1) == [b"told of"]
        await a.topics.publish(TOPIC, b"asked for")
        await until(lambda: peer.received.count(b"asked for") == 1)
        wanted = RPC()
        wanted.control.iwant.add(messageIDs=[next(reversed(a.topics.mesh.recent._entries))] * 100)
        await peer.say(wanted)
        await until(lambda: peer.received.count(b"asked for") == 4)  # three times more, and then no more
        await peer.publish(b"x")
        await until(lambda: len(a.topics.mesh.recent) >= 2)
        assert peer.received.count(b"asked for") == 4
        nursery.cancel_scope.cancel()


async def test_the_peer_is_forgotten_when_it_is_gone() -> None:
    async with open_test_host(dht_mode="none") as a:
        async with open_test_host(dht_mode="none") as b:
            await join(a, b)
        await until(lambda: not a.topics.subscribers(TOPIC))
        assert not a.topics._peers
        assert not a.topics.mesh.topics[TOPIC]


async def test_a_stream_that_the_peer_ends_is_opened_again() -> None:
    async with network([GOSSIP, GOSSIP], chain(2)) as (a, b):
        known = b.topics._peers[ID.from_base58(a.id)]
        await until(lambda: known.listening)
        first = known.listening
        assert first is not None
        first.cancel()  # resets it
        with b.topics.subscribe(TOPIC) as subscription:
            await until(lambda: known.listening is not first)
            await a.topics.publish(TOPIC, b"again")
            assert await heard(subscription, 1) == [b"again"]
