"""`/aicn/control/1.0.0`: questions to a node (proto/control.proto, docs/wire.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from google.protobuf.message import DecodeError

from aicn.domain.registration import Project
from aicn.errors import AicnError, ProtocolViolation, Unsupported
from aicn.wire.failure import from_failure, to_failure
from aicn.wire.framing import encode_frame
from aicn.wire.pb import control_pb2 as pb

PROTOCOL = "/aicn/control/1.0.0"
REQUEST_FRAME_BYTES = 4096
RESPONSE_FRAME_BYTES = 1024 * 1024  # tens of thousands of model names


def encode_projects_request() -> bytes:
    return encode_frame(pb.ControlRequest(projects=pb.ProjectsRequest()).SerializeToString())


def decode_request(frame: bytes) -> Literal["projects"]:
    """What is asked. Unsupported for a question that this version does not know."""
    try:
        request = pb.ControlRequest.FromString(frame)
    except DecodeError:
        raise ProtocolViolation("a frame is no control request") from None
    if not request.HasField("projects"):
        raise Unsupported("this node does not know that question")
    return "projects"


def encode_projects(projects: Sequence[Project]) -> bytes:
    listed = [pb.Project(name=project.name, models=project.models) for project in projects]
    return encode_frame(pb.ControlResponse(projects=pb.Projects(projects=listed)).SerializeToString())


def encode_failure(error: AicnError) -> bytes:
    return encode_frame(pb.ControlResponse(failure=to_failure(error)).SerializeToString())


def decode_projects(frame: bytes) -> Sequence[Project]:
    """The answer to a projects request; raises the error that the peer answered instead."""
    try:
        response = pb.ControlResponse.FromString(frame)
    except DecodeError:
        raise ProtocolViolation("a frame is no control response") from None
    match response.WhichOneof("response"):
        case "projects":
            return [Project(project.name, tuple(project.models)) for project in response.projects.projects]
        case "failure":
            raise from_failure(response.failure)
        case _:
            raise ProtocolViolation("a control response is empty")
