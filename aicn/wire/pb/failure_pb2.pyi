from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Fault(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAULT_UNSPECIFIED: _ClassVar[Fault]
    FAULT_OURS: _ClassVar[Fault]
    FAULT_REMOTE: _ClassVar[Fault]
    FAULT_CALLER: _ClassVar[Fault]
FAULT_UNSPECIFIED: Fault
FAULT_OURS: Fault
FAULT_REMOTE: Fault
FAULT_CALLER: Fault

class Failure(_message.Message):
    __slots__ = ("code", "message", "fault", "retry_elsewhere", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    RETRY_ELSEWHERE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    fault: Fault
    retry_elsewhere: bool
    retry_after_ms: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., fault: _Optional[_Union[Fault, str]] = ..., retry_elsewhere: _Optional[bool] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...
