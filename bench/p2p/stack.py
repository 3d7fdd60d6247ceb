"""What the loads need of a libp2p implementation, and which there are. Nothing here imports one: stock must not meet our corrections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import trio

LISTEN = "/ip4/127.0.0.1/tcp/0"
PLACE_S = 15.0  # for a relay to give a place
# Echo and sink are protocols of the Go peer in tests/interop/go.
ECHO = "/interop/echo/1"  # sends back what comes, to the end
SINK = (
    "/interop/sink/1"  # reads to the end, answers the SHA-256 in hex; the Go peer's alone, hashing is no work of ours
)
COUNT = "/bench/count/1"  # reads to the end, answers how many bytes there were
TASKS = "/bench/tasks/1"  # answers how many trio tasks the server has; the Go peer has none


class Stream(Protocol):
    """One stream of whichever implementation. Any exception of it counts as a loss."""

    async def send_all(self, data: bytes) -> None: ...

    async def send_eof(self) -> None: ...

    async def receive_some(self) -> bytes:
        """At least a byte; b"" at the clean end."""

    async def finish(self) -> None:
        """Leave it in good order."""

    async def abort(self) -> None:
        """Reset it."""


Handler = Callable[[Stream], Awaitable[None]]


class Node(Protocol):
    """A running host."""

    @property
    def address(self) -> str:
        """Where it listens, with its peer id."""

    async def connect(self, address: str) -> None: ...

    async def open_stream(self, address: str, protocol: str) -> Stream:
        """A stream to the peer of `address`, which is connected."""

    def serve(self, protocol: str, handler: Handler) -> None: ...


Relay = Literal["none", "serve", "use"]


class OpenNode(Protocol):
    """Makes a host that runs as long as the block. `through`: a relay to be reached through, of which `address` then is a circuit."""

    def __call__(self, *, relay: Relay = "none", through: str = "") -> AbstractAsyncContextManager[Node]: ...


def opener(stack: str) -> OpenNode:
    """Of "aicn" or "stock"."""
    if stack == "aicn":
        from bench.p2p.ours import open_node as ours

        return ours
    from bench.p2p.stock import open_node as stock

    return stock


def serve_all(node: Node) -> None:
    """The server side of all loads."""
    node.serve(ECHO, _echo)
    node.serve(COUNT, _count)
    node.serve(TASKS, _tasks)


async def read_all(stream: Stream) -> bytes:
    parts = []
    while part := await stream.receive_some():
        parts.append(part)
    return b"".join(parts)


async def _echo(stream: Stream) -> None:
    while part := await stream.receive_some():
        await stream.send_all(part)


async def _count(stream: Stream) -> None:
    size = 0
    while part := await stream.receive_some():
        size += len(part)
    await stream.send_all(str(size).encode())


async def _tasks(stream: Stream) -> None:
    await stream.send_all(str(trio.lowlevel.current_statistics().tasks_living).encode())
