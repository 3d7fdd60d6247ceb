"""The whole error vocabulary.

Each class has a stable `code`: the word that travels in a `Failure` frame and that facades map to their own numbers and
HTTP statuses (`aicn/gateway/v0/errors.py`). The `fault` decides what a caller may do about it: CALLER errors are never tried on
another node, REMOTE errors may be. Messages are one line, name the field or the node, and never hold a prompt or an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class Fault(Enum):
    """Whose fault an error is."""

    OURS = "ours"
    REMOTE = "remote"
    CALLER = "caller"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a model endpoint has answered in HTTP instead of an answer, for those to whom it is passed on as it is."""

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...]  # names in lower case
    body: bytes


class AicnError(Exception):
    """Base of all errors that a user or a peer may be told about."""

    code: ClassVar[str] = "internal"
    fault: ClassVar[Fault] = Fault.OURS
    refusal: Refusal | None = None  # the words of the endpoint that failed, when it had some that a stranger may read
    usage: tuple[int, int] | None = None  # tokens asked and answered of what the client got, where an answer broke off

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after  # seconds; None: no advice


class InternalError(AicnError):
    """Something in this node broke; the log has the traceback."""


class StorageError(AicnError):
    """The database could not be read or written."""

    code = "storage"


class InvalidRequest(AicnError):
    """A field of the request is missing, of the wrong type or impossible; the message names it."""

    code = "invalid_request"
    fault = Fault.CALLER


class MalformedBody(AicnError):
    """The body does not parse (JSON, protobuf) at all."""

    code = "malformed_body"
    fault = Fault.CALLER


class UnsupportedMediaType(AicnError):
    """The body is declared to be something else than JSON and is not JSON."""

    code = "unsupported_media_type"
    fault = Fault.CALLER


class TooLarge(AicnError):
    """A body or an answer is over its configured limit."""

    code = "too_large"
    fault = Fault.CALLER


class SlowBody(AicnError):
    """The caller did not send its request body in time."""

    code = "slow_body"
    fault = Fault.CALLER


class Forbidden(AicnError):
    """The caller may not do this."""

    code = "forbidden"
    fault = Fault.CALLER


class Unauthorized(AicnError):
    """An API key is needed, and none was shown or not a good one."""

    code = "unauthorized"
    fault = Fault.CALLER


class RateLimited(AicnError):
    """The API key has used what it may; `retry_after` says when it may again."""

    code = "rate_limited"
    fault = Fault.CALLER


class Unsupported(AicnError):
    """The node does not do this (switched off, or the peer does not speak the protocol)."""

    code = "unsupported"
    fault = Fault.REMOTE


class UnknownNode(AicnError):
    """Nobody knows where the named peer is."""

    code = "unknown_node"
    fault = Fault.CALLER


class Unreachable(AicnError):
    """The peer is known, but no connection to it could be made."""

    code = "unreachable"
    fault = Fault.REMOTE


class NotConnected(AicnError):
    """There is no connection to the peer."""

    code = "not_connected"
    fault = Fault.CALLER


class DeadlineExceeded(AicnError):
    """Something did not answer within its deadline."""

    code = "deadline_exceeded"
    fault = Fault.REMOTE


class UnknownModel(AicnError):
    """The node has no such project or model."""

    code = "unknown_model"
    fault = Fault.REMOTE


class ModelFailed(AicnError):
    """The model endpoint refused, broke off, or answered something that is no answer."""

    code = "model_failed"
    fault = Fault.REMOTE


class EndpointDown(ModelFailed):
    """No connection to the model endpoint can be made: nothing was sent, and another endpoint may be asked."""


class IpfsMissing(ModelFailed):
    """The node with the model knows no IPFS node to put images on."""


class IpfsDown(ModelFailed):
    """Nobody answers where the IPFS node should be."""


class AnswerBroken(AicnError):
    """The answer ended without saying that it is complete: the worker or its connection died."""

    code = "answer_broken"
    fault = Fault.REMOTE


class NoNode(AicnError):
    """No node offers the model, or all that do have failed; the message says who and how."""

    code = "no_node"
    fault = Fault.REMOTE


class IpfsFailed(AicnError):
    """The IPFS node could not be used, or did not take the images."""

    code = "ipfs_failed"
    fault = Fault.REMOTE


class Busy(AicnError):
    """The node takes no more work now; `retry_after` says when it may."""

    code = "busy"
    fault = Fault.REMOTE


class ProtocolViolation(AicnError):
    """The peer sent what the protocol does not allow."""

    code = "protocol_violation"
    fault = Fault.REMOTE


class ConfigError(AicnError):
    """The configuration cannot be used: exit code 2."""

    code = "config"
    fault = Fault.CALLER


class StartupError(AicnError):
    """The node cannot start (port in use, unreadable key, locked data directory): exit code 1."""

    code = "startup"


def _leaves(cls: type[AicnError]) -> list[type[AicnError]]:
    return [cls, *(leaf for sub in cls.__subclasses__() for leaf in _leaves(sub))]


_BY_CODE: dict[str, type[AicnError]] = {
    cls.code: cls for cls in reversed(_leaves(AicnError)[1:]) if cls.fault is not Fault.OURS
}


def from_code(code: str, message: str, *, retry_after: float | None = None) -> AicnError:
    """The error that a peer's `Failure` names. A code that we do not know, or that says that the peer broke, is a `ModelFailed`."""
    return _BY_CODE.get(code, ModelFailed)(message, retry_after=retry_after)
