"""PeerStream (services/ports.py) on a stream of our muxer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamError

from aicn.domain.ids import PeerId
from aicn.errors import AnswerBroken, ProtocolViolation, Unsupported
from aicn.p2p import multistream
from aicn.p2p.muxed_stream import YamuxStream

FINISH_S = 10.0  # for the little that a finished handler leaves to be sent


class Stream:
    """One libp2p stream for one exchange.

    Opening costs no round trip: the proposal of multistream-select travels in front of the first bytes sent (`prefix`), and the
    agreement to it is taken off the first bytes received (`awaiting` names the protocol until then). On the other side the
    agreement is the prefix: it travels with the answer, or alone as soon as the handler has to wait for more.
    """

    __slots__ = ("_awaiting", "_lacks", "_peer", "_prefix", "_scopes", "_stream")

    def __init__(
        self,
        stream: YamuxStream,
        peer: PeerId,
        *,
        prefix: bytes,
        awaiting: str | None = None,
        lacks: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._stream = stream
        self._peer = peer
        self._prefix = prefix
        self._awaiting = awaiting
        self._lacks = lacks  # whether the peer has said that it does not speak a protocol
        self._scopes: list[trio.CancelScope] = []

    @property
    def peer(self) -> PeerId:
        return self._peer

    async def send_all(self, data: bytes) -> None:
        prefix, self._prefix = self._prefix, b""
        try:
            await self._stream.send_all(prefix + data if prefix else data)
        except BaseException as error:
            if not self._stream.has_sent:
                self._prefix = prefix  # cancelled before a byte of it was queued; it leaves in one frame
            if isinstance(error, MuxedStreamError):
                raise self._broken(error) from None
            raise

    async def send_eof(self) -> None:
        if self._prefix:
            await self.send_all(b"")
        self._stream.send_eof()

    async def receive_some(self, limit: int | None = None) -> bytes:
        """As PeerStream says; at most `limit` bytes."""
        if self._prefix and (self._awaiting or not self._stream.state.buffer):
            await self.send_all(b"")
        try:
            if self._awaiting:
                await self._take_agreement(self._awaiting)
            return await self._stream.receive_some(limit)
        except MuxedStreamError as error:
            raise self._broken(error) from None

    def unreceive(self, data: bytes) -> None:
        """Put bytes back in front of what the next `receive_some` gives."""
        self._stream.unreceive(data)

    async def _take_agreement(self, protocol: str) -> None:
        """Take the peer's agreement off what came. Unsupported or ProtocolViolation, and the stream is reset."""
        received = b""
        try:
            while (size := multistream.check_answer(received, protocol)) is None:
                part = await self._stream.receive_some()
                if not part:
                    raise ProtocolViolation(f"{self._peer} closed the stream instead of agreeing to {protocol}")
                received += part
        except BaseException as error:
            if isinstance(error, trio.Cancelled):
                self._stream.unreceive(received)  # the next `receive_some` begins again
            else:
                self.reset()
            raise
        self._awaiting = None
        self._stream.unreceive(received[size:])

    def hold(self) -> None:
        """Somebody waits for what it brings: until it ends, its connection is not closed for lack of room."""
        self._stream.in_use = True

    def reset(self) -> None:
        self._stream.abort()

    async def finish(self) -> None:
        """Close both directions: what was sent arrives, what the peer still sends is thrown away.

        Waits, at most FINISH_S, only when nothing was sent yet and the connection's output is full; then the stream is reset.
        """
        with trio.move_on_after(FINISH_S) if self._prefix else nullcontext() as patience:
            await self.send_eof()
        if patience is not None and patience.cancelled_caught:
            self.reset()
        else:
            self._stream.finish()

    def cancel_on_reset(self, scope: trio.CancelScope) -> None:
        self._scopes.append(scope)
        self._stream.on_reset(self._on_reset)

    def _on_reset(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    def _broken(self, error: MuxedStreamError) -> AnswerBroken | Unsupported:
        if self._awaiting and self._lacks(self._awaiting):
            # A go peer's reset may overtake its refusal; what it told identify says as much.
            return Unsupported(f"{self._peer} does not speak {self._awaiting}")
        return AnswerBroken(f"{self._peer}: {error}")
