"""py-libp2p as it comes, under the loads: no correction of ours is imported in this process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as new_noise_key
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from multiaddr import Multiaddr

from bench.p2p.stack import LISTEN, Handler, Node, Stream

_READ = 1 << 18  # bytes; its read(None) waits for the end of the stream


class StockStream:
    def __init__(self, stream: Any) -> None:  # NetStream; its interface INetStream lacks close_write
        self._stream = stream
        self.send_all = stream.write
        self.send_eof = stream.close_write
        self.finish = stream.close
        self.abort = stream.reset

    async def receive_some(self) -> bytes:
        try:
            data: bytes = await self._stream.read(_READ)
        except StreamEOF:
            return b""
        return data


class StockNode:
    def __init__(self, host: IHost) -> None:
        self._host = host

    @property
    def address(self) -> str:
        return str(self._host.get_addrs()[0])

    async def connect(self, address: str) -> None:
        await self._host.connect(info_from_p2p_addr(Multiaddr(address)))

    async def open_stream(self, address: str, protocol: str) -> Stream:
        peer = info_from_p2p_addr(Multiaddr(address)).peer_id
        return StockStream(await self._host.new_stream(peer, [TProtocol(protocol)]))

    def serve(self, protocol: str, handler: Handler) -> None:
        async def serve(stream: Any) -> None:
            wrapped = StockStream(stream)
            try:
                await handler(wrapped)
                await wrapped.finish()
            except Exception as error:  # noqa: BLE001 - one that gets out ends stock's whole host
                print(f"stock server: {error!r}", file=sys.stderr)

        self._host.set_stream_handler(TProtocol(protocol), serve)


@asynccontextmanager
async def open_node() -> AsyncIterator[Node]:
    """A host with noise and yamux, as ours has; everything else is the library's default."""
    assert not any(name.startswith("aicn") for name in sys.modules), "stock is measured without us"
    keys = create_new_key_pair()
    security = {TProtocol(NOISE): Noise(keys, noise_privkey=new_noise_key().private_key)}
    host = new_host(key_pair=keys, sec_opt=security)
    with trio.CancelScope() as scope:
        async with host.run([Multiaddr(LISTEN)]):
            yield StockNode(host)
            scope.cancel()  # its own way out closes connection by connection, 0.2 s each
