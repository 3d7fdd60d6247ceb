"""Errors as `Failure` messages, and back: the table of both directions (proto/failure.proto)."""

from __future__ import annotations

from aicn.errors import AicnError, Fault, from_code
from aicn.wire.pb import failure_pb2 as pb

_FAULTS = {Fault.OURS: pb.FAULT_OURS, Fault.REMOTE: pb.FAULT_REMOTE, Fault.CALLER: pb.FAULT_CALLER}
_LONGEST_MESSAGE = 1000  # characters; a peer's text goes into our clients' answers and into our log


def to_failure(error: AicnError) -> pb.Failure:
    """What is told to the peer about `error`."""
    return pb.Failure(
        code=error.code,
        message=error.message[:_LONGEST_MESSAGE],
        fault=_FAULTS[error.fault],
        retry_elsewhere=error.fault is not Fault.CALLER,
        retry_after_ms=min(int((error.retry_after or 0) * 1000), 2**32 - 1),
    )


def from_failure(failure: pb.Failure) -> AicnError:
    """The error that a peer told us about; its text is cut and freed of control characters."""
    text = "".join(c if c.isprintable() else " " for c in failure.message[:_LONGEST_MESSAGE])
    return from_code(failure.code, text, retry_after=failure.retry_after_ms / 1000 or None)
