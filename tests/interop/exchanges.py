"""What both sides of an interop test serve and ask for on streams: our half. The Go half is tests/interop/go/streams.go."""

from __future__ import annotations

import hashlib
import os
from typing import Literal

import trio
from libp2p.identity.identify.pb.identify_pb2 import Identify

from aicn.errors import AnswerBroken
from aicn.p2p.host import Host
from aicn.p2p.stream import Stream

ECHO = "/interop/echo/1"  # sends back what comes, to the end
SINK = "/interop/sink/1"  # reads to the end, answers the SHA-256 in hex
LAZY = "/interop/lazy/1"  # a sink that begins to read after LAZY_S
SOURCE = "/interop/source/1"  # reads a size (uint64, big endian), sends as many bytes and their SHA-256
RESET = "/interop/reset/1"  # reads 5 bytes, sends "part", resets as soon as the peer has said that it has them
WATCH = "/interop/watch/1"  # sends the first byte back, reads to the end, remembers how it ended
PING = "/ipfs/ping/1.0.0"
IDENTIFY = "/ipfs/id/1.0.0"
LAZY_S = 6.0  # longer than the five seconds after which stock py-libp2p gives up
DEADLINE_S = 60  # of one exchange, on a loaded machine

Ending = Literal["end", "reset"]


class Exchanges:
    """Serves the protocols on a host, and uses a peer's."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._send_ending, self.endings = trio.open_memory_channel[tuple[int, Ending]](100)  # bytes read by the watch
        for protocol, handler in (
            (ECHO, _echo),
            (SINK, _sink),
            (LAZY, _lazy_sink),
            (SOURCE, _source),
            (RESET, _reset_halfway),
            (WATCH, self._watch),
        ):
            host.serve(protocol, handler)

    async def _watch(self, stream: Stream) -> None:
        data = await stream.receive_some()
        await stream.send_all(data[:1])
        size, ending = await read_to_end(stream)
        self._send_ending.send_nowait((len(data) + len(size), ending))

    async def ending(self) -> tuple[int, Ending]:
        """How the next stream of our watch ended, and after how many bytes."""
        with trio.fail_after(DEADLINE_S):
            return await self.endings.receive()

    async def upload(self, peer: str, size: int, protocol: str = SINK) -> None:
        """Send `size` bytes to a sink; it must have read exactly them."""
        data = os.urandom(size)
        with trio.fail_after(DEADLINE_S):
            stream = await self._host.open_stream(peer, protocol)
            await stream.send_all(data)
            await stream.send_eof()
            answer, ending = await read_to_end(stream)
        assert (answer.decode(), ending) == (hashlib.sha256(data).hexdigest(), "end")

    async def download(self, peer: str, size: int, *, pause_s: float = 0) -> None:
        """Ask a source for `size` bytes, and read them after a pause."""
        with trio.fail_after(DEADLINE_S):
            stream = await self._host.open_stream(peer, SOURCE)
            await stream.send_all(size.to_bytes(8, "big"))
            await trio.sleep(pause_s)
            data, ending = await read_to_end(stream)
        assert (len(data), ending) == (size + 32, "end")
        assert hashlib.sha256(data[:size]).digest() == data[size:]
        await stream.finish()

    async def echo(self, peer: str, *, count: int, size: int) -> None:
        """Have `count` streams open at once, and send `size` bytes there and back on each."""
        with trio.fail_after(DEADLINE_S):
            streams = [await self._host.open_stream(peer, ECHO) for _ in range(count)]
            async with trio.open_nursery() as nursery:
                for stream in streams:
                    nursery.start_soon(_send_and_compare, stream, os.urandom(size))

    async def ask_for_reset(self, peer: str) -> tuple[bytes, Ending]:
        """What a peer sends that resets halfway, and how that looks."""
        with trio.fail_after(DEADLINE_S):
            stream = await self._host.open_stream(peer, RESET)
            await stream.send_all(b"hello")
            part = await stream.receive_some()
            await stream.send_all(b"!")
            rest, ending = await read_to_end(stream)
        return part + rest, ending

    async def leave(self, peer: str, size: int, *, how: Literal["abandon", "finish"]) -> None:
        """Send `size` bytes to the peer's watch; once it reads, reset the stream or end it."""
        with trio.fail_after(DEADLINE_S):
            stream = await self._host.open_stream(peer, WATCH)
            await stream.send_all(os.urandom(size))
            assert len(await stream.receive_some()) == 1
            if how == "abandon":
                stream.reset()
            else:
                await stream.finish()

    async def ping(self, peer: str, count: int) -> None:
        """The libp2p ping protocol (spec ping/ping.md): 32 bytes come back."""
        with trio.fail_after(DEADLINE_S):
            stream = await self._host.open_stream(peer, PING)
            for _ in range(count):
                payload = os.urandom(32)
                await stream.send_all(payload)
                assert await read_exactly(stream, 32) == payload
            await stream.finish()

    async def identify(self, peer: str) -> Identify:
        """What the peer tells of itself when asked (spec identify/README.md): one length-prefixed message."""
        with trio.fail_after(DEADLINE_S):
            stream = await self._host.open_stream(peer, IDENTIFY)
            data, ending = await read_to_end(stream)
        assert ending == "end"
        size = next(number for number, byte in enumerate(data, start=1) if byte < 0x80)  # bytes of the prefix
        return Identify.FromString(data[size:])


async def read_to_end(stream: Stream) -> tuple[bytes, Ending]:
    """All that comes, and whether the peer has finished or reset."""
    data = bytearray()
    try:
        while part := await stream.receive_some():
            data += part
    except AnswerBroken:
        return bytes(data), "reset"
    return bytes(data), "end"


async def read_exactly(stream: Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await stream.receive_some(size - len(data))
        assert part, "the stream has ended"
        data += part
    return data


async def _send_and_compare(stream: Stream, data: bytes) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_and_finish, stream, data)
        back, ending = await read_to_end(stream)
    assert ending == "end"
    assert back == data


async def _send_and_finish(stream: Stream, data: bytes) -> None:
    await stream.send_all(data)
    await stream.send_eof()


async def _echo(stream: Stream) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)


async def _sink(stream: Stream) -> None:
    digest = hashlib.sha256()
    while data := await stream.receive_some():
        digest.update(data)
    await stream.send_all(digest.hexdigest().encode())


async def _lazy_sink(stream: Stream) -> None:
    await trio.sleep(LAZY_S)
    await _sink(stream)


async def _source(stream: Stream) -> None:
    data = os.urandom(int.from_bytes(await read_exactly(stream, 8), "big"))
    await stream.send_all(data + hashlib.sha256(data).digest())


async def _reset_halfway(stream: Stream) -> None:
    await read_exactly(stream, 5)
    await stream.send_all(b"part")
    await read_exactly(stream, 1)  # the peer has read the part: a reset may overtake data
    stream.reset()
