"""Length-prefixed messages on one stream, as the libp2p protocols with protobuf messages have them."""

from __future__ import annotations

from aicn.errors import ProtocolViolation
from aicn.p2p.stream import Stream
from aicn.wire.framing import FrameReader, encode_frame


class Messages:
    """A stream of messages. `limit`: bytes of the largest one taken."""

    def __init__(self, stream: Stream, *, limit: int) -> None:
        self._stream = stream
        self._reader = FrameReader(limit)

    async def send(self, message: bytes) -> None:
        """AnswerBroken when the peer reset the stream or is gone."""
        await self._stream.send_all(encode_frame(message))

    async def receive(self) -> bytes:
        """The next message. TooLarge, ProtocolViolation (also at the end of the stream), Unsupported, AnswerBroken."""
        message = await self.receive_or_end()
        if message is None:
            raise ProtocolViolation("the stream ended where a message should be")
        return message

    async def receive_or_end(self) -> bytes | None:
        """The next message, None at the end of the stream; otherwise as `receive`."""
        while (message := self._reader.next_frame()) is None:
            data = await self._stream.receive_some()
            if not data:
                if self._reader.pending:
                    raise ProtocolViolation("the stream ended inside a message")
                return None
            self._reader.feed(data)
        return message

    def release(self) -> Stream:
        """The stream, for whatever follows the last message; what came of that already is put back to be received."""
        if rest := self._reader.take_rest():
            self._stream.unreceive(rest)
        return self._stream
