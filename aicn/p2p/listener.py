"""TCP listening: bound before anything else starts, and accepting in batches."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.abc import IListener
from libp2p.io.trio import TrioTCPStream
from multiaddr import Multiaddr

from aicn.errors import StartupError
from aicn.p2p.addresses import from_socket, ip_of
from aicn.p2p.tcp import share_port

log = logging.getLogger(__name__)

Handler = Callable[[TrioTCPStream], Awaitable[None]]

_BACKLOG = 1024  # pending connections the kernel keeps for us: a burst of a whole network reconnecting
_BATCH = 64  # taken per scheduler pass, so that a burst does not wait one pass each and those at work get their turn
_OUT_OF_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_S = 0.1  # before the next try when the process is out of file descriptors (trio.serve_listeners waits as long)


class Listener(IListener):
    """One listening socket.

    Upstream's (transport/tcp/tcp.py:60, :303) sets SO_REUSEPORT, so that two nodes of one user share a port without noticing, only
    logs when it cannot bind, and serves in a system task that outlives its host.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._address = from_socket(sock.getsockname())
        self._exhausted = False  # no file descriptor was left for the last connection

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        return (self._address,)

    async def listen(self, maddr: Multiaddr) -> None:
        """Nothing to do: `bind` made it listen already."""

    async def close(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Free the port; `serve` accepts no more. May be called again."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def serve(self, handler: Handler) -> None:
        """Run `handler` in a task of its own for each connection, until the listener is closed."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    await trio.lowlevel.wait_readable(self._socket)
                except trio.ClosedResourceError:
                    return
                for sock in self._accept_pending():
                    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                    nursery.start_soon(handler, TrioTCPStream(stream))
                if self._exhausted:
                    await trio.sleep(_PAUSE_S)

    def _accept_pending(self) -> list[socket.socket]:
        accepted: list[socket.socket] = []
        self._exhausted = False
        while len(accepted) < _BATCH:
            try:
                sock, _ = self._socket.accept()
            except BlockingIOError:
                break
            except OSError as error:
                self._exhausted = error.errno in _OUT_OF_FILES
                if self._exhausted:
                    break
                continue  # that one connection failed before we took it (ECONNABORTED and the like, accept(2))
            sock.setblocking(False)
            accepted.append(sock)
        return accepted


class _NoFamily(StartupError):
    """The machine has no addresses of that family."""


def bind_all(listen: Sequence[Multiaddr]) -> list[Listener]:
    """Sockets that listen on each of `listen`. StartupError, with none left, when one cannot be.

    Addresses of a family that the machine does not have are left out with a warning where there are others: who lists 0.0.0.0 and ::
    means whatever there is, and machines and containers without IPv6 are many.
    """
    listeners: list[Listener] = []
    missing: list[_NoFamily] = []
    try:
        for address in listen:
            try:
                listeners.append(bind(address))
            except _NoFamily as error:
                missing.append(error)
        if missing and not listeners:
            raise missing[0]
    except StartupError:
        for listener in listeners:
            listener.stop()
        raise
    for one in missing:
        log.warning("%s", one.message)
    return listeners


def bind(address: Multiaddr) -> Listener:
    """A socket that listens on `address`. StartupError naming it when that cannot be."""
    ip, port = ip_of(address), {part.name: value for part, value in address.items()}.get("tcp")
    if ip is None or port is None or len(list(address.protocols())) != 2:
        raise StartupError(f"{address}: cannot be listened on; /ip4/<address>/tcp/<port> or /ip6/… is needed")
    try:
        sock = socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    except OSError as error:
        kind = _NoFamily if error.errno == errno.EAFNOSUPPORT else StartupError
        raise kind(f"{address}: cannot listen there: {error.strerror}") from None
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not held up by our own closed connections
        if ip.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # leaves the port to a listener on 0.0.0.0
        sock.bind((str(ip), int(port)))
        sock.listen(_BACKLOG)
        share_port(sock)
    except OSError as error:
        sock.close()
        raise StartupError(f"{address}: cannot listen there: {error.strerror}") from None
    return Listener(sock)
