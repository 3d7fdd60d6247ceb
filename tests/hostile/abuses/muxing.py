"""Abuses of yamux, in raw frames after a correct handshake."""

from __future__ import annotations

import os

import trio
from libp2p.abc import ISecureConn

from aicn.p2p.multistream import proposal
from aicn.p2p.yamux import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE
from aicn.wire import control
from tests.hostile.attacker import THROWN_OUT, Attacker, enough, frame
from tests.hostile.table import POUR_S, abuse

QUESTION = proposal(control.PROTOCOL) + control.encode_request(control.PROJECTS, None)
_AT_ONCE = 500  # frames in one write
_MOST = 65_519  # bytes of one noise record


async def say(session: ISecureConn, data: bytes) -> None:
    """Write `data`, in as many records as it needs."""
    for start in range(0, len(data), _MOST):
        await session.write(data[start : start + _MOST])


async def is_ended(session: ISecureConn) -> None:
    """The victim ends the connection now."""
    with trio.fail_after(5):
        try:
            while await session.read():
                pass
        except THROWN_OUT:
            pass


async def ends_with(attacker: Attacker, *frames: bytes) -> None:
    """A new connection on which `frames` are said is ended by the victim."""
    session = await attacker.session()
    await say(session, b"".join(frames))
    await is_ended(session)


async def pour(session: ISecureConn, data: bytes, *, reading: bool) -> None:
    """Say `data` again and again, reading what is answered or not, for a while or until the victim has had enough."""
    with trio.move_on_after(POUR_S):
        async with trio.open_nursery() as nursery:
            if reading:
                nursery.start_soon(_read, session)
            try:
                while True:
                    await session.write(data)
            except THROWN_OUT:
                nursery.cancel_scope.cancel()


async def _read(session: ISecureConn) -> None:
    try:
        while await session.read():
            pass
    except THROWN_OUT:
        pass  # the writer finds out too


@abuse
async def junk_instead_of_frames(attacker: Attacker) -> None:
    """Random bytes where frames should be."""
    for _ in range(10):
        await ends_with(attacker, b"\xff" + os.urandom(1000))


@abuse
async def frames_that_do_not_exist(attacker: Attacker) -> None:
    """A wrong version, an unknown type, unknown flags, a stream's frame without a stream, a PING for a stream."""
    await ends_with(attacker, b"\x01" + frame(DATA, SYN, 1, 0)[1:])
    await ends_with(attacker, frame(4, 0, 0, 0))
    await ends_with(attacker, frame(DATA, 0x8000, 1, 0))
    await ends_with(attacker, frame(DATA, SYN, 0, 0))
    await ends_with(attacker, frame(PING, SYN, 7, 1))
    await ends_with(attacker, frame(PING, FIN, 0, 1))


@abuse
async def frame_of_four_gigabytes(attacker: Attacker) -> None:
    """The largest length there is."""
    await ends_with(attacker, frame(DATA, SYN, 1, 0xFFFFFFFF, bytes(1000)))


@abuse
async def half_a_frame(attacker: Attacker) -> None:
    """Twenty connections that stop inside a frame of a megabyte."""
    for _ in range(20):
        session = await attacker.session()
        await say(session, frame(WINDOW_UPDATE, SYN, 1, 0) + frame(DATA, 0, 1, 1 << 20, bytes(200_000)))


@abuse
async def more_than_the_window(attacker: Attacker) -> None:
    """A frame of 300 KB where 256 KiB are the window."""
    await ends_with(attacker, frame(DATA, SYN, 1, 300_000, bytes(300_000)))


@abuse
async def window_overflow(attacker: Attacker) -> None:
    """Credit beyond what 32 bits hold."""
    await ends_with(attacker, frame(WINDOW_UPDATE, SYN, 1, 0xFFFFFFFF), frame(WINDOW_UPDATE, 0, 1, 0xFFFFFFFF))


@abuse
async def endless_credit(attacker: Attacker) -> None:
    """Credit of nothing, again and again."""
    session = await attacker.session()
    await session.write(frame(WINDOW_UPDATE, SYN, 1, 0))
    await pour(session, frame(WINDOW_UPDATE, 0, 1, 0) * _AT_ONCE, reading=True)


@abuse
async def stream_id_again(attacker: Attacker) -> None:
    """An id opened twice, while it is open and after it has ended."""
    await ends_with(attacker, frame(WINDOW_UPDATE, SYN, 1, 0), frame(WINDOW_UPDATE, SYN, 1, 0))
    await ends_with(
        attacker, frame(WINDOW_UPDATE, SYN, 1, 0), frame(WINDOW_UPDATE, RST, 1, 0), frame(WINDOW_UPDATE, SYN, 1, 0)
    )


@abuse
async def ids_of_the_victim(attacker: Attacker) -> None:
    """Streams with even ids, which are the listener's to give."""
    await ends_with(attacker, frame(WINDOW_UPDATE, SYN, 2, 0))
    await ends_with(attacker, frame(WINDOW_UPDATE, SYN | ACK, 1, 0))


@abuse
async def frames_for_no_stream(attacker: Attacker) -> None:
    """Data for streams that nobody opened."""
    await ends_with(attacker, frame(DATA, 0, 99, 3, b"abc"))
    await ends_with(attacker, frame(DATA, 0, 1_000_000, 3, b"abc"))


@abuse
async def reset_flood(attacker: Attacker) -> None:
    """RST for a stream that has ended, by the ten thousand."""
    session = await attacker.session()
    await session.write(frame(WINDOW_UPDATE, SYN, 1, 0))
    await pour(session, frame(WINDOW_UPDATE, RST, 1, 0) * _AT_ONCE, reading=True)


@abuse
async def data_after_the_end(attacker: Attacker) -> None:
    """FIN, FIN again, data, and FIN."""
    session = await attacker.session()
    end = frame(WINDOW_UPDATE, FIN, 1, 0)
    await session.write(
        frame(DATA, SYN, 1, len(QUESTION), QUESTION) + end + end + frame(DATA, 0, 1, 100, bytes(100)) + end
    )
    await pour(session, end * _AT_ONCE, reading=True)


@abuse
async def ping_flood(attacker: Attacker) -> None:
    """Pings as fast as they go, all answers read."""
    await pour(await attacker.session(), frame(PING, SYN, 0, 1) * _AT_ONCE, reading=True)


@abuse
async def ping_flood_unread(attacker: Attacker) -> None:
    """Pings as fast as they go, no answer read: the answers must not pile up."""
    await pour(await attacker.session(), frame(PING, SYN, 0, 1) * _AT_ONCE, reading=False)


@abuse
async def answers_to_no_ping(attacker: Attacker) -> None:
    """Pongs that nobody asked for."""
    await pour(await attacker.session(), frame(PING, ACK, 0, 77) * _AT_ONCE, reading=True)


@abuse
async def syn_flood(attacker: Attacker) -> None:
    """Ten thousand streams without a word."""
    session = await attacker.session()
    with trio.move_on_after(3 * POUR_S):
        for first in range(1, 20_001, 2 * _AT_ONCE):
            ids = range(first, first + 2 * _AT_ONCE, 2)
            await session.write(b"".join(frame(WINDOW_UPDATE, SYN, number, 0) for number in ids))


@abuse
async def rapid_reset(attacker: Attacker) -> None:
    """Streams that ask a question and are reset in the same breath, as CVE-2023-44487 did to HTTP/2."""
    session = await attacker.session()
    with trio.move_on_after(3 * POUR_S):
        for number in range(1, 40_001, 2):
            await session.write(
                frame(DATA, SYN, number, len(QUESTION), QUESTION) + frame(WINDOW_UPDATE, RST, number, 0)
            )


@abuse
async def data_after_goaway(attacker: Attacker) -> None:
    """One who has said goodbye and goes on."""
    session = await attacker.session()
    await session.write(frame(DATA, SYN, 1, len(QUESTION), QUESTION) + frame(GO_AWAY, 0, 0, 0))
    await pour(session, frame(DATA, SYN, 3, 0) + frame(GO_AWAY, 0, 0, 1), reading=True)


@abuse
async def empty_frames(attacker: Attacker) -> None:
    """Data of no bytes: costs the window nothing."""
    session = await attacker.session()
    await session.write(frame(WINDOW_UPDATE, SYN, 1, 0))
    await pour(session, frame(DATA, 0, 1, 0) * _AT_ONCE, reading=True)


@abuse
async def one_byte_per_frame(attacker: Attacker) -> None:
    """Single bytes on a hundred streams, a frame each."""
    session = await attacker.session()
    await session.write(b"".join(frame(WINDOW_UPDATE, SYN, number, 0) for number in range(1, 201, 2)))
    await pour(session, b"".join(frame(DATA, 0, number, 1, b"\x13") for number in range(1, 201, 2)), reading=True)


@abuse
async def answers_never_read(attacker: Attacker) -> None:
    """Questions on ten connections, and no byte read of what is answered."""
    for _ in range(10):
        session = await attacker.session()
        with trio.move_on_after(0.2):
            for number in range(1, 2001, 2):
                await session.write(frame(DATA, SYN, number, len(QUESTION), QUESTION))


@abuse
async def unread_megabytes(attacker: Attacker) -> None:
    """Megabytes on each of many streams whose handler is stuck, for nobody reads its echo."""
    peer = await attacker.peer()

    async def fill() -> None:
        with enough:
            await (await peer.stream("/ipfs/ping/1.0.0")).send_all(bytes(4 << 20))

    with trio.move_on_after(3 * POUR_S):
        async with trio.open_nursery() as nursery:
            for _ in range(150):
                nursery.start_soon(fill)
