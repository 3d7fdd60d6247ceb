"""A connection that both ends have dialled: whichever side the peer takes, we take the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from libp2p.abc import IRawConnection
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.io.trio import TrioTCPStream
from libp2p.peer.id import ID

from aicn.errors import ProtocolViolation
from aicn.p2p import fixes, multistream
from aicn.p2p.muxer import Yamux
from aicn.p2p.tcp import TcpConnection
from aicn.p2p.upgrade import Upgrader, meet

PATIENT, IMPATIENT = 1.0, 0.1  # seconds


class Side:
    """One end, with a key of its own."""

    def __init__(self, raw: TcpConnection, psk: bytes | None) -> None:
        keys = create_new_key_pair()
        self.raw = raw
        self.peer = ID.from_pubkey(keys.public_key)
        self.upgrader = Upgrader(keys, psk=psk, streams_per_connection=10)


@asynccontextmanager
async def two_sides(psk: bytes | None = None) -> AsyncIterator[tuple[Side, Side]]:
    fixes.apply()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        dialling = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        async with dialling, await listener.accept() as accepted:
            yield (
                Side(TcpConnection(TrioTCPStream(dialling), initiator=True), psk),
                Side(TcpConnection(TrioTCPStream(accepted), initiator=True), psk),
            )


Upgrade = Callable[[IRawConnection], Awaitable[Yamux]]


async def upgrade(ours: Upgrade, our: Side, theirs: Upgrade, their: Side) -> tuple[Yamux, Yamux]:
    done: dict[int, Yamux] = {}

    async def one(number: int, how: Upgrade, side: Side) -> None:
        done[number] = await how(side.raw)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, 0, ours, our)
            nursery.start_soon(one, 1, theirs, their)
    return done[0], done[1]


def as_client(side: Side, other: Side) -> Upgrade:
    return partial(side.upgrader.outbound, peer=other.peer)


def as_either(side: Side, other: Side, patience_s: float) -> Upgrade:
    return partial(side.upgrader.simultaneous, peer=other.peer, patience_s=patience_s)


@pytest.mark.parametrize("psk", [None, bytes(range(32))])
async def test_two_who_take_either_side(psk: bytes | None) -> None:
    async with two_sides(psk) as (a, b):
        first, second = await upgrade(as_either(a, b, PATIENT), a, as_either(b, a, IMPATIENT), b)
        assert (first.peer_id, second.peer_id) == (b.peer, a.peer)
        assert (first.is_initiator, second.is_initiator) == (False, True)  # who waits longer answers


@pytest.mark.parametrize("patience_s", [PATIENT, IMPATIENT])
async def test_the_peer_takes_itself_for_the_client(patience_s: float) -> None:
    async with two_sides() as (a, b):
        first, second = await upgrade(as_either(a, b, patience_s), a, as_client(b, a), b)
        assert (first.is_initiator, second.is_initiator) == (False, True)


@pytest.mark.parametrize("patience_s", [PATIENT, IMPATIENT])
async def test_the_peer_takes_itself_for_the_server(patience_s: float) -> None:
    async with two_sides() as (a, b):
        b.raw.is_initiator = False
        first, second = await upgrade(as_either(a, b, patience_s), a, b.upgrader.inbound, b)
        assert (first.is_initiator, second.is_initiator) == (True, False)


async def test_somebody_else_is_there() -> None:
    async with two_sides() as (a, b), trio.open_nursery() as nursery:
        nursery.start_soon(as_client(b, a), b.raw)
        with pytest.raises(ProtocolViolation, match=str(b.peer)), trio.fail_after(10):
            await a.upgrader.simultaneous(a.raw, a.peer, patience_s=PATIENT)
        nursery.cancel_scope.cancel()


async def test_junk_is_no_greeting() -> None:
    async with two_sides() as (a, b):
        await b.raw.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ProtocolViolation), trio.fail_after(5):
            await meet(a.raw, ("/noise",), PATIENT)


async def test_a_proposal_that_we_do_not_speak_may_be_followed_by_one_that_we_do() -> None:
    async with two_sides() as (a, b):
        await b.raw.write(multistream.proposal("/secio/1.0.0") + multistream.encode("/noise"))
        with trio.fail_after(5):
            assert await meet(a.raw, ("/noise",), PATIENT) == ("/noise", False)
