"""A client for one thing: POST to a model endpoint and read what it answers, as it comes.

It keeps connections alive and has deadlines, TLS, same-origin redirects and size limits, and none of the rest of HTTP; a general
client costs more than three times the CPU of it per request. Proxies named in the environment are not used: endpoints
are the operator's own. What goes wrong is a ModelFailed that names the origin, never the whole URL, which may hold a password.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from urllib.parse import urljoin

import h11
import trio

from aicn.backends.connection import Broken, Connection, Origin, Target, dial, parse_target
from aicn.backends.response import HttpResponse
from aicn.domain.inference import Head
from aicn.errors import EndpointDown, InvalidRequest, ModelFailed

_IDLE_S = 4.0  # a connection is kept unused; uvicorn, node and cpp-httplib close theirs after 5
_IDLE_PER_ORIGIN = 256  # connections kept unused: some bursts of the default 32 requests per model
_REDIRECTS = 3  # followed in a row


@asynccontextmanager
async def open_pool(*, connect_s: float, tls: ssl.SSLContext | None = None) -> AsyncIterator[Pool]:
    """A pool for the time of the block; `tls` replaces the system's trusted certificates."""
    pool = Pool(connect_s=connect_s, tls=tls)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.close_idle)
        try:
            yield pool
        finally:
            pool.close()
            nursery.cancel_scope.cancel()


class Response(HttpResponse):
    """An endpoint's answer."""

    def __init__(self, pool: Pool, connection: Connection, head: h11.Response) -> None:
        self.origin = connection.origin
        self.status = head.status_code
        self._head = head
        self._pool = pool
        self._connection: Connection | None = connection

    @property
    def source(self) -> str:
        return f"the model endpoint {self.origin}"

    @property
    def head(self) -> Head:
        return Head(
            self.status, self._head.reason.decode("latin-1"), tuple((key, value) for key, value in self._head.headers)
        )

    def header(self, name: bytes) -> str:
        return next((value.decode("latin-1") for key, value in self._head.headers if key == name), "")

    async def receive_some(self, *, within: float) -> bytes:
        connection = self._connection
        if connection is None:
            return b""
        try:
            data = connection.take()
            if data is None:
                with trio.CancelScope(deadline=trio.current_time() + within):
                    while data is None:
                        await connection.fill()
                        data = connection.take()
                if data is None:
                    raise Broken(f"sent nothing for {within:g} s in the middle of its answer")
        except Broken as error:
            self.close()
            raise self.broken(str(error)) from error
        if connection.reusable:
            self._connection = None
            self._pool.keep(connection)
        elif not data:
            self.close()
        return data

    def broken(self, what: str) -> ModelFailed:
        return ModelFailed(f"{self.source} {what}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Pool:
    """Connections to endpoints, kept for the next request."""

    def __init__(self, *, connect_s: float, tls: ssl.SSLContext | None = None) -> None:
        self._connect_s = connect_s
        self._given_tls = tls
        self._idle: dict[Origin, deque[Connection]] = {}  # the one used last is at the right
        self._kept = trio.Event()  # there are idle connections
        self._closed = False

    async def post(self, url: str, *, headers: list[tuple[bytes, bytes]], body: bytes, within: float) -> Response:
        """Post `body`; an answer, of whatever status, that began within `within` seconds. ModelFailed, InvalidRequest for `url`."""
        target = parse_target(url)
        for _ in range(_REDIRECTS + 1):
            response = await self._exchange(target, headers, body, within)
            if response.status not in (301, 302, 303, 307, 308):
                return response
            response.close()
            target = _redirected(target, response)
        raise ModelFailed(f"the model endpoint {target.origin} redirects again and again")

    async def _exchange(
        self, target: Target, headers: list[tuple[bytes, bytes]], body: bytes, within: float
    ) -> Response:
        origin = target.origin
        connection = self._take(origin)
        kept = connection is not None
        while True:
            connection = connection or await self._dial(origin)
            try:
                with trio.move_on_after(within):
                    return Response(self, connection, await connection.exchange(target, headers, body))
            except Broken as error:
                connection.close()
                if not kept or connection.answered:
                    raise ModelFailed(f"the model endpoint {origin} {error}") from error
            except BaseException:  # cancelled: the endpoint must notice
                connection.close()
                raise
            else:
                connection.close()
                raise ModelFailed(f"the model endpoint {origin} did not begin its answer within {within:g} s")
            connection, kept = None, False  # the server had closed it meanwhile: once more, on a fresh one

    async def _dial(self, origin: Origin) -> Connection:
        try:
            with trio.move_on_after(self._connect_s):
                return await dial(origin, self._tls if origin.scheme == "https" else None)
        except Broken as error:
            raise EndpointDown(f"cannot connect to the model endpoint {origin}: {error}") from error
        raise EndpointDown(f"cannot connect to the model endpoint {origin}: no answer within {self._connect_s:g} s")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made when it is first needed: it reads all certificates of the system, which takes 20 ms."""
        tls = self._given_tls or ssl.create_default_context()
        tls.set_alpn_protocols(["http/1.1"])
        return tls

    def _take(self, origin: Origin) -> Connection | None:
        kept = self._idle.get(origin)
        while kept:
            connection = kept.pop()
            if not connection.stale:
                return connection
            connection.close()
        return None

    def keep(self, connection: Connection) -> None:
        """Take a connection back whose exchange is complete."""
        if self._closed:
            connection.close()
            return
        kept = self._idle.setdefault(connection.origin, deque())
        if len(kept) >= _IDLE_PER_ORIGIN:
            kept.popleft().close()
        connection.restart()
        connection.idle_since = trio.current_time()
        kept.append(connection)
        self._kept.set()

    async def close_idle(self) -> None:
        """Close connections that nobody has used for a while; runs as long as the pool, asleep while none is idle."""
        while True:
            await self._kept.wait()
            await trio.sleep(_IDLE_S / 2)
            oldest = trio.current_time() - _IDLE_S
            for origin, kept in list(self._idle.items()):
                while kept and kept[0].idle_since <= oldest:
                    kept.popleft().close()
                if not kept:
                    del self._idle[origin]
            if not self._idle:
                self._kept = trio.Event()

    def close(self) -> None:
        """Keep no connections any more; answers that are being read go on."""
        self._closed = True
        for kept in self._idle.values():
            for connection in kept:
                connection.close()
        self._idle.clear()


def _redirected(target: Target, response: Response) -> Target:
    """Where a redirect leads; ModelFailed unless the request may be repeated there."""
    here, status = target.origin, response.status
    try:
        there = parse_target(urljoin(f"{here}{target.path.decode()}", response.header(b"location")))
    except (ValueError, InvalidRequest):  # ValueError: brackets that do not match
        raise ModelFailed(f"the model endpoint {here} redirects (status {status}) to what is no http URL") from None
    place = there.path.partition(b"?")[0].decode()
    if status not in (307, 308):  # 301 to 303 make a GET of a POST: the body would be lost
        raise ModelFailed(
            f"the model endpoint {here} redirects (status {status}) to {there.origin}{place}: register that"
        )
    if there.origin != here:
        raise ModelFailed(f"the model endpoint {here} redirects to {there.origin}, which is not the same host and port")
    return Target(here, there.path, target.headers)
