"""A gateway on loopback around a FakeNode, and a client that can also do what no decent client does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import trio

from aicn.gateway.app import Gateway, create_app
from aicn.gateway.connection import Deadlines
from aicn.gateway.server import bind, serve
from tests.fakes.node import FakeNode


@dataclass
class Reply:
    """One HTTP response."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes = b""
    complete: bool = True  # False: the connection ended inside it

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    @classmethod
    async def connect(cls, address: str) -> Self:
        host, port = address.rsplit(":", 1)
        return cls(await trio.open_tcp_stream(host.strip("[]"), int(port)))

    async def send(self, raw: bytes) -> None:
        await self.stream.send_all(raw)

    async def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a request, no more."""
        fields = {"host": "localhost"} | ({"content-length": str(len(body))} if body else {}) | (headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)

    async def request(
        self, method: str, path: str, body: bytes | object = b"", headers: dict[str, str] | None = None
    ) -> Reply:
        """A whole exchange; `body` that is not bytes is sent as JSON."""
        await self.ask(method, path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)
        return await self.reply(no_body=method == "HEAD")

    async def head(self) -> Reply:
        lines = (await self._until(b"\r\n\r\n")).decode("latin1").split("\r\n")
        pairs = (line.split(":", 1) for line in lines[1:] if line)
        return Reply(int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, value in pairs})

    async def piece(self) -> bytes:
        """The next chunk of a chunked body; b"" at its end. EOFError when the connection ends before."""
        size = int(await self._until(b"\r\n"), 16)
        return (await self._exactly(size + 2))[:-2]

    async def reply(self, *, no_body: bool = False) -> Reply:
        reply = await self.head()
        if no_body or reply.status in (204, 304) or reply.status < 200:
            return reply
        try:
            if "content-length" in reply.headers:
                reply.body = await self._exactly(int(reply.headers["content-length"]))
            else:
                while piece := await self.piece():
                    reply.body += piece
        except EOFError:
            reply.complete = False
        return reply

    async def at_end(self) -> bool:
        """Whether the server closes the connection without sending more."""
        try:
            return not self._buffer and not await self.stream.receive_some()
        except trio.BrokenResourceError:
            return True

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            await self._more()
        at = self._buffer.index(end) + len(end)
        return self._cut(at)

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        return self._cut(size)

    async def _more(self) -> None:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        if not data:
            raise EOFError
        self._buffer += data

    def _cut(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


@dataclass
class Served:
    """A running gateway."""

    fake: FakeNode
    app: Gateway
    address: str
    shutdown: trio.Event
    ended: trio.Event = field(default_factory=trio.Event)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        client = await Client.connect(self.address)
        try:
            yield client
        finally:
            await client.aclose()

    async def request(
        self, method: str, path: str, body: bytes | object = b"", headers: dict[str, str] | None = None
    ) -> Reply:
        async with self.client() as client:
            return await client.request(method, path, body, headers)

    async def raw(self, data: bytes) -> Reply:
        """Send `data` as it is and take the first response."""
        async with self.client() as client:
            await client.send(data)
            return await client.reply()


@asynccontextmanager
async def serving(
    fake: FakeNode | None = None, *, grace_s: float = 5.0, deadlines: Deadlines | None = None, within_s: float = 30.0
) -> AsyncIterator[Served]:
    """A gateway on a free port; everything inside must be over `within_s` seconds from now."""
    fake = fake or FakeNode()
    app = create_app(fake.node())
    shutdown = trio.Event()
    with trio.fail_after(within_s):
        async with trio.open_nursery() as nursery:
            served = Served(fake, app, "", shutdown)

            async def run(task_status: trio.TaskStatus[str]) -> None:
                await serve(
                    app,
                    fake.config.http,
                    bind("127.0.0.1:0"),
                    shutdown=shutdown,
                    grace_s=grace_s,
                    deadlines=deadlines,
                    task_status=task_status,
                )
                served.ended.set()

            served.address = await nursery.start(run)
            yield served
            nursery.cancel_scope.cancel()
