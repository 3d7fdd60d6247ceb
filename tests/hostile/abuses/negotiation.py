"""Abuses of multistream-select on streams, and of ping."""

from __future__ import annotations

import os

import trio

from aicn.p2p.multistream import HEADER, encode, proposal
from aicn.p2p.muxed_stream import YamuxStream
from tests.hostile.attacker import THROWN_OUT, Attacker, varint
from tests.hostile.table import POUR_S, abuse

PING = "/ipfs/ping/1.0.0"
PROTOCOLS = (
    PING,
    "/ipfs/id/1.0.0",
    "/ipfs/id/push/1.0.0",
    "/meshsub/1.1.0",
    "/floodsub/1.0.0",
    "/dbc/kad/1.0.0",
    "/aicn/inference/1.0.0",
    "/aicn/control/1.0.0",
)


async def is_reset(stream: YamuxStream) -> None:
    """The victim ends the stream, cleanly or not; its connection lives."""
    with trio.fail_after(5):
        try:
            while await stream.receive_some():
                pass
        except THROWN_OUT:
            pass
    assert not stream.muxed_conn.is_closed


@abuse
async def thousand_protocols(attacker: Attacker) -> None:
    """Names of protocols on one stream until the victim has had enough, which is soon."""
    stream = await (await attacker.peer()).stream("", HEADER)
    await stream.send_all(b"".join(encode(f"/none/{number}") for number in range(1000)))
    await is_reset(stream)


@abuse
async def ls_on_streams(attacker: Attacker) -> None:
    """`ls` on many streams."""
    peer = await attacker.peer()
    for _ in range(100):
        await is_reset(await peer.stream("", HEADER + encode("ls") * 100))


@abuse
async def huge_protocol_name(attacker: Attacker) -> None:
    """A name of a megabyte."""
    stream = await (await attacker.peer()).stream("", HEADER + varint(1 << 20))
    await is_reset(stream)


@abuse
async def protocol_names_without_newline(attacker: Attacker) -> None:
    """Messages that do not end as they must, or are no text."""
    peer = await attacker.peer()
    for text in (b"\x05/ping", b"\x00", b"\x02\xff\n", b"\xff\xff\xff\xff\x01"):
        await is_reset(await peer.stream("", HEADER + text))


@abuse
async def other_greetings(attacker: Attacker) -> None:
    """Streams that begin with a request of HTTP, with JSON, with nothing but newlines."""
    peer = await attacker.peer()
    for text in (b"GET / HTTP/1.1\r\n\r\n", b'{"model": 1}', b"\n" * 1000):
        await is_reset(await peer.stream("", text))


@abuse
async def streams_without_a_protocol(attacker: Attacker) -> None:
    """More streams than may negotiate, all of them silent after half a greeting."""
    peer = await attacker.peer()
    for _ in range(1500):
        await peer.stream("", HEADER[:5])


@abuse
async def every_protocol_and_no_word(attacker: Attacker) -> None:
    """Each protocol is opened by the hundred, and nothing is said on it."""
    peer = await attacker.peer()
    for protocol in PROTOCOLS:
        for _ in range(100):
            await peer.stream(protocol)


@abuse
async def protocol_byte_by_byte(attacker: Attacker) -> None:
    """Slow loris on streams."""
    peer = await attacker.peer()
    streams = [await peer.stream("") for _ in range(50)]
    with trio.move_on_after(POUR_S):
        for byte in proposal(PING):
            for stream in streams:
                await stream.send_all(bytes((byte,)))
            await trio.sleep(0.02)


@abuse
async def hang_up_while_negotiating(attacker: Attacker) -> None:
    """Every prefix of a good beginning, and then the end of the stream."""
    peer = await attacker.peer()
    hello = proposal(PING) + bytes(32)
    for size in range(len(hello)):
        (await peer.stream("", hello[:size])).send_eof()
        (await peer.stream("", hello[:size])).abort()


@abuse
async def endless_ping(attacker: Attacker) -> None:
    """Pings without a pause, the echo never read."""
    stream = await (await attacker.peer()).stream(PING)
    with trio.move_on_after(POUR_S):
        while True:
            await stream.send_all(os.urandom(32) * 100)


@abuse
async def pings_of_odd_sizes(attacker: Attacker) -> None:
    """Less than a ping, more than a ping, and a megabyte."""
    peer = await attacker.peer()
    for size in (1, 31, 33, 1000):
        stream = await peer.stream(PING, bytes(size))
        stream.send_eof()
        await is_reset(stream)
    stream = await peer.stream(PING)
    with trio.move_on_after(POUR_S):
        await stream.send_all(bytes(1 << 20))
