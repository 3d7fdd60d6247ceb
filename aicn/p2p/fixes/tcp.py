"""TCP connections: reads are buffered, and IPv6 peers have an address.

io/trio.py:53 `TrioTCPStream.read` asks the kernel for exactly what its caller wants, under a lock: two system calls and four lock
operations for each noise record, and as many for every byte of a negotiation. io/trio.py:104 `get_remote_address` takes the
four-part name of an IPv6 socket for invalid. Tests: tests/unit/p2p/test_fixes.py::test_tcp_reads_are_buffered and
::test_ipv6_peer_has_an_address.
"""

from __future__ import annotations

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream

from aicn.p2p.fixes.patch import replace

_RECEIVE = 64 << 10  # bytes per system call: a whole noise record


async def read(self: TrioTCPStream, n: int | None = None) -> bytes:
    """At most `n` bytes, at least one; b"" at the end. For one reader at a time, as all its users are."""
    if n == 0:
        return b""
    buffer: bytearray | None = self.__dict__.get("_unread")
    if not buffer:
        try:
            data = bytes(await self.stream.receive_some(_RECEIVE))
        except trio.BrokenResourceError as error:
            raise ConnectionClosedError("reset by the peer", transport="tcp") from error
        except trio.ClosedResourceError:
            return b""
        if n is None or len(data) <= n:
            return data
        buffer = self.__dict__["_unread"] = bytearray(data)
    data = bytes(buffer[:n])
    del buffer[: len(data)]
    return data


def get_remote_address(self: TrioTCPStream) -> tuple[str, int] | None:
    """The peer's address and port; None when the connection ended before anybody asked."""
    if self._cached_remote_address is None:
        try:
            host, port = self.stream.socket.getpeername()[:2]
        except OSError:
            return None
        self._cached_remote_address = (host, port)
    return self._cached_remote_address


def apply() -> None:
    replace(TrioTCPStream, "read", read)
    replace(TrioTCPStream, "get_remote_address", get_remote_address)
