from aicn.wire.pb import inference_pb2 as _inference_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Announcement(_message.Message):
    __slots__ = ("offer", "lost")
    OFFER_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    offer: Offer
    lost: Lost
    def __init__(self, offer: _Optional[_Union[Offer, _Mapping]] = ..., lost: _Optional[_Union[Lost, _Mapping]] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("seq", "issued_ms", "expires_ms", "node_type", "projects", "protocols", "leaving")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ISSUED_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    seq: int
    issued_ms: int
    expires_ms: int
    node_type: int
    projects: _containers.RepeatedCompositeFieldContainer[OfferedProject]
    protocols: _containers.RepeatedScalarFieldContainer[str]
    leaving: bool
    def __init__(self, seq: _Optional[int] = ..., issued_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ..., node_type: _Optional[int] = ..., projects: _Optional[_Iterable[_Union[OfferedProject, _Mapping]]] = ..., protocols: _Optional[_Iterable[str]] = ..., leaving: _Optional[bool] = ...) -> None: ...

class OfferedProject(_message.Message):
    __slots__ = ("name", "models")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    models: _containers.RepeatedCompositeFieldContainer[OfferedModel]
    def __init__(self, name: _Optional[str] = ..., models: _Optional[_Iterable[_Union[OfferedModel, _Mapping]]] = ...) -> None: ...

class OfferedModel(_message.Message):
    __slots__ = ("name", "kind", "slots", "in_flight", "context", "aliases")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: _inference_pb2.Kind
    slots: int
    in_flight: int
    context: int
    aliases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[_inference_pb2.Kind, str]] = ..., slots: _Optional[int] = ..., in_flight: _Optional[int] = ..., context: _Optional[int] = ..., aliases: _Optional[_Iterable[str]] = ...) -> None: ...

class Lost(_message.Message):
    __slots__ = ("node_id", "seq")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    seq: int
    def __init__(self, node_id: _Optional[str] = ..., seq: _Optional[int] = ...) -> None: ...
