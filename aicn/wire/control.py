"""`/aicn/control/1.0.0`: questions to a node (proto/control.proto, docs/wire.md).

A new question is an entry in `QUESTIONS`; who answers it is told to `services.nodes.Nodes.answer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from aicn.domain.hardware import HostInfo
from aicn.domain.nodes import NodeInfo
from aicn.domain.offers import OffersAsked, OffersPage
from aicn.domain.registration import Project
from aicn.errors import AicnError, ProtocolViolation, Unsupported
from aicn.wire import nodes, offers
from aicn.wire.failure import from_failure, to_failure
from aicn.wire.framing import encode_frame
from aicn.wire.pb import control_pb2 as pb

PROTOCOL = "/aicn/control/1.0.0"
REQUEST_FRAME_BYTES = 4096
RESPONSE_FRAME_BYTES = 1024 * 1024  # tens of thousands of model names

Asked = TypeVar("Asked")
Told = TypeVar("Told")


@dataclass(frozen=True, slots=True, eq=False)
class Question(Generic[Asked, Told]):
    """One question: what is asked with it and what is told, as messages and back. The `to_` functions may raise AicnError."""

    name: str  # of its field in ControlRequest and in ControlResponse
    from_asked: Callable[[Asked], Message]
    to_asked: Callable[[Any], Asked]
    from_told: Callable[[Told], Message]
    to_told: Callable[[Any], Told]


def _nothing(_message: object) -> None:
    """Of a request that has no fields."""


PROJECTS: Question[None, Sequence[Project]] = Question(
    "projects", lambda _: pb.ProjectsRequest(), _nothing, nodes.from_projects, nodes.to_projects
)
NODE_INFO: Question[None, NodeInfo] = Question(
    "node_info", lambda _: pb.NodeInfoRequest(), _nothing, nodes.from_node_info, nodes.to_node_info
)
HOST_INFO: Question[None, HostInfo] = Question(
    "host_info", lambda _: pb.HostInfoRequest(), _nothing, nodes.from_host_info, nodes.to_host_info
)
OFFERS: Question[OffersAsked, OffersPage] = Question(
    "offers", offers.from_asked, offers.to_asked, offers.from_page, offers.to_page
)
QUESTIONS: dict[str, Question[Any, Any]] = {
    question.name: question for question in (PROJECTS, NODE_INFO, HOST_INFO, OFFERS)
}


def encode_request(question: Question[Asked, Told], asked: Asked) -> bytes:
    """The frame of a question."""
    fields: dict[str, Any] = {question.name: question.from_asked(asked)}
    return encode_frame(pb.ControlRequest(**fields).SerializeToString())


def decode_request(frame: bytes) -> tuple[Question[Any, Any], Any]:
    """Which question it is, and what is asked with it. Unsupported for a question that this version does not know."""
    try:
        request = pb.ControlRequest.FromString(frame)
    except DecodeError:
        raise ProtocolViolation("a frame is no control request") from None
    question = QUESTIONS.get(request.WhichOneof("request") or "")
    if question is None:
        raise Unsupported("this node does not know that question")
    return question, question.to_asked(getattr(request, question.name))


def encode_answer(question: Question[Asked, Told], told: Told) -> bytes:
    """The frame that answers `question`."""
    fields: dict[str, Any] = {question.name: question.from_told(told)}
    return encode_frame(pb.ControlResponse(**fields).SerializeToString())


def encode_failure(error: AicnError) -> bytes:
    """The frame that says why a question is not answered."""
    return encode_frame(pb.ControlResponse(failure=to_failure(error)).SerializeToString())


def decode_answer(question: Question[Asked, Told], frame: bytes) -> Told:
    """The answer to `question`; raises the error that the peer answered instead. ProtocolViolation."""
    try:
        response = pb.ControlResponse.FromString(frame)
    except DecodeError:
        raise ProtocolViolation("a frame is no control response") from None
    match response.WhichOneof("response"):
        case question.name:
            return question.to_told(getattr(response, question.name))
        case "failure":
            raise from_failure(response.failure)
        case other:
            raise ProtocolViolation(f"the question {question.name} was answered with {other or 'nothing'}")
