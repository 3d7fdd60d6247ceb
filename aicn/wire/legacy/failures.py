"""Errors and the result codes of messages, in both directions. The numbers are those of spec 1, the texts the original's."""

from __future__ import annotations

from aicn import errors
from aicn.errors import AicnError
from aicn.wire.completion import one_line

NO_MODEL = "Model API configuration is empty"
NOT_SUPPORTED = (1010, "Not supported")  # a type that nobody knows
NOT_DECRYPTED = (1013, "Decrypt error")
_INTERNAL = 5000

_CODES: dict[type[AicnError], int] = {
    errors.InvalidRequest: 1001,
    errors.TooLarge: 1001,
    errors.MalformedBody: 1002,
    errors.ProtocolViolation: 1003,
    errors.DeadlineExceeded: 1004,
    errors.ModelFailed: 1006,
    errors.UnknownModel: 1006,
    errors.AnswerBroken: 1006,
    errors.Busy: 1006,
    errors.IpfsFailed: 1007,
    errors.Forbidden: 1009,
    errors.Unsupported: 1010,
}
_ERRORS: dict[int, type[AicnError]] = {
    1001: errors.InvalidRequest,
    1002: errors.InvalidRequest,
    1003: errors.ProtocolViolation,
    1004: errors.DeadlineExceeded,
    1007: errors.IpfsFailed,
    1009: errors.Forbidden,
    1010: errors.Unsupported,
    1012: errors.ProtocolViolation,
    1013: errors.ProtocolViolation,
}


def code_of(error: AicnError) -> tuple[int, str]:
    """Result code and message of an error."""
    if isinstance(error, errors.UnknownModel):
        return 1006, NO_MODEL
    return _CODES.get(type(error), _INTERNAL), error.message


def error_of(code: int, text: str) -> AicnError:
    """The error that a node has answered. Models have codes of their own: what we do not know is a ModelFailed."""
    return _ERRORS.get(code, errors.ModelFailed)(f"the node answered {code}: {one_line(text)}")
