"""PeerStreams in memory: the same contract as libp2p's (tests/contract/test_peer_stream.py), without sockets."""

from __future__ import annotations

import trio

from aicn.domain.ids import PeerId
from aicn.errors import AnswerBroken


class MemoryPeerStream:
    """One end of a pair. At most `window` bytes wait unread on the way to the other end."""

    def __init__(self, peer: PeerId, window: int) -> None:
        self._peer = peer
        self._window = window
        self._other: MemoryPeerStream
        self._unread = bytearray()
        self._finished = False  # this end has sent its last byte
        self._reset = False
        self._changed = trio.Event()
        self._scopes: list[trio.CancelScope] = []

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def was_reset(self) -> bool:
        return self._reset

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        while view:
            self._check()
            room = self._window - len(self._other._unread)
            if room > 0:
                self._other._unread += view[:room]
                view = view[room:]
                self._other._wake()
            else:
                await self._changed.wait()

    async def send_eof(self) -> None:
        self._finished = True
        self._other._wake()
        await trio.lowlevel.checkpoint()

    async def receive_some(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            self._check()
            if self._unread:
                data = bytes(self._unread)
                self._unread.clear()
                self._other._wake()
                return data
            if self._other._finished:
                return b""
            await self._changed.wait()

    def reset(self) -> None:
        if self._finished and self._other._finished and not self._unread:
            return
        for end in (self, self._other):
            end._reset = True
            end._wake()
        for scope in self._other._scopes:
            scope.cancel()

    def cancel_on_reset(self, scope: trio.CancelScope) -> None:
        self._scopes.append(scope)
        if self._reset:
            scope.cancel()

    def _check(self) -> None:
        if self._reset:
            raise AnswerBroken("the stream was reset")

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def peer_stream_pair(a: PeerId, b: PeerId, *, window: int = 256 * 1024) -> tuple[MemoryPeerStream, MemoryPeerStream]:
    """The end that `a` holds (its peer is `b`), and the end that `b` holds."""
    at_a, at_b = MemoryPeerStream(b, window), MemoryPeerStream(a, window)
    at_a._other, at_b._other = at_b, at_a
    return at_a, at_b
