"""What abuses are made of: strangers to one victim, on every layer from the bare socket up."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
import trio
from libp2p.abc import ISecureConn
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.secp256k1 import Secp256k1PrivateKey
from libp2p.crypto.secp256k1 import create_new_key_pair as new_key
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnError

from aicn.errors import AicnError
from aicn.p2p import multistream
from aicn.p2p.identity import load_key
from aicn.p2p.muxed_stream import YamuxStream
from aicn.p2p.muxer import Yamux
from aicn.p2p.upgrade import Upgrader
from aicn.p2p.yamux import HEADER
from tests.hostile.victim import Victim

FROM = "127.0.0.66"  # where attackers come from; honest peers come from 127.0.0.1
STREAMS = 4096  # that an attacker accepts
_GONE_S = 5.0  # for the victim to close what it must close at once

Serve = Callable[[YamuxStream], Awaitable[None]]

# What an abuser meets when the victim has had enough of it.
THROWN_OUT = (BaseLibp2pError, trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class TurnedAway(AssertionError):
    """The victim did not let the attacker in, without which the abuse would test nothing."""


def frame(kind: int, flags: int, stream: int, length: int, body: bytes = b"") -> bytes:
    """A yamux frame, whatever its header says of its body."""
    return HEADER.pack(0, kind, flags, stream, length) + body


def varint(number: int) -> bytes:
    """LEB128."""
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*data, number))


def message(payload: bytes) -> bytes:
    """`payload` with its length in front, as all of libp2p's protocols have it."""
    return varint(len(payload)) + payload


class Peer:
    """An attacker after a correct handshake, with a correct muxer: says on streams whatever it likes."""

    def __init__(self, muxer: Yamux) -> None:
        self.muxer = muxer

    async def stream(self, protocol: str = "", data: bytes = b"") -> YamuxStream:
        """A new stream on which `protocol`, if any, is proposed with `data` behind it."""
        stream = await self.muxer.open_stream()
        await stream.send_all((multistream.proposal(protocol) if protocol else b"") + data)
        return stream

    async def ask(self, protocol: str, data: bytes) -> bytes:
        """All that the victim answers to `data` on a stream of `protocol`, its agreement taken off."""
        stream = await self.stream(protocol, data)
        stream.send_eof()
        return (await read_to_end(stream)).removeprefix(multistream.proposal(protocol))

    async def is_thrown_out(self) -> None:
        """The victim ends the connection now."""
        with trio.fail_after(_GONE_S):
            await self.muxer.event_closed.wait()


enough = suppress(*THROWN_OUT)  # around one of several tries: the victim may end what it was made on


async def read_to_end(stream: YamuxStream) -> bytes:
    """All up to the clean end."""
    data = bytearray()
    while part := await stream.receive_some():
        data += part
    return bytes(data)


class Attacker:
    """One who abuses `victim`. All that it opens stays open until `open_attacker` ends."""

    def __init__(self, victim: Victim, nursery: trio.Nursery, stack: AsyncExitStack, client: httpx.AsyncClient) -> None:
        self.victim = victim
        self.nursery = nursery
        self._stack = stack
        self._client = client

    # ---- we call the victim ----

    async def tcp(self, hello: bytes = b"") -> trio.SocketStream:
        """A connection on which `hello` was said."""
        port = self.victim.started.port
        stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=FROM)
        self._stack.push_async_callback(trio.aclose_forcefully, stream)
        await stream.send_all(hello)
        return stream

    async def many(self, count: int, hello: bytes) -> list[trio.SocketStream]:
        """`count` connections on which `hello` was said."""
        return [await self.tcp(hello) for _ in range(count)]

    async def session(self, key: KeyPair | None = None) -> ISecureConn:
        """A connection after a correct handshake, on which raw yamux frames can be written."""
        return (await self._upgraded(key or new_key())).secured_conn

    async def peer(self, key: KeyPair | None = None, serve: Serve | None = None) -> Peer:
        """A correct connection, kept by a correct muxer; `serve` gets the streams that the victim opens."""
        muxer = await self._upgraded(key or new_key())
        await self._start(muxer, serve)
        return Peer(muxer)

    async def _upgraded(self, key: KeyPair) -> Yamux:
        raw = RawConnection(TrioTCPStream(await self.tcp()), True)
        upgrader = Upgrader(key, psk=self.victim.psk, streams_per_connection=STREAMS)
        try:
            return await upgrader.outbound(raw, ID.from_base58(self.victim.started.peer_id))
        except (AicnError, *THROWN_OUT) as error:
            raise TurnedAway(repr(error)) from error

    async def _start(self, muxer: Yamux, serve: Serve | None) -> None:
        self.nursery.start_soon(muxer.start)
        await muxer.event_started.wait()
        if serve is not None:
            self.nursery.start_soon(self._accept, muxer, serve)

    async def _accept(self, muxer: Yamux, serve: Serve) -> None:
        while not muxer.is_closed:
            try:
                stream = await muxer.accept_stream()
            except MuxedConnError:
                return
            self.nursery.start_soon(_contained, serve, stream)

    def own_key_of_victim(self) -> KeyPair:
        """The victim's private key."""
        private = Secp256k1PrivateKey.new(load_key(self.victim.directory / "peer.key").secret)
        return KeyPair(private, private.get_public_key())

    # ---- the victim calls us ----

    async def listen(self, serve: Callable[[trio.SocketStream], Awaitable[None]]) -> str:
        """A TCP server; its multiaddr without a peer id."""
        listeners = await trio.open_tcp_listeners(0, host=FROM)
        self.nursery.start_soon(trio.serve_listeners, lambda stream: _contained(serve, stream), listeners)
        return f"/ip4/{FROM}/tcp/{listeners[0].socket.getsockname()[1]}"

    async def listen_as(self, key: KeyPair, serve: Serve) -> str:
        """A correct peer with `key` whose streams are served by `serve`; its multiaddr without the peer id."""
        upgrader = Upgrader(key, psk=self.victim.psk, streams_per_connection=STREAMS)

        async def upgrade(stream: trio.SocketStream) -> None:
            muxer = await upgrader.inbound(RawConnection(TrioTCPStream(stream), False))
            await self._start(muxer, serve)
            await muxer.event_closed.wait()

        return await self.listen(upgrade)

    async def post(self, path: str, body: object) -> httpx.Response:
        """A call of the victim's own user to its HTTP API."""
        return await self._client.post(f"{self.victim.started.url}{path}", json=body)

    async def victim_info(self) -> dict[str, Any]:
        """What the victim says of itself."""
        response = await self._client.get(f"{self.victim.started.url}/id")
        info: dict[str, Any] = response.json()
        return info

    async def wants_to_connect(self, address: str) -> httpx.Response:
        """The victim's user dials `address`."""
        return await self.post("/swarm/connect", {"node_addr": address})


async def _contained(serve: Callable[..., Awaitable[None]], stream: YamuxStream | trio.SocketStream) -> None:
    """Run one of the attacker's servers; that the victim throws it out is no failure of the test."""
    try:
        await serve(stream)
    except (AicnError, *THROWN_OUT):
        pass


@asynccontextmanager
async def open_attacker(victim: Victim) -> AsyncIterator[Attacker]:
    """An attacker whose connections end with the block, by reset, without a word."""
    async with (
        AsyncExitStack() as stack,
        httpx.AsyncClient(timeout=30, trust_env=False) as client,
        trio.open_nursery() as nursery,
    ):
        yield Attacker(victim, nursery, stack, client)
        nursery.cancel_scope.cancel()


def connect_and_reset(port: int, count: int) -> None:
    """`count` TCP connections, each reset at once: without the TIME_WAIT that would use up our ports. Runs in a thread."""
    for _ in range(count):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.bind((FROM, 0))
            sock.connect(("127.0.0.1", port))
