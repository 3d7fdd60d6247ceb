"""py-libp2p as it comes, under the loads: no correction of ours is imported in this process."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as new_noise_key
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.relay.circuit_v2.config import RelayConfig, RelayRole
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID as HOP
from libp2p.relay.circuit_v2.protocol import CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from bench.p2p.stack import LISTEN, PLACE_S, Handler, Node, Relay, Stream

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
    def __init__(self, host: IHost, circuits: CircuitV2Transport | None, through: str) -> None:
        self._host = host
        self._circuits = circuits
        self._through = through

    @property
    def address(self) -> str:
        if self._through:
            return f"{self._through}/p2p-circuit/p2p/{self._host.get_id()}"
        return str(self._host.get_addrs()[0])

    async def connect(self, address: str) -> None:
        if "/p2p-circuit" not in address:
            await self._host.connect(info_from_p2p_addr(Multiaddr(address)))
        else:
            assert self._circuits is not None, "a host without relay"
            await self.connect(address.partition("/p2p-circuit")[0])
            await self._circuits.dial(Multiaddr(address))

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
async def open_node(*, relay: Relay = "none", through: str = "") -> AsyncIterator[Node]:
    """A host with noise and yamux, as ours has; everything else is the library's default."""
    assert not any(name.startswith("aicn") for name in sys.modules), "stock is measured without us"
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it tells of each connection that ends
    keys = create_new_key_pair()
    security = {TProtocol(NOISE): Noise(keys, noise_privkey=new_noise_key().private_key)}
    host = new_host(key_pair=keys, sec_opt=security)
    with trio.CancelScope() as scope:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(host.run([Multiaddr(LISTEN)]))
            circuits = None if relay == "none" else await stack.enter_async_context(_circuits(host, relay))
            node = StockNode(host, circuits, through)
            if circuits is not None and through:
                await node.connect(through)
                await _reserve(host, circuits, through, await stack.enter_async_context(trio.open_nursery()))
            yield node
            scope.cancel()  # its own way out closes connection by connection, 0.2 s each


@asynccontextmanager
async def _circuits(host: IHost, relay: Relay) -> AsyncIterator[CircuitV2Transport]:
    """What new_host() does not do: the relay's service, and its clients'."""
    limits = RelayLimits(duration=3600, data=1 << 40, max_circuit_conns=64, max_reservations=64)
    own = RelayRole.HOP if relay == "serve" else RelayRole.CLIENT
    protocol = CircuitV2Protocol(host, limits=limits, allow_hop=relay == "serve")
    async with background_trio_service(protocol):
        await protocol.event_started.wait()
        yield CircuitV2Transport(host, protocol, RelayConfig(roles=RelayRole.STOP | own, limits=limits))


async def _reserve(host: IHost, circuits: CircuitV2Transport, through: str, nursery: trio.Nursery) -> None:
    """Get a place with the relay, which the nursery then keeps."""
    peer = info_from_p2p_addr(Multiaddr(through)).peer_id
    with trio.fail_after(PLACE_S):
        stream = await host.new_stream(peer, [HOP])
        assert await circuits.reserve(stream, peer, nursery), "the relay has no place"
