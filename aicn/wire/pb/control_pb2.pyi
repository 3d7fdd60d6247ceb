from aicn.wire.pb import failure_pb2 as _failure_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ControlRequest(_message.Message):
    __slots__ = ("projects", "node_info", "host_info", "offers")
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    NODE_INFO_FIELD_NUMBER: _ClassVar[int]
    HOST_INFO_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    projects: ProjectsRequest
    node_info: NodeInfoRequest
    host_info: HostInfoRequest
    offers: OffersRequest
    def __init__(self, projects: _Optional[_Union[ProjectsRequest, _Mapping]] = ..., node_info: _Optional[_Union[NodeInfoRequest, _Mapping]] = ..., host_info: _Optional[_Union[HostInfoRequest, _Mapping]] = ..., offers: _Optional[_Union[OffersRequest, _Mapping]] = ...) -> None: ...

class ControlResponse(_message.Message):
    __slots__ = ("projects", "failure", "node_info", "host_info", "offers")
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    NODE_INFO_FIELD_NUMBER: _ClassVar[int]
    HOST_INFO_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    projects: Projects
    failure: _failure_pb2.Failure
    node_info: NodeInfo
    host_info: HostInfo
    offers: Offers
    def __init__(self, projects: _Optional[_Union[Projects, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ..., node_info: _Optional[_Union[NodeInfo, _Mapping]] = ..., host_info: _Optional[_Union[HostInfo, _Mapping]] = ..., offers: _Optional[_Union[Offers, _Mapping]] = ...) -> None: ...

class ProjectsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Projects(_message.Message):
    __slots__ = ("projects",)
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    projects: _containers.RepeatedCompositeFieldContainer[Project]
    def __init__(self, projects: _Optional[_Iterable[_Union[Project, _Mapping]]] = ...) -> None: ...

class Project(_message.Message):
    __slots__ = ("name", "models")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., models: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NodeInfo(_message.Message):
    __slots__ = ("peer_id", "protocol_version", "agent_version", "addresses", "protocols")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    protocol_version: str
    agent_version: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    protocols: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, peer_id: _Optional[str] = ..., protocol_version: _Optional[str] = ..., agent_version: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., protocols: _Optional[_Iterable[str]] = ...) -> None: ...

class HostInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HostInfo(_message.Message):
    __slots__ = ("os", "cpu", "memory", "disk", "gpu")
    OS_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    os: OperatingSystem
    cpu: _containers.RepeatedCompositeFieldContainer[Cpu]
    memory: Memory
    disk: _containers.RepeatedCompositeFieldContainer[Disk]
    gpu: _containers.RepeatedCompositeFieldContainer[Gpu]
    def __init__(self, os: _Optional[_Union[OperatingSystem, _Mapping]] = ..., cpu: _Optional[_Iterable[_Union[Cpu, _Mapping]]] = ..., memory: _Optional[_Union[Memory, _Mapping]] = ..., disk: _Optional[_Iterable[_Union[Disk, _Mapping]]] = ..., gpu: _Optional[_Iterable[_Union[Gpu, _Mapping]]] = ...) -> None: ...

class OperatingSystem(_message.Message):
    __slots__ = ("os", "platform", "platform_family", "platform_version", "kernel_version", "kernel_arch")
    OS_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FAMILY_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_VERSION_FIELD_NUMBER: _ClassVar[int]
    KERNEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    KERNEL_ARCH_FIELD_NUMBER: _ClassVar[int]
    os: str
    platform: str
    platform_family: str
    platform_version: str
    kernel_version: str
    kernel_arch: str
    def __init__(self, os: _Optional[str] = ..., platform: _Optional[str] = ..., platform_family: _Optional[str] = ..., platform_version: _Optional[str] = ..., kernel_version: _Optional[str] = ..., kernel_arch: _Optional[str] = ...) -> None: ...

class Cpu(_message.Message):
    __slots__ = ("model_name", "total_cores", "total_threads")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    TOTAL_CORES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_THREADS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    total_cores: int
    total_threads: int
    def __init__(self, model_name: _Optional[str] = ..., total_cores: _Optional[int] = ..., total_threads: _Optional[int] = ...) -> None: ...

class Memory(_message.Message):
    __slots__ = ("total_physical_bytes", "total_usable_bytes")
    TOTAL_PHYSICAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_USABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    total_physical_bytes: int
    total_usable_bytes: int
    def __init__(self, total_physical_bytes: _Optional[int] = ..., total_usable_bytes: _Optional[int] = ...) -> None: ...

class Disk(_message.Message):
    __slots__ = ("drive_type", "size_bytes", "model", "serial_number")
    DRIVE_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SERIAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    drive_type: str
    size_bytes: int
    model: str
    serial_number: str
    def __init__(self, drive_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., model: _Optional[str] = ..., serial_number: _Optional[str] = ...) -> None: ...

class Gpu(_message.Message):
    __slots__ = ("vendor", "product")
    VENDOR_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    vendor: str
    product: str
    def __init__(self, vendor: _Optional[str] = ..., product: _Optional[str] = ...) -> None: ...

class OffersRequest(_message.Message):
    __slots__ = ("after", "only")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    ONLY_FIELD_NUMBER: _ClassVar[int]
    after: str
    only: str
    def __init__(self, after: _Optional[str] = ..., only: _Optional[str] = ...) -> None: ...

class Offers(_message.Message):
    __slots__ = ("signed", "more_after")
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    MORE_AFTER_FIELD_NUMBER: _ClassVar[int]
    signed: _containers.RepeatedScalarFieldContainer[bytes]
    more_after: str
    def __init__(self, signed: _Optional[_Iterable[bytes]] = ..., more_after: _Optional[str] = ...) -> None: ...
