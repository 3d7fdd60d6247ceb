from aicn.wire.pb import failure_pb2 as _failure_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    KIND_CHAT: _ClassVar[Kind]
    KIND_IMAGE_GENERATION: _ClassVar[Kind]
    KIND_IMAGE_EDIT: _ClassVar[Kind]
    KIND_EMBEDDING: _ClassVar[Kind]
    KIND_COMPLETION: _ClassVar[Kind]
KIND_UNSPECIFIED: Kind
KIND_CHAT: Kind
KIND_IMAGE_GENERATION: Kind
KIND_IMAGE_EDIT: Kind
KIND_EMBEDDING: Kind
KIND_COMPLETION: Kind

class InferenceFrame(_message.Message):
    __slots__ = ("request", "accepted", "chunk", "end", "failure")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    request: Request
    accepted: Accepted
    chunk: Chunk
    end: End
    failure: _failure_pb2.Failure
    def __init__(self, request: _Optional[_Union[Request, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("id", "kind", "project", "model", "deadline_ms", "stream", "body", "parts")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: Kind
    project: str
    model: str
    deadline_ms: int
    stream: bool
    body: bytes
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[Kind, str]] = ..., project: _Optional[str] = ..., model: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., stream: _Optional[bool] = ..., body: _Optional[bytes] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("name", "filename", "content_type", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    filename: str
    content_type: str
    data: bytes
    def __init__(self, name: _Optional[str] = ..., filename: _Optional[str] = ..., content_type: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("queue_position", "in_flight")
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    queue_position: int
    in_flight: int
    def __init__(self, queue_position: _Optional[int] = ..., in_flight: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data", "comment")
    DATA_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    comment: bool
    def __init__(self, data: _Optional[bytes] = ..., comment: _Optional[bool] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("finish_reason", "usage", "queued_ms", "first_byte_ms", "total_ms")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    QUEUED_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_BYTE_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    finish_reason: str
    usage: Usage
    queued_ms: int
    first_byte_ms: int
    total_ms: int
    def __init__(self, finish_reason: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., queued_ms: _Optional[int] = ..., first_byte_ms: _Optional[int] = ..., total_ms: _Optional[int] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens", "total_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., total_tokens: _Optional[int] = ...) -> None: ...
