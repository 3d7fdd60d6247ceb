"""One stream of `aicn.p2p.muxer.Yamux`: waiting, waking and the errors of py-libp2p around the state in `aicn.p2p.yamux`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import trio
from libp2p.abc import IMuxedStream
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

from aicn.p2p.yamux_stream import Broken, Stream

if TYPE_CHECKING:
    from aicn.p2p.muxer import Yamux


class ConnectionLost(MuxedStreamReset):
    """The connection below the stream has ended."""


class YamuxStream(IMuxedStream):
    """One stream. `read`, `write`, `close`, `reset` are py-libp2p's; the others are our own and cost no lock and no task."""

    def __init__(self, conn: Yamux, state: Stream) -> None:
        self.muxed_conn: Yamux = conn
        self.state = state
        self._readable: trio.Event | None = None  # set while somebody waits
        self._writable: trio.Event | None = None
        self._reset_callback: Callable[[], object] | None = None
        self.has_sent = False  # data; what comes first is no longer ours to choose
        self.in_use = False  # somebody waits for what it brings: its connection is not to be closed for lack of room

    @property
    def stream_id(self) -> int:
        """0 until the first frame of a stream of ours."""
        return self.state.id

    @property
    def is_initiator(self) -> bool:
        return not self.state.inbound

    @property
    def at_eof(self) -> bool:
        """The peer has finished cleanly and all of it was read."""
        return self.state.at_eof

    @property
    def ended(self) -> bool:
        """Both sides have finished, or the stream is broken; there may be bytes left to read."""
        return self.state.ended

    # ---- our own interface ----

    async def send_all(self, data: bytes) -> None:
        """Queue `data`; waits for the peer's window and for room in the connection's output, without a limit of its own.

        Cancelled or broken, it has queued a part of `data`, in whole frames. Raises MuxedStreamReset or MuxedStreamClosed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        conn, state = self.muxed_conn, self.state
        start, end = 0, len(data)
        while start < end:
            self._check_sendable()
            if not state.send_window:
                await self._wait_writable()
                continue
            if conn.crowded:
                await conn.turn(self)
                if not (state.sendable and state.send_window):
                    conn.grant_turns()
                    continue
            start += conn.session.send(state, data, start)
            self.has_sent = True
            conn.flush()

    def send_eof(self) -> None:
        """No more will be sent. Does nothing on a stream that has ended."""
        conn = self.muxed_conn
        conn.session.send_eof(self.state)
        conn.settle(self)

    async def receive_some(self, limit: int | None = None) -> bytes:
        """All that is there, or at most `limit` bytes of it, at least one; b"" at the clean end.

        Raises MuxedStreamReset when the peer or we have reset the stream, ConnectionLost when the connection ended before it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # before bytes are taken: cancelling never loses any
        conn, state = self.muxed_conn, self.state
        while not state.buffer:
            if state.at_eof:
                return b""
            if state.broken is not None:
                raise self._failure(state.broken)
            await self._wait_readable()
        data = conn.session.take(state, limit)
        conn.flush()
        return data

    def unreceive(self, data: bytes) -> None:
        """Put bytes back in front of what the next `receive_some` gives."""
        self.muxed_conn.session.put_back(self.state, data)

    def abort(self) -> None:
        """Reset the stream; whoever reads or writes it is woken. Does nothing on a stream that has ended."""
        conn = self.muxed_conn
        conn.session.abort(self.state)
        conn.settle(self)

    def finish(self) -> None:
        """Send FIN and leave the stream: what the peer still sends is thrown away, and if it has not finished in LINGER_S, reset."""
        self.muxed_conn.session.discard(self.state)
        self.send_eof()
        self.muxed_conn.linger(self)

    def on_reset(self, callback: Callable[[], object] | None) -> None:
        """Call `callback` once when the peer resets the stream or the connection ends; at once if that has happened.

        There is one place: a later call replaces the callback, None removes it. It runs in whichever task finds
        out, mostly the connection's reader, so it must neither wait nor raise.
        """
        if callback is not None and self.state.broken in (Broken.RESET, Broken.LOST):
            callback()
        else:
            self._reset_callback = callback

    # ---- py-libp2p's interface ----

    async def read(self, n: int | None = -1) -> bytes:
        """At most `n` bytes, or all that is there (None, -1). MuxedStreamEOF at the clean end, else as `receive_some`."""
        if n == 0:
            return b""
        data = await self.receive_some(None if n is None or n < 0 else n)
        if not data:
            raise MuxedStreamEOF("the peer has finished the stream")
        return data

    async def write(self, data: bytes) -> None:
        await self.send_all(data)

    async def close_write(self) -> None:
        """NetStream.close_write prefers this to `close`."""
        self.send_eof()

    async def close(self) -> None:
        """As `finish`, but what comes can still be read, as with the stock muxer."""
        self.send_eof()
        self.muxed_conn.linger(self)

    async def reset(self) -> None:
        self.abort()

    def set_deadline(self, ttl: int) -> None:
        raise NotImplementedError("deadlines are trio cancel scopes")

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.muxed_conn.get_remote_address()

    async def __aenter__(self) -> Self:
        return self

    # ---- waiting; called by the connection ----

    def wake(self) -> None:
        """The state has changed: wake whoever can go on, tell of a reset."""
        state = self.state
        readable, writable = self._readable, self._writable
        if readable is not None and (state.buffer or state.eof_received or state.broken is not None):
            self._readable = None
            readable.set()
        if writable is not None and (state.send_window or not state.sendable):
            self._writable = None
            writable.set()
        if state.broken is not None:
            callback, self._reset_callback = self._reset_callback, None
            if callback is not None and state.broken is not Broken.ABORTED:
                callback()

    async def _wait_readable(self) -> None:
        conn = self.muxed_conn
        conn.session.announce(self.state)  # the peer may be the one who speaks first
        conn.flush()
        if self._readable is None:
            self._readable = trio.Event()
        await self._readable.wait()

    async def _wait_writable(self) -> None:
        if self._writable is None:
            self._writable = trio.Event()
        await self._writable.wait()

    def _check_sendable(self) -> None:
        state = self.state
        if state.broken is not None:
            raise self._failure(state.broken)
        if state.eof_sent:
            raise MuxedStreamClosed("this side has finished the stream")

    def _failure(self, broken: Broken) -> MuxedStreamReset:
        if broken is Broken.LOST:
            return ConnectionLost(f"the connection has ended: {self.muxed_conn.reason}")
        return MuxedStreamReset("reset by the peer" if broken is Broken.RESET else "reset by this side")
