"""Abuses of pubsub."""

from __future__ import annotations

import os

import trio
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2 as pb
from libp2p.pubsub.pubsub import PUBSUB_SIGNING_PREFIX

from aicn.p2p.muxed_stream import YamuxStream
from tests.hostile.attacker import Attacker, enough, message, new_key, varint
from tests.hostile.table import POUR_S, abuse

GOSSIP, FLOOD = "/meshsub/1.1.0", "/floodsub/1.0.0"
TOPIC = "DeepBrainChain"


async def says(attacker: Attacker, *rpcs: pb.RPC, key: KeyPair | None = None) -> YamuxStream:
    """A stream of gossipsub, its peer subscribed to the topic, on which `rpcs` are said."""
    peer = await attacker.peer(key, serve=_swallow)
    hello = pb.RPC(subscriptions=[pb.RPC.SubOpts(subscribe=True, topicid=TOPIC)])
    return await peer.stream(GOSSIP, b"".join(message(one.SerializeToString()) for one in (hello, *rpcs)))


async def _swallow(stream: YamuxStream) -> None:
    """Take all that the victim says on its streams."""
    while await stream.receive_some():
        pass


async def pour(stream: YamuxStream, *rpcs: pb.RPC) -> None:
    """Say `rpcs` again and again for a while."""
    data = b"".join(message(one.SerializeToString()) for one in rpcs)
    data *= max(1, 10_000 // len(data))
    with trio.move_on_after(POUR_S):
        while True:
            await stream.send_all(data)


def signed(key: KeyPair, data: bytes, *, number: bytes, author: bytes = b"", topic: str = TOPIC) -> pb.Message:
    """A message of `topic`, signed with `key`; by `author`, or by the owner of `key`."""
    made = pb.Message(
        from_id=author or ID.from_pubkey(key.public_key).to_bytes(), data=data, seqno=number, topicIDs=[topic]
    )
    made.signature = key.private_key.sign(PUBSUB_SIGNING_PREFIX.encode() + made.SerializeToString())
    made.key = key.public_key.serialize()
    return made


@abuse
async def three_junk_bytes(attacker: Attacker) -> None:
    """What ends a whole pubsub service of stock py-libp2p."""
    for protocol in (GOSSIP, FLOOD):
        peer = await attacker.peer(serve=_swallow)
        for _ in range(10):
            (await peer.stream(protocol, b"\x02\xff\xff")).send_eof()


@abuse
async def endless_rpc(attacker: Attacker) -> None:
    """One message of a gigabyte, and one whose length never ends."""
    peer = await attacker.peer(serve=_swallow)
    for head in (varint(1 << 30), varint(1 << 62), b"\xff" * 100):
        with enough, trio.move_on_after(POUR_S):
            stream = await peer.stream(GOSSIP, head)
            await stream.send_all(bytes(8 << 20))


@abuse
async def million_subscriptions(attacker: Attacker) -> None:
    """Topics without end, in a few large messages and in many small ones."""
    stream = await says(attacker)
    many = [pb.RPC.SubOpts(subscribe=True, topicid=f"topic {number}") for number in range(40_000)]
    await stream.send_all(message(pb.RPC(subscriptions=many).SerializeToString()))
    with trio.move_on_after(2 * POUR_S):
        for number in range(1_000_000):
            one = pb.RPC(subscriptions=[pb.RPC.SubOpts(subscribe=True, topicid=f"small {number}")])
            await stream.send_all(message(one.SerializeToString()))


@abuse
async def ihave_flood(attacker: Attacker) -> None:
    """Ids of messages that do not exist: the victim must not ask for them without end."""
    ids = [os.urandom(20) for _ in range(500)]
    have = pb.RPC(control=pb.ControlMessage(ihave=[pb.ControlIHave(topicID=TOPIC, messageIDs=ids)]))
    await pour(await says(attacker), have)


@abuse
async def iwant_flood(attacker: Attacker) -> None:
    """Ids that are wanted a thousand times."""
    ids = [os.urandom(20) for _ in range(500)]
    want = pb.RPC(control=pb.ControlMessage(iwant=[pb.ControlIWant(messageIDs=ids)]))
    await pour(await says(attacker), want)


@abuse
async def graft_and_prune_flood(attacker: Attacker) -> None:
    """In and out of the mesh, of this topic and of topics that nobody has."""
    topics = [TOPIC, *(f"none {number}" for number in range(50))]
    graft = pb.RPC(control=pb.ControlMessage(graft=[pb.ControlGraft(topicID=one) for one in topics]))
    prune = pb.RPC(control=pb.ControlMessage(prune=[pb.ControlPrune(topicID=one) for one in topics]))
    await pour(await says(attacker), graft, prune)


@abuse
async def pruned_towards_others(attacker: Attacker) -> None:
    """PRUNE with a thousand peers to connect to instead (peer exchange), which do not exist."""
    peers = [
        pb.PeerInfo(peerID=bytes.fromhex("1220") + os.urandom(32), signedPeerRecord=os.urandom(50)) for _ in range(1000)
    ]
    prune = pb.ControlMessage(prune=[pb.ControlPrune(topicID=TOPIC, peers=peers, backoff=1 << 60)])
    await says(attacker, *[pb.RPC(control=prune)] * 5)


@abuse
async def unsigned_messages(attacker: Attacker) -> None:
    """Messages without a signature, with a wrong one, with somebody else's key."""
    key, other = new_key(), new_key()
    good = signed(key, b"good", number=b"\1" * 8)
    bare = pb.Message(from_id=good.from_id, data=b"x", seqno=b"\2" * 8, topicIDs=[TOPIC])
    wrong = signed(key, b"wrong", number=b"\3" * 8)
    wrong.signature = os.urandom(64)
    stolen = signed(other, b"stolen", number=b"\4" * 8, author=good.from_id)
    nobody = pb.Message(from_id=b"nobody", data=b"x", seqno=b"", signature=b"x", key=os.urandom(40), topicIDs=[TOPIC])
    await pour(await says(attacker, key=key), pb.RPC(publish=[bare, wrong, stolen, nobody]))


@abuse
async def replayed_messages(attacker: Attacker) -> None:
    """One good message, ten thousand times, from several peers."""
    key = new_key()
    again = pb.RPC(publish=[signed(key, b"again", number=b"\1" * 8)] * 100)
    await pour(await says(attacker, key=key), again)
    await pour(await says(attacker), again)


@abuse
async def sequence_numbers_of_any_size(attacker: Attacker) -> None:
    """Numbers of no byte, of one, of thousands, going backwards."""
    key = new_key()
    odd = [signed(key, b"odd", number=number) for number in (b"", b"\0", os.urandom(5000), b"\xff" * 8, b"\0" * 8)]
    await says(attacker, *[pb.RPC(publish=odd)] * 20, key=key)


@abuse
async def message_flood(attacker: Attacker) -> None:
    """New and valid messages as fast as they can be signed: all remembered, none kept."""
    key = new_key()
    stream = await says(attacker, key=key)
    with trio.move_on_after(4 * POUR_S):
        for number in range(2000):
            rpc = pb.RPC(publish=[signed(key, bytes(20_000), number=number.to_bytes(8, "big"))])
            await stream.send_all(message(rpc.SerializeToString()))


@abuse
async def pubsub_never_read(attacker: Attacker) -> None:
    """A subscriber that takes nothing while others talk: what waits for it has a bound."""

    async def deaf(stream: YamuxStream) -> None:
        await trio.sleep_forever()

    for _ in range(5):
        peer = await attacker.peer(serve=deaf)
        hello = pb.RPC(subscriptions=[pb.RPC.SubOpts(subscribe=True, topicid=TOPIC)])
        await peer.stream(GOSSIP, message(hello.SerializeToString()))
    key = new_key()
    stream = await says(attacker, key=key)
    with trio.move_on_after(2 * POUR_S):
        for number in range(500):
            rpc = pb.RPC(publish=[signed(key, bytes(50_000), number=number.to_bytes(8, "big"))])
            await stream.send_all(message(rpc.SerializeToString()))


@abuse
async def many_pubsub_streams(attacker: Attacker) -> None:
    """One peer with hundreds of pubsub streams."""
    peer = await attacker.peer(serve=_swallow)
    hello = message(pb.RPC(subscriptions=[pb.RPC.SubOpts(subscribe=True, topicid=TOPIC)]).SerializeToString())
    for _ in range(300):
        await peer.stream(GOSSIP, hello)
