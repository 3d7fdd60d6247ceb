"""TCP from one namespace into another, or from this process into one: a door to an API, or a long way between two nodes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.nat.namespaces import Namespace

_CHUNK = 65536
_UNDER_WAY = 1024  # chunks that are on their long way at once; more wait for the sender's side


@asynccontextmanager
async def open_link(
    entrance: tuple[Namespace | None, str, int], exit_: tuple[Namespace | None, str, int], *, delay_s: float = 0.0
) -> AsyncIterator[int]:
    """Connections to `entrance` (namespace, address, port) come out of the namespace of `exit_` and go to its address and port.

    A byte takes `delay_s` in each direction. No namespace: the machine itself. Gives the port of the entrance.
    """
    where, host, port = entrance
    inside = _socket(where)
    inside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    inside.bind((host, port))
    inside.listen()
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(inside))

    async def carry(near: trio.SocketStream) -> None:
        to, address, to_port = exit_
        outside = trio.socket.from_stdlib_socket(_socket(to))
        try:
            await outside.connect((address, to_port))
        except OSError:  # nobody is there: the connection to us closes too
            outside.close()
            await near.aclose()
            return
        far = trio.SocketStream(outside)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(_pump, near, far, delay_s, nursery.cancel_scope)
            nursery.start_soon(_pump, far, near, delay_s, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, carry, [listener])
        try:
            yield inside.getsockname()[1]
        finally:
            nursery.cancel_scope.cancel()


def _socket(where: Namespace | None) -> socket.socket:
    made = socket.socket() if where is None else where.tcp_socket()
    made.setblocking(False)
    return made


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, delay_s: float, both: trio.CancelScope) -> None:
    """Carry bytes until `source` ends, then its end; a failure ends both directions."""
    on_the_way, arriving = trio.open_memory_channel[tuple[float, bytes]](_UNDER_WAY)

    async def arrive() -> None:
        async for due, data in arriving:
            await trio.sleep_until(due)
            await sink.send_all(data)
        await sink.send_eof()

    try:
        async with trio.open_nursery() as nursery, on_the_way:
            nursery.start_soon(arrive)
            async for data in source:
                await on_the_way.send((trio.current_time() + delay_s, bytes(data)))
            on_the_way.close()
    except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        both.cancel()
