"""The HTTP listener: binds, accepts in batches, bounds the connections, stops gracefully.

serve ─ connections ─ Connection.run  (one per client)
      └ accept                        (ends first: no new clients while the running ones finish)
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from functools import partial

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.typing import ASGIFramework

from aicn.config.schema import Http
from aicn.errors import StartupError
from aicn.gateway.clients import Shares, client_of
from aicn.gateway.connection import Connection, Deadlines, Registry

log = logging.getLogger(__name__)

BACKLOG = 2048  # connections that the kernel holds while we are busy (cut to net.core.somaxconn)
BATCH = 64  # connections taken per scheduler pass: one alone makes a burst of new clients wait in line
SPARE = 1024  # connections beyond http.requests, for idle ones, and …
SPARE_PER_CLIENT = 64  # … beyond http.requests_per_client
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NO_DESCRIPTORS_S = 0.1  # until some connection may have ended


def bind(listen: str, *, setting: str = "http.listen") -> socket.socket:
    """A listening socket on `listen`, "host:port" or "[ipv6]:port"; StartupError that names the `setting` to change."""
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:  # getaddrinfo would take it modulo 65536
        raise StartupError(f"{listen}: an address and a port are needed, such as 127.0.0.1:6000; change {setting}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise StartupError(f"{listen}: {error}; change {setting}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not refused after a restart (TIME_WAIT)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartupError(f"{listen} is in use by another process; change {setting} or stop it") from None
        raise StartupError(f"{listen}: {error.strerror}; change {setting}") from None
    return listener


def address_of(listener: socket.socket) -> str:
    """Where `listener` listens, "127.0.0.1:6000" or "[::1]:6000": the real port when 0 was asked for."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def serve(
    app: ASGIFramework,
    http: Http,
    listener: socket.socket,
    *,
    shutdown: trio.Event,
    grace_s: float,
    deadlines: Deadlines | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on `listener` until `shutdown`, then let running requests finish for up to `grace_s`; closes `listener`.

    Started with the address as soon as connections are taken.
    """
    registry = Registry(deadlines or Deadlines(), Shares(http.requests_per_client + SPARE_PER_CLIENT))
    config = HypercornConfig()
    config.errorlog = None
    try:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                open_connection = partial(Connection, app, config, registry)
                accepting.start_soon(_accept, listener, open_connection, registry, connections, http.requests + SPARE)
                task_status.started(address_of(listener))
                await shutdown.wait()
                accepting.cancel_scope.cancel()
            listener.close()
            registry.stop()
            connections.cancel_scope.deadline = trio.current_time() + grace_s
    finally:
        listener.close()


async def _accept(
    listener: socket.socket,
    open_connection: Callable[[trio.SocketStream, str], Connection],
    registry: Registry,
    connections: trio.Nursery,
    most: int,
) -> None:
    while True:
        await trio.lowlevel.wait_readable(listener)
        for _ in range(BATCH):
            try:
                client, (host, *_) = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    log.warning("no connection accepted: %s; raise the limit of open files", error.strerror)
                    await trio.sleep(_NO_DESCRIPTORS_S)
                break  # others are a client that left meanwhile
            name = client_of(host)
            crowded = registry.shares.add(name)
            if (crowded and not registry.make_room(name)) or (
                len(connections.child_tasks) >= most and not registry.make_room()
            ):
                registry.shares.remove(name)
                client.close()
                continue
            client.setblocking(False)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
            connections.start_soon(open_connection(stream, name).run)
