"""One client connection: h11 and trio around hypercorn's HTTPStream (which turns a request into ASGI).

hypercorn's own trio server spends three tasks, a lock and three socket writes on a request. This one has the reader (one task per
connection) and the application (one task per request), and writes the head together with the first piece of the body.
It also knows what a server that faces strangers must: deadlines for heads, idle connections and readers that stall, a
client that leaves while a second request is already in the buffer, and how to refuse a body that is still being sent.

The reader's end is the connection's end: whatever ends it (client gone, deadline, stop) cancels the application's task. That is
how a hang-up reaches the model; the application needs no task of its own that listens for it.

Rules of the reader's deadline: `head_s` from the accept, and from the first byte of each head; `idle_s` between requests; none while a
request is at work (its body has a deadline in the application, its answer one per write here).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http.client import responses
from math import inf
from time import time
from typing import Any, cast
from wsgiref.handlers import format_date_time

import h11
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.protocol.events import Body, EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework, ASGIReceiveEvent, ConnectionState, HTTPScope, TaskGroup

from aicn.gateway.clients import Shares

log = logging.getLogger(__name__)

RECEIVE_BYTES = 2**16  # per read; h11 holds at most this much beyond a head
HEAD_BYTES = 2**15  # largest request line and headers together
HEADERS = 100  # most of them, as in Apache: each costs more than its bytes
PIPELINED_BYTES = 2**16  # a client that sends more ahead of its answer is cut
SLICE_BYTES = 2**18  # a write's deadline is for this much
BODY_MESSAGES = 10  # body pieces that wait for the application, each at most RECEIVE_BYTES
LINGER_S = 2.0  # for a client that is still sending, to read the answer that refuses it
STREAM_ID = 1  # HTTP/1.1 has one stream


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """How long a client may take, seconds."""

    head_s: float = 20.0  # for a request's head
    idle_s: float = 75.0  # between requests, nginx's default
    stall_s: float = 60.0  # to take SLICE_BYTES of an answer


@dataclass
class Registry:
    """What the connections of one server share."""

    deadlines: Deadlines
    shares: Shares  # of the connections
    stopping: bool = False
    idle: dict[Connection, None] = field(default_factory=dict)  # without a request, longest idle first

    def stop(self) -> None:
        """Close the idle connections now, the others after the answer they are at."""
        self.stopping = True
        for connection in self.idle:
            connection.close()

    def make_room(self, client: str | None = None) -> bool:
        """Close the connection, of `client` if given, that is idle for longest; False: none is."""
        for connection in self.idle:  # some thousand at most, and the first one nearly always
            if client is None or connection.client == client:
                del self.idle[connection]
                connection.close()
                return True
        return False


class Connection:
    """One accepted connection. HTTP/1.1 only, one request at a time; upgrades are not offered."""

    def __init__(
        self, app: ASGIFramework, config: HypercornConfig, registry: Registry, stream: trio.SocketStream, client: str
    ) -> None:
        self.client = client  # clients.client_of; counted in the registry until the connection has ended
        self._app = app
        self._config = config
        self._registry = registry
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._nursery: trio.Nursery
        self._request: HTTPStream | None = None
        self._held = b""  # a head that waits for the first piece of its body
        self._writing = trio.Lock()
        self._waiting = trio.CancelScope()  # around the reader's read
        self._deadline = inf  # of that read
        self._head_begun = False
        self._woken = False
        self._closing = False

    async def run(self) -> None:
        """Serve until either side is done."""
        try:
            await self._run()
        finally:
            self._registry.shares.remove(self.client)

    async def _run(self) -> None:
        try:
            self._addresses = (self._stream.socket.getpeername()[:2], self._stream.socket.getsockname()[:2])
        except OSError:
            return  # gone before it began
        self._set_idle(self._registry.deadlines.head_s)
        try:
            async with trio.open_nursery() as self._nursery:
                await self._read()
                self._nursery.cancel_scope.cancel()
        except* Exception:  # ends this connection and nothing else
            log.exception("a connection failed")
        finally:
            self._registry.idle.pop(self, None)
            await trio.aclose_forcefully(self._stream)

    def close(self) -> None:
        """End the connection; what was written stays readable for the client."""
        self._closing = True
        self._waiting.cancel()

    # ---------------------------------------------------------------------------------------------------- reading

    async def _read(self) -> None:
        while not self._closing:
            try:
                with trio.CancelScope(deadline=self._deadline) as self._waiting:
                    data = await self._stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not self._waiting.cancelled_caught:
                if not data:
                    return  # hung up; a half-closed connection counts as one, as in most servers
                self._h11.receive_data(data)
            elif not self._woken:
                break
            self._woken = False
            await self._handle_events()
            if self._request is None and self._h11.trailing_data[0] and not self._head_begun:
                self._head_begun = True
                self._deadline = trio.current_time() + self._registry.deadlines.head_s
            if self._h11.their_state is h11.DONE and len(self._h11.trailing_data[0]) > PIPELINED_BYTES:
                return
        await self._linger()

    async def _handle_events(self) -> None:
        while not self._closing:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
                return
            if isinstance(event, h11.Request):
                if status := _refused(event):
                    await self._refuse(status)
                    return
                await self._begin(event)
            elif isinstance(event, h11.Data) and self._request is not None:
                await self._request.handle(Body(stream_id=STREAM_ID, data=bytes(event.data)))
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                await self._request.handle(EndBody(stream_id=STREAM_ID))
            else:  # NEED_DATA; PAUSED: the next request waits for the end of this one
                return

    async def _begin(self, head: h11.Request) -> None:
        self._registry.idle.pop(self, None)
        self._head_begun = False
        self._deadline = inf
        client, server = self._addresses
        self._request = HTTPStream(
            cast("AppWrapper", self._app),  # only handed on to spawn_app
            self._config,
            _CONTEXT,
            cast("TaskGroup", self),  # of which it uses spawn_app
            False,
            client,
            server,
            self._respond,
            STREAM_ID,
        )
        await self._request.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(head.headers),
                http_version=head.http_version.decode(),
                method=head.method.decode("ascii").upper(),
                raw_path=head.target,
                state=ConnectionState({}),
            )
        )

    async def _refuse(self, status: int) -> None:
        """What came is not HTTP/1.1, or too much of it."""
        if self._h11.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            headers = [*self._headers(), (b"content-length", b"0")]
            await self._write(self._encode(_head(status, headers)))
        self.close()

    async def _linger(self) -> None:
        """A socket closed with unread bytes in it is reset, and the client may lose the answer: read on for a moment."""
        if self._h11.their_state in {h11.DONE, h11.MUST_CLOSE, h11.IDLE}:
            return
        with trio.move_on_after(LINGER_S):
            try:
                async with self._writing:  # the application may be at a write
                    await self._stream.send_eof()
                while await self._stream.receive_some(RECEIVE_BYTES):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    # ------------------------------------------------------------------------------------------- the application

    async def spawn_app(
        self,
        app: ASGIFramework,
        config: HypercornConfig,  # noqa: ARG002  # hypercorn's TaskGroup has this signature
        scope: HTTPScope,
        send: Callable[[Any], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application on a request; HTTPStream calls it and passes the body on to what it returns."""
        # Without waiting where possible below: `send` and `receive` would take a scheduler pass each.
        put_channel, get_channel = trio.open_memory_channel[ASGIReceiveEvent](BODY_MESSAGES)

        async def receive() -> ASGIReceiveEvent:
            if self._h11.they_are_waiting_for_100_continue:  # only now: a request may be refused without its body
                await self._write(self._encode(h11.InformationalResponse(status_code=100, headers=[])))
            try:
                return get_channel.receive_nowait()
            except trio.WouldBlock:
                return await get_channel.receive()

        async def run() -> None:
            with get_channel:
                try:
                    await app(scope, receive, send)
                except Exception:
                    log.exception("the application failed")
                await send(None)  # an answer that was not begun becomes a 500, one not ended breaks the connection

        async def put(message: ASGIReceiveEvent) -> None:
            if message["type"] == "http.request":  # http.disconnect: a hang-up cancels `run` instead
                try:
                    try:
                        put_channel.send_nowait(message)
                    except trio.WouldBlock:
                        await put_channel.send(message)
                except trio.BrokenResourceError:
                    return  # answered already; nobody wants the rest of the body

        self._nursery.start_soon(run)
        return put

    # ---------------------------------------------------------------------------------------------------- writing

    async def _respond(self, event: Event) -> None:
        if isinstance(event, Response):
            headers = [*event.headers, *self._headers()]
            if self._registry.stopping or self._h11.their_state is h11.SEND_BODY:
                headers.append((b"connection", b"close"))
            self._held = self._encode(_head(event.status_code, headers))
        elif isinstance(event, Body):
            await self._write(self._release() + self._encode(h11.Data(data=event.data)))
        elif isinstance(event, EndBody):
            await self._write(self._release() + self._encode(h11.EndOfMessage()))
        elif isinstance(event, StreamClosed):
            await self._end()

    async def _end(self) -> None:
        """The answer is over, or was given up: ready for the next request, or close."""
        if self._request is not None:
            await self._request.handle(StreamClosed(stream_id=STREAM_ID))
        self._request = None
        if self._registry.stopping or not self._h11.our_state is self._h11.their_state is h11.DONE:
            self.close()
            return
        self._h11.start_next_cycle()
        self._set_idle(self._registry.deadlines.idle_s)
        self._waiting.deadline = self._deadline
        if self._h11.trailing_data[0]:
            self._woken = True
            self._waiting.cancel()

    def _set_idle(self, seconds: float) -> None:
        self._deadline = trio.current_time() + seconds
        self._registry.idle[self] = None

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"date", format_date_time(time()).encode())]

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _encode(self, event: Any) -> bytes:
        try:
            return self._h11.send(event) or b""
        except h11.LocalProtocolError:
            if self._h11.their_state is not h11.ERROR:
                raise
            return b""  # refused by the reader meanwhile

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        try:
            self._writing.acquire_nowait()  # no scheduler pass, as `async with` would take
        except trio.WouldBlock:
            await self._writing.acquire()
        try:
            data = data[self._write_at_once(data) :]
            for start in range(0, len(data), SLICE_BYTES):
                with trio.fail_after(self._registry.deadlines.stall_s):
                    await self._stream.send_all(data[start : start + SLICE_BYTES] if start else data[:SLICE_BYTES])
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._nursery.cancel_scope.cancel()  # gone, or as good as: what is done for it ends at its next checkpoint
        finally:
            self._writing.release()

    def _write_at_once(self, data: bytes) -> int:
        """Bytes that the kernel takes without waiting, mostly all: trio's `send_all` would cost a scheduler pass for each piece."""
        try:
            return os.write(self._stream.socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error


def _refused(head: h11.Request) -> int:
    """The status that `head` is refused with; 0: it is not."""
    if head.http_version not in {b"1.1", b"1.0"}:
        return 505  # the preface of HTTP/2, for one, which is a request's head on purpose (RFC 9113 section 3.4)
    return 431 if len(head.headers) > HEADERS else 0


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> h11.Response:
    return h11.Response(status_code=status, headers=headers, reason=responses.get(status, "").encode())


_CONTEXT = WorkerContext(max_requests=None)  # HTTPStream wants one and uses nothing of it
