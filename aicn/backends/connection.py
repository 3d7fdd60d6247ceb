"""One HTTP/1.1 connection to a model endpoint: trio moves the bytes, h11 knows the protocol.

What breaks here raises `Broken`, whose text says what happened and never where: the pool adds the origin.
"""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from socket import gaierror
from urllib.parse import unquote, urlsplit

import h11
import trio

from aicn.domain.registration import check_url

_READ_BYTES = 65_536  # of one read: what piled up in the kernel meanwhile, in one piece
_HEAD_BYTES = 65_536  # longest head of a response; servers themselves stop at 8 to 80 KiB
_ONE_SEND_BYTES = 65_536  # a body up to this goes out in one write with its head: one packet, one wake-up of the server
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Broken(Exception):
    """The connection cannot be made or cannot go on; the text continues "the endpoint …"."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what a connection can be used again for. Its text is fit for messages: no user, no password."""

    scheme: str
    host: str  # without brackets
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port, the default port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart for a request."""

    origin: Origin
    path: bytes  # with the query
    headers: tuple[tuple[bytes, bytes], ...]  # what the URL alone decides


@lru_cache(maxsize=256)  # an operator registers a handful; taking one apart costs as much as sending a small request
def parse_target(url: str) -> Target:
    """InvalidRequest for what `check_url` refuses."""
    check_url(url)
    parts = urlsplit(url)
    origin = Origin(parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme])
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = [(b"Host", origin.authority.encode()), (b"Accept-Encoding", b"identity")]
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers.append((b"Authorization", b"Basic " + b64encode(user.encode())))
    return Target(origin, path.encode(), tuple(headers))


class Connection:
    """One connection, used for one exchange after the other. Cancelling an exchange leaves nothing to do but `close`."""

    def __init__(self, origin: Origin, stream: trio.abc.Stream, socket: trio.SocketStream) -> None:
        self.origin = origin
        self.idle_since = 0.0  # trio.current_time(), kept by the pool
        self.answered = False  # a byte of the current answer has come
        self._stream = stream
        self._socket = socket  # under the TLS layer, if there is one
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        self._sent = False  # the whole request
        self._complete = False  # the whole answer
        self._ended = False  # the server will send nothing more

    @property
    def reusable(self) -> bool:
        """The exchange is complete on both sides and another may follow."""
        http = self._http
        return (
            self._sent
            and self._complete
            and http.our_state is http.their_state is h11.DONE
            and not http.trailing_data[0]
        )

    @property
    def stale(self) -> bool:
        """An idle connection has something to read: the server closed it, or says what nobody asked for."""
        return self._socket.socket.is_readable()

    def restart(self) -> None:
        """Make a reusable connection ready for the next exchange."""
        self._http.start_next_cycle()
        self.answered = self._sent = self._complete = False

    async def exchange(self, target: Target, headers: list[tuple[bytes, bytes]], body: bytes | None) -> h11.Response:
        """Post `body`, or get when it is None; the head of the answer. Broken."""
        head = self._send(target, headers, body)
        body = body or b""
        try:
            if len(body) <= _ONE_SEND_BYTES:
                await self._stream.send_all(head + body)
            else:
                await self._stream.send_all(head)
                await self._stream.send_all(body)
            self._sent = True
        except trio.BrokenResourceError:
            pass  # a server may refuse a long body without reading it to the end: its answer decides
        while True:
            event = self._next_event()
            if event is h11.NEED_DATA:
                await self.fill()
            elif isinstance(event, h11.Response):
                return event
            elif not isinstance(
                event, h11.InformationalResponse
            ):  # 100 Continue, 103 Early Hints …: the answer follows
                raise Broken("answered something that is not HTTP/1.1")

    def _send(self, target: Target, headers: list[tuple[bytes, bytes]], body: bytes | None) -> bytes:
        """The head of the request as bytes; h11 counts the body, which goes out as it is."""
        headers = [*target.headers, *headers]
        if body is None:
            head = self._http.send(h11.Request(method=b"GET", target=target.path, headers=headers))
        else:
            headers.append((b"Content-Length", b"%d" % len(body)))
            head = self._http.send(h11.Request(method=b"POST", target=target.path, headers=headers))
            self._http.send_with_data_passthrough(h11.Data(data=body))
        self._http.send(h11.EndOfMessage())
        return head

    def take(self) -> bytes | None:
        """All bytes of the body that have been read; b"" at its end, None when more must be read first. Broken."""
        if self._complete:
            return b""
        pieces: list[bytes] = []
        event: object = None
        try:
            while isinstance(event := self._next_event(), h11.Data):
                pieces.append(event.data)
        except Broken:
            if not pieces:
                raise  # else what came well goes on first; the next call raises again
        self._complete = isinstance(event, h11.EndOfMessage)
        return b"".join(pieces) if pieces or self._complete else None

    async def fill(self) -> None:
        """Read once, whatever is there. Broken. May be cancelled without loss."""
        try:
            data = await self._stream.receive_some(_READ_BYTES)
        except trio.BrokenResourceError as error:
            raise Broken(f"broke the connection: {describe(error)}") from error
        if data:
            self.answered = True
        elif not self.answered:
            raise Broken("closed the connection without an answer")
        else:
            self._ended = True
        self._http.receive_data(bytes(data))

    def _next_event(self) -> object:
        """h11's next event. Broken, without h11's words: they quote what the server sent."""
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise Broken(
                "broke off its answer" if self._ended else "answered something that is not HTTP/1.1"
            ) from error

    def close(self) -> None:
        """At once: the server sees the end of the connection, and stops what it does for us."""
        self._socket.socket.close()


async def dial(origin: Origin, tls: ssl.SSLContext | None, *, address: str = "") -> Connection:
    """A new connection, to `address` or else to the first of the host's addresses that answers. Broken."""
    try:
        socket = await trio.open_tcp_stream(address or origin.host, origin.port)
    except OSError as error:
        raise Broken(describe(error)) from error
    if tls is None:
        return Connection(origin, socket, socket)
    stream = trio.SSLStream(socket, tls, server_hostname=origin.host, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException as error:
        socket.socket.close()
        if isinstance(error, trio.BrokenResourceError):
            raise Broken(f"TLS: {describe(error)}") from error
        raise
    return Connection(origin, stream, socket)


def describe(error: BaseException) -> str:
    """The operating system's or TLS error at the bottom of an exception, in words: `connection refused`."""
    while (cause := error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__) is not None:
        error = cause
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate not accepted: {error.verify_message}"
        case ssl.SSLError() | gaierror():
            text = error.strerror or ""
        case OSError(errno=int(number)):  # its own text may be trio's, with the address in it
            text = os.strerror(number)
        case _:
            text = str(error)
    return text[:1].lower() + text[1:] or "connection lost"
