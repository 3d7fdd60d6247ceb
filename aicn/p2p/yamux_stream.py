"""What `aicn.p2p.yamux` is made of: the numbers in its frames, and the state of one stream."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
HEADER = struct.Struct("!BBHII")
INITIAL_WINDOW = 256 << 10  # bytes, fixed by the specification


class Broken(Enum):
    """Why a stream has ended before both sides finished."""

    ABORTED = "aborted"  # by us
    RESET = "reset"  # by the peer, or on the peer's account: it overstepped a limit
    LOST = "lost"  # the connection ended


@dataclass(slots=True, eq=False)
class Stream:
    """State of one stream. Only `Session` changes it."""

    inbound: bool
    id: int = 0  # 0: ours, not announced yet
    send_window: int = INITIAL_WINDOW  # bytes we may still send
    recv_window: int = INITIAL_WINDOW  # bytes the peer may still send
    window: int = INITIAL_WINDOW  # == recv_window + len(buffer) + consumed
    consumed: int = 0  # bytes read since the last credit
    buffer: bytearray = field(default_factory=bytearray)  # received, not read
    eof_sent: bool = False
    eof_received: bool = False
    broken: Broken | None = None
    discarding: bool = False  # nobody reads it any more
    first_flag: int = field(init=False)  # still to be sent with our first frame, then 0
    unacknowledged: bool = field(init=False)  # the peer has not answered our SYN

    def __post_init__(self) -> None:
        self.first_flag = ACK if self.inbound else SYN
        self.unacknowledged = not self.inbound

    @property
    def ended(self) -> bool:
        """Nothing more will be sent or received."""
        return self.broken is not None or (self.eof_sent and self.eof_received)

    @property
    def sendable(self) -> bool:
        return self.broken is None and not self.eof_sent

    @property
    def at_eof(self) -> bool:
        """The peer has finished cleanly and all of it was read."""
        return self.eof_received and not self.buffer and self.broken is not Broken.ABORTED
