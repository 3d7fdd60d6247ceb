"""yamux, the stream multiplexer of libp2p: the state machine of one connection, without any I/O.

A frame is a header of 12 bytes, big endian (version, type, flags, stream id, length), and for DATA `length` bytes of body;
in WINDOW_UPDATE the length is the credit, in PING an opaque number, in GO_AWAY the reason.
Source: https://github.com/hashicorp/yamux/blob/master/spec.md, and go-yamux where the text is silent.

Rules kept here:

* Streams of the dialler have odd ids, those of the listener even ones. Ours get their id with their first frame, so that ids are
  announced in order and opening costs no frame of its own: SYN travels on the first DATA, ACK on the first answer.
* Each direction of a stream ends by FIN. Both FINs, or one RST, end the stream. What a FIN completed stays readable whatever comes
  after it; a RST without FIN throws away what was not read.
* A receiver may be sent 256 KiB at first. Credit goes back when half of the window was read, and doubles the window up to
  `Limits.window` as long as the connection's budget lasts.
* Frames for a stream that has ended are dropped: they were under way when it ended. Everything else that an honest peer cannot
  send raises ProtocolViolation, after which the session takes nothing more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from aicn.errors import ProtocolViolation
from aicn.p2p.yamux_stream import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    INITIAL_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    Broken,
    Stream,
)

NORMAL, PROTOCOL_ERROR = range(2)  # reasons of GO_AWAY
MAX_FIELD = 0xFFFFFFFF  # of stream ids, windows and ping numbers
RECORD = 65_519  # plaintext of one full noise record: 65535 less the tag of 16
MAX_PAYLOAD = RECORD - HEADER.size  # bytes; within the 64 KiB at which go-yamux cuts, and the turn of one writer
REORDERING = 1024  # ids; peers with concurrent openers announce theirs out of order, go at most 256 of them
ACK_BATCH = 64  # inbound streams; below the 256 unacknowledged ones at which rust and go peers stop opening


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost us. Streams over a limit are reset; only `unsent_replies` ends the connection."""

    inbound_streams: int = 4096
    accept_backlog: int = 256  # inbound streams that nobody has taken yet, as in go-yamux
    unread_bytes: int = 32 << 20  # of all streams together; half of it may be lent to windows that grow
    window: int = 1 << 20  # bytes per stream
    unsent_replies: int = 256 << 10  # control frames that the peer made us queue and does not read


DEFAULT_LIMITS = Limits()


class Session:
    """One side of a yamux connection: bytes in by `receive`, bytes out by `data_to_send`."""

    def __init__(self, *, initiator: bool, limits: Limits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self.streams: dict[int, Stream] = {}  # announced and not ended
        self.unsent = 0  # bytes waiting in the output queue
        self.unacknowledged = 0  # streams of ours that the peer has not answered yet
        self.unread = 0  # bytes received and not read, of all live streams
        self.went_away: int | None = None  # reason of the peer's GO_AWAY
        self.answered: int | None = None  # number of the last PING that was answered; whoever sees it sets it back
        self._output: deque[bytes] = deque()  # whole frames
        self._cut = b""  # the rest of a frame of which `data_to_send` has given the beginning
        self._unsent_replies = 0
        self._input = bytearray()  # an incomplete frame
        self._unannounced: dict[Stream, None] = {}
        self._to_acknowledge: dict[Stream, None] = {}
        self.backlog: deque[Stream] = deque()  # opened by the peer, for `accept`
        self._inbound = 0
        self._lent = 0  # bytes of windows beyond their initial size
        self._next_id = 1 if initiator else 2
        self._newest = 0 if initiator else -1  # highest id that the peer has announced
        self._seen = 0  # bit n: id `_newest - 2n` was announced (the anti-replay window of RFC 4303, 3.4.3)
        self._pings = 0

    # ---- streams, as the local side uses them ----

    def open(self) -> Stream:
        """A new stream of ours; the peer hears of it with its first frame."""
        stream = Stream(inbound=False)
        self._unannounced[stream] = None
        self.unacknowledged += 1
        return stream

    def accept(self) -> Stream | None:
        """The next stream that the peer has opened; one that broke meanwhile is left out."""
        while self.backlog:
            stream = self.backlog.popleft()
            if stream.broken is None or stream.eof_received:
                return stream
        return None

    @property
    def accepts_new(self) -> bool:
        """Streams may be opened: the peer has not gone away, and there are ids left."""
        return self.went_away is None and self._next_id + 2 * len(self._unannounced) <= MAX_FIELD

    def announce(self, stream: Stream) -> None:
        """Tell the peer of a new stream although there is nothing to send on it yet."""
        if stream.first_flag == SYN and stream.sendable:
            self._frame(stream, WINDOW_UPDATE, 0)

    def send(self, stream: Stream, data: bytes, start: int = 0) -> int:
        """Queue one DATA frame of data[start:]; says how many bytes the window and the frame took. `stream` must be sendable."""
        size = min(len(data) - start, stream.send_window, MAX_PAYLOAD)
        if size > 0:
            stream.send_window -= size
            self._frame(stream, DATA, 0, data if size == len(data) else data[start : start + size])
        return size

    def send_eof(self, stream: Stream) -> None:
        """Finish our direction; does nothing on a stream that is finished or broken."""
        if stream.sendable:
            stream.eof_sent = True
            self._frame(stream, WINDOW_UPDATE, FIN)
            if stream.ended:
                self._forget(stream)

    def take(self, stream: Stream, limit: int | None = None) -> bytes:
        """Received bytes, all or at most `limit`; b"" if there are none. Gives credit back to the peer when it is worth a frame."""
        buffer = stream.buffer
        if limit is None or limit >= len(buffer):
            data = bytes(buffer)
            buffer.clear()
        else:
            data = bytes(memoryview(buffer)[:limit])
            del buffer[:limit]
        if data and not stream.ended:
            self.unread -= len(data)
            stream.consumed += len(data)
            if stream.consumed * 2 >= stream.window and not stream.eof_received:
                self._give_credit(stream)
        return data

    def put_back(self, stream: Stream, data: bytes) -> None:
        """Undo a `take`: the next one gives `data` first."""
        stream.buffer[:0] = data
        if not stream.ended:
            self.unread += len(data)
            stream.consumed -= len(data)  # below zero if the credit is out already: the next one is smaller by as much

    def discard(self, stream: Stream) -> None:
        """Nobody will read the stream again: throw away what it holds and what comes, and give no more credit."""
        if not stream.ended:
            self.unread -= len(stream.buffer)
        stream.buffer.clear()
        stream.discarding = True

    def abort(self, stream: Stream) -> None:
        """End both directions at once; what was not read is gone. Does nothing on a stream that has ended."""
        if not stream.ended:
            self._reset(stream, Broken.ABORTED)

    # ---- the connection ----

    def ping(self) -> int:
        """Queue a PING ahead of all data and return its number; `answered` shows the number when the answer has come."""
        self._pings = self._pings % MAX_FIELD + 1
        self._control(HEADER.pack(0, PING, SYN, 0, self._pings), urgent=True)
        return self._pings

    def go_away(self, reason: int) -> None:
        self._control(HEADER.pack(0, GO_AWAY, 0, 0, reason))

    def acknowledge(self) -> None:
        """Queue the ACKs that no answer has carried yet."""
        for stream in list(self._to_acknowledge):
            self._frame(stream, WINDOW_UPDATE, 0)

    def lose(self) -> None:
        """The connection has ended: every stream breaks; what they have received stays readable."""
        for stream in [*self.streams.values(), *self._unannounced]:
            stream.broken = Broken.LOST
            self._forget(stream)
        self.backlog.clear()

    def data_to_send(self, limit: int = RECORD) -> bytes:
        """Take up to `limit` queued bytes; b"" if there are none. A frame may be cut, so that bulk data makes full records."""
        if self._to_acknowledge and self._output:
            self.acknowledge()  # costs no record of its own now
        taken: list[bytes] = []
        room = limit
        while room > 0 and (self._cut or self._output):
            piece, self._cut = self._cut, b""
            if not piece:
                piece = self._output.popleft()
                if piece[1] != DATA:
                    self._unsent_replies -= len(piece)
            piece, self._cut = piece[:room], piece[room:]
            room -= len(piece)
            taken.append(piece)
        self.unsent -= limit - room
        return b"".join(taken)

    def receive(self, data: bytes) -> list[Stream]:
        """Take bytes of the peer, however they are cut; returns the streams that changed, for whoever waits on them.

        Raises ProtocolViolation; the frames before the bad one have taken effect.
        """
        changed: dict[Stream, None] = {}
        held = self._input
        if held:
            held += data
        with memoryview(held or data) as view:
            done = self._frames(view, changed)
            if not held:
                held += view[done:]
                done = 0
        if done:
            del held[:done]
        if self._unsent_replies > self.limits.unsent_replies:
            raise ProtocolViolation("yamux: the peer does not read what it makes us answer")
        return list(changed)

    # ---- frames of the peer ----

    def _frames(self, view: memoryview, changed: dict[Stream, None]) -> int:
        """Apply every complete frame of `view`; returns the bytes they took."""
        position, end = 0, len(view)
        while end - position >= HEADER.size:
            version, kind, flags, stream_id, length = HEADER.unpack_from(view, position)
            if version or kind > GO_AWAY or flags > SYN | ACK | FIN | RST:
                raise ProtocolViolation(f"yamux: version {version}, type {kind}, flags {flags:#x} is no frame")
            body = position + HEADER.size
            after = body
            if kind == DATA:
                if length > self.limits.window:
                    raise ProtocolViolation(f"yamux: frame of {length} bytes, larger than any window")
                after += length
                if after > end:
                    break
            if kind <= WINDOW_UPDATE:
                stream = self._addressed(stream_id, flags)
                if stream is not None:
                    if kind == DATA:
                        self._on_data(stream, view[body:after])
                    else:
                        self._on_credit(stream, length)
                    self._on_flags(stream, flags)
                    changed[stream] = None
            else:
                self._on_session_frame(kind, flags, stream_id, length)
            position = after
        return position

    def _on_session_frame(self, kind: int, flags: int, stream_id: int, value: int) -> None:
        if stream_id:
            raise ProtocolViolation(f"yamux: type {kind} belongs to no stream, but names {stream_id}")
        if kind == GO_AWAY:
            self.went_away = value
        elif flags == SYN:
            self._control(HEADER.pack(0, PING, ACK, 0, value), urgent=True)
        elif flags == ACK:
            self.answered = value
        else:
            raise ProtocolViolation(f"yamux: PING with flags {flags:#x}")

    def _addressed(self, stream_id: int, flags: int) -> Stream | None:
        """The stream that a frame is for; None if the frame is to be dropped."""
        if flags & SYN:
            return self._on_syn(stream_id, flags)
        stream = self.streams.get(stream_id)
        if stream is None and not self._was_announced(stream_id):
            raise ProtocolViolation(f"yamux: frame for stream {stream_id}, which was never opened")
        return stream

    def _was_announced(self, stream_id: int) -> bool:
        if stream_id % 2 == self._next_id % 2:
            return 0 < stream_id < self._next_id
        behind = (self._newest - stream_id) // 2
        return stream_id > 0 and behind >= 0 and (behind >= REORDERING or bool(self._seen >> behind & 1))

    def _on_syn(self, stream_id: int, flags: int) -> Stream | None:
        if not stream_id or stream_id % 2 == self._next_id % 2 or flags & ACK:
            raise ProtocolViolation(f"yamux: SYN for stream {stream_id} is not the peer's to send (flags {flags:#x})")
        ahead = (stream_id - self._newest) // 2
        if ahead > 0:
            self._seen = (self._seen << min(ahead, REORDERING) | 1) & ((1 << REORDERING) - 1)
            self._newest = stream_id
        elif self._was_announced(stream_id):
            raise ProtocolViolation(f"yamux: stream {stream_id} opened again")
        else:
            self._seen |= 1 << -ahead
        limits = self.limits
        if self._inbound >= limits.inbound_streams or len(self.backlog) >= limits.accept_backlog:
            self._control(HEADER.pack(0, WINDOW_UPDATE, RST, stream_id, 0))
            return None
        stream = self.streams[stream_id] = Stream(inbound=True, id=stream_id)
        self._inbound += 1
        self.backlog.append(stream)
        self._to_acknowledge[stream] = None
        if len(self._to_acknowledge) >= ACK_BATCH:
            self.acknowledge()
        return stream

    def _on_data(self, stream: Stream, payload: memoryview) -> None:
        size = len(payload)
        if size > stream.recv_window:
            raise ProtocolViolation(f"yamux: stream {stream.id} sent {size - stream.recv_window} bytes over its window")
        stream.recv_window -= size
        if stream.discarding:
            return
        if size and (stream.eof_received or self.unread + size > self.limits.unread_bytes):
            self._reset(stream, Broken.RESET)
        elif size:
            stream.buffer += payload
            self.unread += size

    def _on_credit(self, stream: Stream, credit: int) -> None:
        stream.send_window += credit
        if stream.send_window > MAX_FIELD:
            raise ProtocolViolation(f"yamux: window of stream {stream.id} overflows")

    def _on_flags(self, stream: Stream, flags: int) -> None:
        self.unacknowledged -= stream.unacknowledged
        stream.unacknowledged = False
        if stream.broken is not None:  # by this very frame's data
            return
        if flags & RST:
            self._break(stream, Broken.RESET)
        elif flags & FIN:
            stream.eof_received = True
            if stream.ended:
                self._forget(stream)

    # ---- what both directions share ----

    def _frame(self, stream: Stream, kind: int, flags: int, payload: bytes = b"", length: int = 0) -> None:
        """Queue a frame of `stream`, with the SYN or ACK that it still owes."""
        if stream.first_flag:
            flags |= stream.first_flag
            if stream.first_flag == SYN:
                self._assign_id(stream)
            else:
                self._to_acknowledge.pop(stream, None)
            stream.first_flag = 0
        frame = HEADER.pack(0, kind, flags, stream.id, len(payload) or length)
        if kind == DATA:
            frame += payload
            self._output.append(frame)
            self.unsent += len(frame)
        else:
            self._control(frame)

    def _assign_id(self, stream: Stream) -> None:
        stream.id = self._next_id
        self._next_id += 2
        del self._unannounced[stream]
        self.streams[stream.id] = stream

    def _control(self, frame: bytes, *, urgent: bool = False) -> None:
        if urgent:
            self._output.appendleft(frame)
        else:
            self._output.append(frame)
        self.unsent += len(frame)
        self._unsent_replies += len(frame)

    def _give_credit(self, stream: Stream) -> None:
        spare = self.limits.unread_bytes // 2 - self._lent
        growth = max(0, min(stream.window, self.limits.window - stream.window, spare))
        self._lent += growth
        stream.window += growth
        credit = stream.consumed + growth
        stream.consumed = 0
        stream.recv_window += credit
        self._frame(stream, WINDOW_UPDATE, 0, length=credit)

    def _reset(self, stream: Stream, reason: Broken) -> None:
        if stream.id:
            stream.first_flag = 0  # an ACK has no meaning any more
            self._frame(stream, WINDOW_UPDATE, RST)
        self._break(stream, reason)

    def _break(self, stream: Stream, reason: Broken) -> None:
        stream.broken = reason
        self._forget(stream)
        if reason is Broken.ABORTED or not stream.eof_received:
            stream.buffer.clear()

    def _forget(self, stream: Stream) -> None:
        """Drop an ended stream from all accounts; what it holds belongs to its reader alone from now on."""
        self.streams.pop(stream.id, None)
        self._unannounced.pop(stream, None)
        self._to_acknowledge.pop(stream, None)
        self.unread -= len(stream.buffer)
        self._lent -= stream.window - INITIAL_WINDOW
        self._inbound -= stream.inbound
        self.unacknowledged -= stream.unacknowledged
        stream.unacknowledged = False
