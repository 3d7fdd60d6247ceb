"""Real p2p hosts on loopback, and strangers that speak only a part of the protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection

from aicn.config.schema import P2P
from aicn.p2p import fixes
from aicn.p2p.addresses import split_peer
from aicn.p2p.host import Host, open_host
from aicn.p2p.identity import Key, generate_key, parse_key
from aicn.p2p.muxer import Yamux
from aicn.p2p.stream import Stream
from aicn.p2p.upgrade import Upgrader

CONFIG = P2P(listen=("/ip4/127.0.0.1/tcp/0",), dht_mode="client", dial_s=5.0)

ECHO = "/test/echo/1"
PEER_OF_NOBODY = "16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq"


@asynccontextmanager
async def open_test_host(config: P2P = CONFIG, key: Key | None = None, **changes: object) -> AsyncIterator[Host]:
    """A host, with a key of its own unless one is given, that is a member of its topic."""
    config = replace(config, **changes)
    async with open_host(config, key or parse_key(generate_key()), agent_version="aicn/test") as host:
        host.topics.join(config.topic, lambda _message: True)
        yield host


def full_address(host: Host) -> str:
    return f"{host.addresses()[0]}/p2p/{host.id}"


def port_of(host: Host) -> int:
    return int(host.addresses()[0].rsplit("/", 1)[1])


async def read_all(stream: Stream) -> bytes:
    data = b""
    while part := await stream.receive_some():
        data += part
    return data


async def echo(stream: Stream) -> None:
    await stream.send_all(await read_all(stream))


async def exchange(host: Host, peer: Host, data: bytes = b"hello", protocol: str = ECHO) -> bytes:
    with trio.fail_after(5):
        stream = await host.open_stream(peer.id, protocol)
        await stream.send_all(data)
        await stream.send_eof()
        return await read_all(stream)


class Stranger:
    """A peer that connects and says on streams whatever it likes."""

    def __init__(self, muxer: Yamux) -> None:
        self.muxer = muxer

    @classmethod
    async def connect(cls, host: Host, nursery: trio.Nursery) -> Stranger:
        fixes.apply()
        peer, address = split_peer(full_address(host))
        stream = await trio.open_tcp_stream("127.0.0.1", int(str(address.value_for_protocol("tcp"))))
        upgrader = Upgrader(create_new_key_pair(), psk=None, streams_per_connection=1000)
        try:
            muxer = await upgrader.outbound(RawConnection(TrioTCPStream(stream), True), peer)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        nursery.start_soon(muxer.start)
        await muxer.event_started.wait()
        return cls(muxer)


async def until(condition: object, *, seconds: float = 5.0) -> None:
    """Wait until `condition()` is true; only for what no event tells, on the real clock of real sockets."""
    assert callable(condition)
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.01)
