"""aicn.p2p under the loads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from aicn.config.schema import P2P
from aicn.domain.ids import PeerId
from aicn.p2p.host import Host, open_host
from aicn.p2p.identity import generate_key, parse_key
from aicn.p2p.stream import Stream as PeerStream
from bench.p2p.stack import LISTEN, PLACE_S, Handler, Node, Relay, Stream


class OurStream:
    """Aborts where PeerStream resets; everything else has the same name."""

    def __init__(self, stream: PeerStream) -> None:
        self.send_all = stream.send_all
        self.send_eof = stream.send_eof
        self.receive_some = stream.receive_some
        self.finish = stream.finish
        self._reset = stream.reset

    async def abort(self) -> None:
        self._reset()


class OurNode:
    def __init__(self, host: Host, through: str) -> None:
        self._host = host
        self._through = through

    @property
    def address(self) -> str:
        if self._through:
            return f"{self._through}/p2p-circuit/p2p/{self._host.id}"
        return f"{self._host.addresses()[0]}/p2p/{self._host.id}"

    async def connect(self, address: str) -> None:
        await self._host.connect(address)

    async def open_stream(self, address: str, protocol: str) -> Stream:
        return OurStream(await self._host.open_stream(PeerId(address.rpartition("/")[2]), protocol))

    def serve(self, protocol: str, handler: Handler) -> None:
        async def serve(stream: PeerStream) -> None:
            await handler(OurStream(stream))

        self._host.serve(protocol, serve)


@asynccontextmanager
async def open_node(*, relay: Relay = "none", through: str = "") -> AsyncIterator[Node]:
    """A host without DHT; pubsub and identify run as they always do."""
    config = P2P(
        listen=(LISTEN,),
        dht_mode="none",
        relay_service=relay == "serve",
        relays=(through,) if through else (),
        relay_client="on" if through else "off",
    )
    async with open_host(config, parse_key(generate_key()), agent_version="aicn/bench") as host:
        if through:
            with trio.fail_after(PLACE_S):
                while not any("/p2p-circuit" in address for address in host.addresses()):  # noqa: ASYNC110 - only here
                    await trio.sleep(0.05)
        yield OurNode(host, through)
