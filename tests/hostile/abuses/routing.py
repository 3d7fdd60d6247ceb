"""Abuses of the DHT."""

from __future__ import annotations

import os

import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from multiaddr import Multiaddr

from aicn.p2p.muxed_stream import YamuxStream
from tests.hostile.abuses.negotiation import is_reset
from tests.hostile.attacker import Attacker, Peer, enough, message, new_key, varint
from tests.hostile.table import POUR_S, abuse

KAD = "/dbc/kad/1.0.0"
_SOMEONE = bytes.fromhex("1220") + bytes(32)  # the multihash of a peer id


async def asks(peer: Peer, *questions: Message) -> YamuxStream:
    """A stream on which `questions` are asked."""
    return await peer.stream(KAD, b"".join(message(one.SerializeToString()) for one in questions))


async def flood(attacker: Attacker, question: Message, *, streams: int = 20) -> None:
    """Streams on which `question` is asked again and again, the answers not read."""
    peer = await attacker.peer()
    data = message(question.SerializeToString())
    data *= max(1, 10_000 // len(data))

    async def pour() -> None:
        stream = await peer.stream(KAD)
        while True:
            await stream.send_all(data)

    with trio.move_on_after(POUR_S):
        async with trio.open_nursery() as nursery:
            for _ in range(streams):
                nursery.start_soon(pour)


@abuse
async def kad_junk(attacker: Attacker) -> None:
    """Messages that are no protobuf, or of no known type."""
    peer = await attacker.peer()
    for data in (message(os.urandom(200)), message(b""), message(b"\x08\x63"), b"\xff" * 20):
        stream = await peer.stream(KAD, data)
        stream.send_eof()
        await is_reset(stream)


@abuse
async def kad_huge(attacker: Attacker) -> None:
    """Messages of four megabytes, of a gigabyte, of all bytes there are."""
    peer = await attacker.peer()
    for size in (4 << 20, 1 << 30, 1 << 62):
        with enough, trio.move_on_after(POUR_S):
            stream = await peer.stream(KAD, varint(size))
            await stream.send_all(bytes(8 << 20))


@abuse
async def kad_recursive(attacker: Attacker) -> None:
    """Protobufs in protobufs, a thousand deep, groups that never end, and fields that expand."""
    peer = await attacker.peer()
    nested = b""
    for _ in range(1000):
        nested = b"\x42" + message(nested)  # closerPeers in closerPeers
    packed = Message(closerPeers=[Message.Peer()] * 100_000).SerializeToString()
    for data in (nested, b"\x43" * 100_000, packed):
        stream = await peer.stream(KAD, message(data))
        stream.send_eof()
        await is_reset(stream)


@abuse
async def kad_half_a_message(attacker: Attacker) -> None:
    """More streams than the DHT serves at a time, each of them inside a message for ever."""
    peer = await attacker.peer()
    for _ in range(300):
        await peer.stream(KAD, varint(1000) + b"\x20")


@abuse
async def find_node_flood(attacker: Attacker) -> None:
    """Who is near whom, without a pause."""
    await flood(attacker, Message(type=Message.FIND_NODE, key=_SOMEONE))


@abuse
async def find_node_of_odd_keys(attacker: Attacker) -> None:
    """No key, keys that are no peer, a key of a megabyte."""
    peer = await attacker.peer()
    for key in (b"", b"\x00", os.urandom(40), bytes(1 << 20)):
        with enough:
            stream = await asks(peer, Message(type=Message.FIND_NODE, key=key))
            stream.send_eof()
            await is_reset(stream)


@abuse
async def providers_for_others(attacker: Attacker) -> None:
    """Other people are announced as providers, with addresses where they are not."""
    peer = await attacker.peer()
    liar = Multiaddr("/ip4/198.51.100.1/tcp/1").to_bytes()
    for _ in range(200):
        other = Message.Peer(id=bytes.fromhex("1220") + os.urandom(32), addrs=[liar] * 50)
        await asks(peer, Message(type=Message.ADD_PROVIDER, key=os.urandom(34), providerPeers=[other] * 20))


@abuse
async def provide_flood(attacker: Attacker) -> None:
    """One peer provides everything: a new key each time, until the victim should stop listening."""
    key = new_key()
    peer = await attacker.peer(key)
    self_id = key.public_key.serialize()
    own = Message.Peer(
        id=b"\x00" + bytes((len(self_id),)) + self_id, addrs=[Multiaddr("/ip4/127.0.0.66/tcp/1").to_bytes()]
    )
    stream = await peer.stream(KAD)
    with trio.move_on_after(2 * POUR_S):
        for _ in range(20_000):
            question = Message(type=Message.ADD_PROVIDER, key=os.urandom(34), providerPeers=[own])
            await stream.send_all(message(question.SerializeToString()))


@abuse
async def put_value_flood(attacker: Attacker) -> None:
    """Values of half a megabyte under ever new keys: memory for strangers."""
    peer = await attacker.peer()
    with trio.move_on_after(4 * POUR_S):
        for _ in range(400):
            question = Message(type=Message.PUT_VALUE, key=os.urandom(34))
            question.record.key = question.key
            question.record.value = bytes(500_000)
            with enough:
                (await asks(peer, question)).send_eof()


@abuse
async def get_value_flood(attacker: Attacker) -> None:
    """Values that nobody has, asked for without a pause."""
    await flood(attacker, Message(type=Message.GET_VALUE, key=_SOMEONE))


@abuse
async def get_providers_flood(attacker: Attacker) -> None:
    """Providers that nobody has, asked for without a pause."""
    await flood(attacker, Message(type=Message.GET_PROVIDERS, key=_SOMEONE))
