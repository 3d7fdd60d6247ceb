"""Lies to identify, asked and pushed."""

from __future__ import annotations

import os

import trio
from libp2p.identity.identify.pb.identify_pb2 import Identify
from multiaddr import Multiaddr

from aicn.p2p.multistream import proposal
from aicn.p2p.muxed_stream import YamuxStream
from tests.hostile.attacker import Attacker, Serve, enough, message, new_key, read_to_end, varint
from tests.hostile.table import POUR_S, abuse

IDENTIFY, PUSH = "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0"


def answering(data: bytes) -> Serve:
    """Answers identify, and whatever else is asked, with `data`."""

    async def serve(stream: YamuxStream) -> None:
        await stream.receive_some()
        await stream.send_all(proposal(IDENTIFY) + data)
        stream.send_eof()

    return serve


async def is_told(attacker: Attacker, claim: Identify) -> None:
    """The victim hears `claim` as an answer and as a push, of one peer."""
    data = message(claim.SerializeToString())
    peer = await attacker.peer(serve=answering(data))
    with enough, trio.move_on_after(1):
        stream = await peer.stream(PUSH, data)
        stream.send_eof()
        await read_to_end(stream)


def someones_addresses(count: int) -> list[bytes]:
    """TCP addresses of other people, in their wire form."""
    return [
        Multiaddr(f"/ip4/198.51.{n // 250 % 250}.{n % 250 + 1}/tcp/{n % 60000 + 1}").to_bytes() for n in range(count)
    ]


async def claim(stream: YamuxStream, *protocols: str) -> None:
    """Answer identify: all that is served here are `protocols`."""
    said = Identify(protocols=protocols, agent_version="aicn/hostile")
    await stream.send_all(proposal(IDENTIFY) + message(said.SerializeToString()))
    stream.send_eof()


@abuse
async def identify_of_megabytes(attacker: Attacker) -> None:
    """An answer of 16 MiB, announced or not."""
    for announced in (1 << 24, 1 << 62, 1 << 20):
        await attacker.peer(serve=answering(varint(announced) + bytes(1 << 20)))
    await trio.sleep(POUR_S)


@abuse
async def identify_of_junk(attacker: Attacker) -> None:
    """Answers that are no protobuf."""
    for _ in range(10):
        await attacker.peer(serve=answering(message(os.urandom(1000))))


@abuse
async def identify_never_answers(attacker: Attacker) -> None:
    """Twenty peers that take the question and keep silent."""

    async def silent(stream: YamuxStream) -> None:
        await stream.receive_some()
        await trio.sleep_forever()

    for _ in range(20):
        await attacker.peer(serve=silent)


@abuse
async def ten_thousand_addresses(attacker: Attacker) -> None:
    """A peer that lives everywhere."""
    await is_told(attacker, Identify(listen_addrs=someones_addresses(10_000)))


@abuse
async def junk_addresses(attacker: Attacker) -> None:
    """Addresses that are none, and an observed address of nonsense."""
    junk = [os.urandom(size) for size in range(1, 60)]
    await is_told(attacker, Identify(listen_addrs=junk, observed_addr=os.urandom(40)))


@abuse
async def address_without_end(attacker: Attacker) -> None:
    """Addresses of 60 KB in which no number ends: the library needs 0.15 s for each, unless nobody asks it."""
    endless = Identify(listen_addrs=[b"\xff" * 60_000], observed_addr=b"\xff" * 4_000)
    with trio.fail_after(3):
        for _ in range(30):
            await is_told(attacker, endless)


@abuse
async def observed_at_the_moon(attacker: Attacker) -> None:
    """Many peers that agree on where the victim is, which is where somebody else is: never one of its addresses."""
    elsewhere = Multiaddr("/ip4/203.0.113.9/tcp/6001")
    for _ in range(10):
        await is_told(attacker, Identify(observed_addr=elsewhere.to_bytes()))
    info = await attacker.victim_info()
    assert not [one for one in info["addresses"] if "203.0.113.9" in one]


@abuse
async def endless_protocols(attacker: Attacker) -> None:
    """A peer that speaks everything: a hundred thousand protocols."""
    await is_told(attacker, Identify(protocols=[f"/p/{number}" for number in range(100_000)]))


@abuse
async def huge_agent(attacker: Attacker) -> None:
    """Versions of half a megabyte, with control characters."""
    await is_told(attacker, Identify(agent_version="\x1b[2J" * 100_000, protocol_version="v" * 400_000))


@abuse
async def key_of_another(attacker: Attacker) -> None:
    """The public key of somebody else, and one that is junk."""
    await is_told(attacker, Identify(public_key=new_key().public_key.serialize()))
    await is_told(attacker, Identify(public_key=os.urandom(500)))


@abuse
async def record_of_another(attacker: Attacker) -> None:
    """A signed peer record that is junk."""
    await is_told(attacker, Identify(signedPeerRecord=os.urandom(5000)))


@abuse
async def push_flood(attacker: Attacker) -> None:
    """Pushes without a pause, each with other addresses."""
    peer = await attacker.peer()
    with trio.move_on_after(3 * POUR_S):
        for number in range(500):
            claim = Identify(listen_addrs=someones_addresses(number % 40))
            (await peer.stream(PUSH, message(claim.SerializeToString()))).send_eof()


@abuse
async def endless_push(attacker: Attacker) -> None:
    """One push that never ends, one of a gigabyte."""
    peer = await attacker.peer()
    for size in (1 << 20, 1 << 30, 1 << 62):
        with enough, trio.move_on_after(POUR_S):
            stream = await peer.stream(PUSH, varint(size))
            while True:
                await stream.send_all(bytes(10_000))


@abuse
async def thousand_questions(attacker: Attacker) -> None:
    """Who the victim is, asked a thousand times and not listened to."""
    peer = await attacker.peer()
    with trio.move_on_after(3 * POUR_S):
        for _ in range(1000):
            await peer.stream(IDENTIFY)
