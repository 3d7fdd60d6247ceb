"""Errors and the result codes of messages, in both directions. The numbers are those of spec 1, the texts the original's where it has any."""

from __future__ import annotations

from aicn import errors
from aicn.errors import AicnError
from aicn.wire.completion import one_line

BODYLESS = frozenset({1010, 1013})  # codes of messages with neither body nor key; others have an empty answer
NOT_SUPPORTED = "Not supported"  # a type that nobody knows
_NOT_DECRYPTED = 1013
_INTERNAL = 5000


class NotDecrypted(errors.ProtocolViolation):
    """A body is sealed, but not for this node, or broken."""


_CODES: dict[type[AicnError], int] = {
    errors.InvalidRequest: 1001,
    errors.TooLarge: 1001,
    errors.MalformedBody: 1002,
    errors.ProtocolViolation: 1003,
    NotDecrypted: _NOT_DECRYPTED,
    errors.DeadlineExceeded: 1004,
    errors.ModelFailed: 1006,
    errors.UnknownModel: 1006,
    errors.AnswerBroken: 1006,
    errors.Busy: 1006,
    errors.IpfsFailed: 1007,
    errors.Forbidden: 1009,
    errors.Unsupported: 1010,
}
_TEXTS: dict[type[AicnError], str] = {
    errors.UnknownModel: "Model API configuration is empty",
    errors.IpfsMissing: "No ipfs storage server",
    errors.IpfsDown: "Unavailable ipfs storage node",
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
    _NOT_DECRYPTED: errors.ProtocolViolation,
}


def code_of(error: AicnError) -> tuple[int, str]:
    """Result code and message of an error."""
    code = next((_CODES[cls] for cls in type(error).__mro__ if cls in _CODES), _INTERNAL)
    return code, _TEXTS.get(type(error), error.message)


def error_of(code: int, text: str) -> AicnError:
    """The error that a node has answered. Models have codes of their own: what we do not know is a ModelFailed."""
    return _ERRORS.get(code, errors.ModelFailed)(f"the node answered {code}: {one_line(text)}")
