"""`/aicn/inference/1.0.0`: one inference exchange (proto/inference.proto, docs/wire.md)."""

from __future__ import annotations

import re

from google.protobuf.message import DecodeError

from aicn.domain.inference import MOST_PARTS, Accepted, Chunk, End, InferenceRequest, Kind, Part, Usage
from aicn.errors import AicnError, InvalidRequest, ProtocolViolation
from aicn.wire.failure import from_failure, to_failure
from aicn.wire.framing import encode_frame
from aicn.wire.pb import inference_pb2 as pb

PROTOCOL = "/aicn/inference/1.0.0"
CHUNK_BYTES = 256 * 1024  # most data in one Chunk: a window's worth, so that a slow reader holds little
ANSWER_FRAME_BYTES = CHUNK_BYTES + 1024  # largest frame of a worker: a Chunk or a Failure with its fields
REQUEST_OVERHEAD_BYTES = 4096  # id, project and model beside the body, and what frames its parts
_LONGEST_NAME = 256  # bytes of a project, a model, a request id
_LONGEST_COMMENT = 256  # bytes
_COMMENT = re.compile(rb":[^\r\n]*\n\n")


def encode_request(request: InferenceRequest, *, now: float) -> bytes:
    """A frame; `now` is the clock of `request.deadline`."""
    message = pb.Request(
        id=request.id,
        kind=pb.Kind.Name(request.kind.value),
        project=request.project,
        model=request.model,
        deadline_ms=max(1, min(int((request.deadline - now) * 1000), 2**32 - 1)),
        stream=request.stream,
        body=request.body,
        parts=[
            pb.Part(name=part.name, filename=part.filename, content_type=part.content_type, data=part.data)
            for part in request.parts
        ],
    )
    return encode_frame(pb.InferenceFrame(request=message).SerializeToString())


def decode_request(frame: bytes, *, now: float) -> InferenceRequest:
    """The request in a worker's first frame. ProtocolViolation, or InvalidRequest for a field that cannot be."""
    message = _parse(frame)
    if message.WhichOneof("frame") != "request":
        raise ProtocolViolation("the first frame is no request")
    request = message.request
    try:
        kind = Kind(request.kind)
    except ValueError:
        raise InvalidRequest(f"kind: {request.kind} is unknown here") from None
    for name in ("id", "project", "model"):
        if not 0 < len(getattr(request, name)) <= _LONGEST_NAME:
            raise InvalidRequest(f"{name}: 1 to {_LONGEST_NAME} characters are needed")
    if not request.deadline_ms:
        raise InvalidRequest("deadline_ms: must be positive")
    if len(request.parts) > MOST_PARTS:
        raise InvalidRequest(f"parts: {len(request.parts)}; at most {MOST_PARTS} are allowed")
    return InferenceRequest(
        id=request.id,
        kind=kind,
        project=request.project,
        model=request.model,
        body=request.body,
        stream=request.stream,
        deadline=now + request.deadline_ms / 1000,
        parts=tuple(_part(part) for part in request.parts),
    )


def _part(part: pb.Part) -> Part:
    if not 0 < len(part.name) <= _LONGEST_NAME or max(len(part.filename), len(part.content_type)) > _LONGEST_NAME:
        raise InvalidRequest(
            f"parts: a name of 1 to {_LONGEST_NAME} characters is needed, and no other text longer than that"
        )
    return Part(part.name, part.filename, part.content_type, part.data)


def encode_accepted(accepted: Accepted) -> bytes:
    message = pb.Accepted(queue_position=accepted.queue_position, in_flight=accepted.in_flight)
    return encode_frame(pb.InferenceFrame(accepted=message).SerializeToString())


def encode_chunk(chunk: Chunk) -> bytes:
    """One frame, or several when there is more data than fits one."""
    data = chunk.data
    if chunk.comment:
        return encode_frame(pb.InferenceFrame(chunk=pb.Chunk(data=data, comment=True)).SerializeToString())
    if len(data) <= CHUNK_BYTES:
        return encode_frame(pb.InferenceFrame(chunk=pb.Chunk(data=data)).SerializeToString())
    parts = (data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))
    return b"".join(encode_chunk(Chunk(part)) for part in parts)


def encode_end(end: End) -> bytes:
    message = pb.End(
        finish_reason=end.finish_reason,
        queued_ms=end.queued_ms,
        first_byte_ms=end.first_byte_ms,
        total_ms=end.total_ms,
    )
    if end.usage is not None:
        message.usage.prompt_tokens = end.usage.prompt_tokens
        message.usage.completion_tokens = end.usage.completion_tokens
        message.usage.total_tokens = end.usage.total_tokens
    return encode_frame(pb.InferenceFrame(end=message).SerializeToString())


def encode_failure(error: AicnError) -> bytes:
    return encode_frame(pb.InferenceFrame(failure=to_failure(error)).SerializeToString())


def decode_answer(frame: bytes) -> Accepted | Chunk | End | AicnError:
    """What a worker's frame says; a `Failure` as the error to raise. ProtocolViolation for anything else."""
    message = _parse(frame)
    match message.WhichOneof("frame"):
        case "chunk":
            return _comment(message.chunk.data) if message.chunk.comment else Chunk(message.chunk.data)
        case "accepted":
            return Accepted(message.accepted.queue_position, message.accepted.in_flight)
        case "end":
            return _end(message.end)
        case "failure":
            return from_failure(message.failure)
        case _:
            raise ProtocolViolation("a worker's frame is empty or a request")


def _comment(data: bytes) -> Chunk:
    """One SSE comment and nothing else: clients get it as it is, and must not take it for an event (WHATWG HTML, 9.2.5)."""
    if not (_COMMENT.fullmatch(data) and len(data) <= _LONGEST_COMMENT):
        raise ProtocolViolation("a chunk says that it is a comment and is none")
    return Chunk(data, comment=True)


def _end(message: pb.End) -> End:
    usage = None
    if message.HasField("usage"):
        usage = Usage(message.usage.prompt_tokens, message.usage.completion_tokens, message.usage.total_tokens)
    return End(
        finish_reason=message.finish_reason[:_LONGEST_NAME],
        usage=usage,
        queued_ms=message.queued_ms,
        first_byte_ms=message.first_byte_ms,
        total_ms=message.total_ms,
    )


def _parse(frame: bytes) -> pb.InferenceFrame:
    try:
        return pb.InferenceFrame.FromString(frame)
    except DecodeError:
        raise ProtocolViolation("a frame is no inference frame") from None
