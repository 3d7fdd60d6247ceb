"""The muxer on memory streams in the place of secured connections; once against py-libp2p's own Yamux."""

import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from libp2p.abc import ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamReset,
)
from libp2p.stream_muxer.yamux.yamux import Yamux as StockYamux

from aicn.p2p import muxer
from aicn.p2p.muxed_stream import ConnectionLost, YamuxStream
from aicn.p2p.muxer import KeepAlive, Yamux
from aicn.p2p.yamux import ACK, DATA, GO_AWAY, HEADER, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE, Limits

PEER = ID(b"\x00\x01a")


class MemoryConn(ISecureConn):
    """One end of a pipe, with the manners of py-libp2p's SecureSession: `read` raises at the end."""

    def __init__(self, stream: trio.StapledStream, *, is_initiator: bool) -> None:
        self.stream = stream
        self.is_initiator = is_initiator
        self.writes: list[int] = []
        self.frozen = False

    async def write(self, data: bytes) -> None:
        self.writes.append(len(data))
        await self.stream.send_all(data)

    async def read(self, n: int | None = None) -> bytes:
        data = await self.stream.receive_some(n or 65_519)
        if self.frozen:
            await trio.sleep_forever()
        if not data:
            raise ConnectionClosedError("closed")
        return bytes(data)

    async def close(self) -> None:
        await self.stream.aclose()

    def get_remote_address(self) -> tuple[str, int] | None:
        return ("192.0.2.1", 4001)

    def get_transport_addresses(self) -> list:
        return []

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.DIRECT

    def get_local_peer(self) -> ID:
        return PEER

    def get_local_private_key(self):
        raise AssertionError("the muxer has no use for keys")

    get_remote_peer = get_local_peer
    get_remote_public_key = get_local_private_key


def pipe() -> tuple[MemoryConn, MemoryConn]:
    ours, theirs = trio.testing.memory_stream_pair()
    return MemoryConn(ours, is_initiator=True), MemoryConn(theirs, is_initiator=False)


@asynccontextmanager
async def running(*conns: Yamux | StockYamux) -> AsyncIterator[None]:
    """The connections with their tasks; at the end, all of them must come to an end by themselves."""
    async with trio.open_nursery() as nursery:
        for conn in conns:
            nursery.start_soon(conn.start)
        for conn in conns:
            await conn.event_started.wait()
        yield
        with trio.fail_after(20):
            for conn in conns:
                await conn.close()


@asynccontextmanager
async def pair(**options) -> AsyncIterator[tuple[Yamux, Yamux]]:
    here, there = (Yamux(conn, PEER, **options) for conn in pipe())
    async with running(here, there):
        yield here, there
    for conn in (here, there):
        assert conn.is_closed
        assert not conn.streams
        assert not conn.session.unread


async def connected(here: Yamux, there: Yamux, first: bytes = b"x") -> tuple[YamuxStream, YamuxStream]:
    """A stream and its other end; the first byte has been read."""
    stream = await here.open_stream()
    await stream.send_all(first)
    other = await there.accept_stream()
    assert await other.receive_some() == first
    return stream, other


async def read_all(stream: YamuxStream) -> bytes:
    received = bytearray()
    while data := await stream.receive_some():
        received += data
    return bytes(received)


async def echo(conn: Yamux, count: int) -> None:
    async def serve(stream: YamuxStream) -> None:
        while data := await stream.receive_some():
            await stream.send_all(data)
        stream.send_eof()

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(serve, await conn.accept_stream())


async def test_hundred_streams_at_once_arrive_unharmed():
    async def talk(conn: Yamux, seed: int) -> None:
        generator = random.Random(seed)
        data = generator.randbytes(generator.randrange(1, 500_000))
        stream = await conn.open_stream()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for start in range(0, len(data), 50_000):
                    await stream.send_all(data[start : start + 50_000])
                stream.send_eof()

            nursery.start_soon(send)
            assert await read_all(stream) == data
        assert stream.at_eof
        assert stream.ended

    async with pair() as (here, there), trio.open_nursery() as nursery:
        nursery.start_soon(echo, there, 100)
        for seed in range(100):
            nursery.start_soon(talk, here, seed)
