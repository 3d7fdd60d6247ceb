"""Opening TCP connections, from the port that we listen on where that can be.

A router in between then uses the same mapping for what we dial and for what is dialled to us, so that the address at which a peer
sees us is one at which we can be reached (go-libp2p, reuseport transport), and a hole punched in it is one that leads to our
listener. Where the port cannot be shared, such as for a second connection to the same peer, the system chooses one.
Upstream (transport/tcp/tcp.py) binds the listening sockets with SO_REUSEPORT, so that two nodes share a port without noticing.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from multiaddr import Multiaddr

from aicn.errors import Unreachable
from aicn.p2p.addresses import Address, from_socket, ip_of, port_of

_TAKEN = {
    errno.EADDRINUSE,
    errno.EADDRNOTAVAIL,
    errno.EINVAL,
}  # that port, with this destination or from this interface
_REUSE_PORT = getattr(socket, "SO_REUSEPORT", None)  # not on Windows


class TcpConnection(RawConnection):
    """An open TCP connection."""

    def __init__(self, stream: TrioTCPStream, *, initiator: bool) -> None:
        super().__init__(stream, initiator)
        self.local = from_socket(stream.stream.socket.getsockname())


def share_port(sock: socket.socket) -> None:
    """Let our own outbound connections use the port of a listening socket.

    After it was bound and listens: a second node's `bind`, which has not asked for sharing, fails all the same.
    """
    if _REUSE_PORT is not None:
        sock.setsockopt(socket.SOL_SOCKET, _REUSE_PORT, 1)


async def dial(address: Multiaddr, listening: Sequence[Multiaddr]) -> TcpConnection:
    """Connect to /ip4/…/tcp/… or /ip6/…, from one of the ports in `listening` if one fits. Unreachable."""
    ip = ip_of(address)
    if ip is None:
        raise Unreachable(f"{address} is not an IP address")
    source = _source(address, ip, listening)
    if source is not None:
        try:
            return await connect(address, source)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise Unreachable(error.strerror or str(error)) from None
    try:
        return await connect(address, None)
    except OSError as error:
        raise Unreachable(error.strerror or str(error)) from None


async def connect(address: Multiaddr, source: tuple[str, int] | None) -> TcpConnection:
    """Connect to an IP address and port, from `source` if given. OSError."""
    ip, port = ip_of(address), port_of(address)
    assert ip is not None, "a name is resolved before"
    sock = trio.socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        if source is not None and _REUSE_PORT is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, _REUSE_PORT, 1)
            await sock.bind(source)
        await sock.connect((str(ip), port))
        return TcpConnection(TrioTCPStream(trio.SocketStream(sock)), initiator=True)
    except BaseException:
        sock.close()
        raise


def _source(address: Multiaddr, ip: Address, listening: Sequence[Multiaddr]) -> tuple[str, int] | None:
    """Where to connect to `ip` from: a listening port from which it may be reached."""
    for own_address in listening:
        own = ip_of(own_address)
        if (
            own_address != address
            and own is not None
            and own.version == ip.version
            and own.is_loopback == ip.is_loopback
        ):
            return str(own), port_of(own_address)
    return None
