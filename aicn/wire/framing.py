"""Length-prefixed frames: an unsigned varint (LEB128, multiformats/unsigned-varint) and that many bytes."""

from __future__ import annotations

from aicn.errors import ProtocolViolation, TooLarge

_LONGEST_PREFIX = 5  # bytes of a varint up to 2**35: far over every limit, far under the nine of the spec


def encode_frame(payload: bytes) -> bytes:
    """`payload` with its length in front."""
    length = len(payload)
    prefix = bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + payload


class FrameReader:
    """Cuts a byte stream into frames. `feed` what arrives, take frames with `next_frame` until it answers None."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # bytes of the largest frame
        self._buffer = bytearray()
        self._start = 0  # of the first byte not yet handed out

    def feed(self, data: bytes) -> None:
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    @property
    def pending(self) -> int:
        """Bytes held of a frame that is not complete yet."""
        return len(self._buffer) - self._start

    def take_rest(self) -> bytes:
        """What was fed behind the last frame; it is no longer held here."""
        rest = bytes(memoryview(self._buffer)[self._start :])
        self._buffer.clear()
        self._start = 0
        return rest

    def next_frame(self) -> bytes | None:
        """The next complete frame, or None. TooLarge over the limit, ProtocolViolation for a length that is none."""
        buffer, start = self._buffer, self._start
        length = shift = 0
        for position in range(start, min(len(buffer), start + _LONGEST_PREFIX)):
            byte = buffer[position]
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        else:
            if len(buffer) - start >= _LONGEST_PREFIX:
                raise ProtocolViolation("a frame's length prefix is too long")
            return None
        if length > self.limit:
            raise TooLarge(f"a frame of {length} bytes; at most {self.limit} are taken")
        end = position + 1 + length
        if end > len(buffer):
            return None
        self._start = end
        return bytes(memoryview(buffer)[position + 1 : end])
