"""multistream-select 1.0 (libp2p spec, connections), sans-io.

A message is an unsigned-varint length, a text and a newline, which the length counts. Both sides say `/multistream/1.0.0`; then
the initiator names a protocol and the responder repeats it, or says `na` and the initiator may name another.
"""

from __future__ import annotations

from collections.abc import Container

from aicn.errors import ProtocolViolation, Unsupported

_LONGEST = 1024  # bytes of one message, as go-multistream has it: longer ones are hostile
_MOST_PROPOSALS = 16  # that a peer may make on one stream before it is given up


def encode(text: str) -> bytes:
    """One message."""
    body = text.encode() + b"\n"
    size = len(body)
    prefix = bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7))
    return prefix + body


HEADER = encode("/multistream/1.0.0")
_NA = encode("na")


def proposal(protocol: str) -> bytes:
    """What an initiator sends, all at once and with its first bytes behind it; an answer that agrees is the same bytes."""
    return HEADER + encode(protocol)


def take_message(buffer: bytes | bytearray) -> tuple[bytes, int] | None:
    """The first message in `buffer` without its newline, and how many bytes it took; None while it is incomplete.

    ProtocolViolation: not a message of multistream-select.
    """
    if not buffer:
        return None
    size, start = buffer[0], 1
    if size & 0x80:
        if len(buffer) < 2:
            return None
        if buffer[1] & 0x80:
            raise ProtocolViolation("multistream-select: message too long")
        size, start = size & 0x7F | buffer[1] << 7, 2
    if not 0 < size <= _LONGEST:
        raise ProtocolViolation(f"multistream-select: message of {size} bytes")
    if len(buffer) < start + size:
        return None
    message = bytes(buffer[start : start + size])
    if message[-1:] != b"\n":
        raise ProtocolViolation("multistream-select: message without its newline")
    return message[:-1], start + size


def check_answer(buffer: bytes, protocol: str) -> int | None:
    """How many bytes of `buffer`, all that came back so far, are the agreement to `proposal(protocol)`; None: more are needed.

    Unsupported: the peer does not speak it. ProtocolViolation: no answer of multistream-select.
    """
    expected = proposal(protocol)
    if buffer.startswith(expected):
        return len(expected)
    if expected.startswith(buffer):
        return None
    refusal = HEADER + _NA
    if buffer.startswith(refusal):
        raise Unsupported(f"the peer does not speak {protocol}")
    if refusal.startswith(buffer):
        return None
    raise ProtocolViolation(f"junk where the agreement to {protocol} should be")


class NoGreeting(ProtocolViolation):
    """The peer speaks something else than multistream-select."""


class Responder:
    """The responder's side: fed with what came, says what to answer and when a protocol was agreed on."""

    def __init__(self, protocols: Container[str]) -> None:
        self._protocols = protocols
        self._buffer = b""
        self._greeted = False
        self._proposals = 0
        self.refused = False  # the peer named a protocol that is not served
        self.protocol: str | None = None  # agreed on; what is left then is in `rest`

    @property
    def rest(self) -> bytes:
        """Bytes that came after the negotiation."""
        return self._buffer

    def receive(self, data: bytes) -> bytes:
        """Take `data`; what to send back (may be nothing). ProtocolViolation: give the stream up."""
        self._buffer += data
        answer = b""
        if not self._greeted:
            if not self._buffer.startswith(HEADER):
                if HEADER.startswith(self._buffer):
                    return b""
                raise NoGreeting("multistream-select: no greeting")  # at the first wrong byte, not after more
            self._greeted = True
            self._buffer = self._buffer[len(HEADER) :]
            answer = HEADER
        while self.protocol is None:
            try:
                taken = take_message(self._buffer)
            except ProtocolViolation:
                if self.refused and answer:  # what follows belongs to the protocol that we do not speak: say "na" first
                    return answer
                raise
            if taken is None:
                break
            message, size = taken
            self._buffer = self._buffer[size:]
            answer += self._answer(message)
        return answer

    def _answer(self, message: bytes) -> bytes:
        self._proposals += 1
        if self._proposals > _MOST_PROPOSALS:
            raise ProtocolViolation("multistream-select: too many proposals")
        try:
            name = message.decode()
        except UnicodeDecodeError:
            raise ProtocolViolation("multistream-select: a proposal that is no text") from None
        if name not in self._protocols:
            self.refused = True
            return _NA
        self.protocol = name
        return encode(name)
