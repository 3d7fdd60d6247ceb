from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Message(_message.Message):
    __slots__ = ("header", "type", "body", "result_code", "result_message")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    RESULT_CODE_FIELD_NUMBER: _ClassVar[int]
    RESULT_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    header: MessageHeader
    type: int
    body: bytes
    result_code: int
    result_message: bytes
    def __init__(self, header: _Optional[_Union[MessageHeader, _Mapping]] = ..., type: _Optional[int] = ..., body: _Optional[bytes] = ..., result_code: _Optional[int] = ..., result_message: _Optional[bytes] = ...) -> None: ...

class MessageHeader(_message.Message):
    __slots__ = ("client_version", "timestamp", "id", "node_id", "receiver", "node_pub_key", "sign")
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    NODE_PUB_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGN_FIELD_NUMBER: _ClassVar[int]
    client_version: bytes
    timestamp: int
    id: str
    node_id: str
    receiver: str
    node_pub_key: bytes
    sign: bytes
    def __init__(self, client_version: _Optional[bytes] = ..., timestamp: _Optional[int] = ..., id: _Optional[str] = ..., node_id: _Optional[str] = ..., receiver: _Optional[str] = ..., node_pub_key: _Optional[bytes] = ..., sign: _Optional[bytes] = ...) -> None: ...

class PeerIdentityBody(_message.Message):
    __slots__ = ("req", "res")
    REQ_FIELD_NUMBER: _ClassVar[int]
    RES_FIELD_NUMBER: _ClassVar[int]
    req: Empty
    res: PeerIdentityResponse
    def __init__(self, req: _Optional[_Union[Empty, _Mapping]] = ..., res: _Optional[_Union[PeerIdentityResponse, _Mapping]] = ...) -> None: ...

class HostInfoBody(_message.Message):
    __slots__ = ("req", "res")
    REQ_FIELD_NUMBER: _ClassVar[int]
    RES_FIELD_NUMBER: _ClassVar[int]
    req: Empty
    res: HostInfoResponse
    def __init__(self, req: _Optional[_Union[Empty, _Mapping]] = ..., res: _Optional[_Union[HostInfoResponse, _Mapping]] = ...) -> None: ...

class AIProjectBody(_message.Message):
    __slots__ = ("req", "res")
    REQ_FIELD_NUMBER: _ClassVar[int]
    RES_FIELD_NUMBER: _ClassVar[int]
    req: Empty
    res: AIProjectResponse
    def __init__(self, req: _Optional[_Union[Empty, _Mapping]] = ..., res: _Optional[_Union[AIProjectResponse, _Mapping]] = ...) -> None: ...

class ChatCompletionBody(_message.Message):
    __slots__ = ("req", "res")
    REQ_FIELD_NUMBER: _ClassVar[int]
    RES_FIELD_NUMBER: _ClassVar[int]
    req: ChatCompletionRequest
    res: ChatCompletionResponse
    def __init__(self, req: _Optional[_Union[ChatCompletionRequest, _Mapping]] = ..., res: _Optional[_Union[ChatCompletionResponse, _Mapping]] = ...) -> None: ...

class ImageGenerationBody(_message.Message):
    __slots__ = ("req", "res")
    REQ_FIELD_NUMBER: _ClassVar[int]
    RES_FIELD_NUMBER: _ClassVar[int]
    req: ImageGenerationRequest
    res: ImageGenerationResponse
    def __init__(self, req: _Optional[_Union[ImageGenerationRequest, _Mapping]] = ..., res: _Optional[_Union[ImageGenerationResponse, _Mapping]] = ...) -> None: ...

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PeerIdentityResponse(_message.Message):
    __slots__ = ("public_key", "listen_addrs", "protocols", "protocol_version", "agent_version")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    LISTEN_ADDRS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    public_key: bytes
    listen_addrs: _containers.RepeatedScalarFieldContainer[str]
    protocols: _containers.RepeatedScalarFieldContainer[str]
    protocol_version: str
    agent_version: str
    def __init__(self, public_key: _Optional[bytes] = ..., listen_addrs: _Optional[_Iterable[str]] = ..., protocols: _Optional[_Iterable[str]] = ..., protocol_version: _Optional[str] = ..., agent_version: _Optional[str] = ...) -> None: ...

class HostInfoResponse(_message.Message):
    __slots__ = ("os", "cpu", "memory", "disk", "gpu")
    OS_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    os: OSInfo
    cpu: _containers.RepeatedCompositeFieldContainer[CpuInfo]
    memory: MemoryInfo
    disk: _containers.RepeatedCompositeFieldContainer[DiskInfo]
    gpu: _containers.RepeatedCompositeFieldContainer[GpuInfo]
    def __init__(self, os: _Optional[_Union[OSInfo, _Mapping]] = ..., cpu: _Optional[_Iterable[_Union[CpuInfo, _Mapping]]] = ..., memory: _Optional[_Union[MemoryInfo, _Mapping]] = ..., disk: _Optional[_Iterable[_Union[DiskInfo, _Mapping]]] = ..., gpu: _Optional[_Iterable[_Union[GpuInfo, _Mapping]]] = ...) -> None: ...

class OSInfo(_message.Message):
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

class CpuInfo(_message.Message):
    __slots__ = ("model_name", "total_cores", "total_threads")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    TOTAL_CORES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_THREADS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    total_cores: int
    total_threads: int
    def __init__(self, model_name: _Optional[str] = ..., total_cores: _Optional[int] = ..., total_threads: _Optional[int] = ...) -> None: ...

class MemoryInfo(_message.Message):
    __slots__ = ("total_physical_bytes", "total_usable_bytes")
    TOTAL_PHYSICAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_USABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    total_physical_bytes: int
    total_usable_bytes: int
    def __init__(self, total_physical_bytes: _Optional[int] = ..., total_usable_bytes: _Optional[int] = ...) -> None: ...

class DiskInfo(_message.Message):
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

class GpuInfo(_message.Message):
    __slots__ = ("vendor", "product")
    VENDOR_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    vendor: str
    product: str
    def __init__(self, vendor: _Optional[str] = ..., product: _Optional[str] = ...) -> None: ...

class AIProjectResponse(_message.Message):
    __slots__ = ("projects", "node_type")
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    projects: _containers.RepeatedCompositeFieldContainer[AIProjectOfNode]
    node_type: int
    def __init__(self, projects: _Optional[_Iterable[_Union[AIProjectOfNode, _Mapping]]] = ..., node_type: _Optional[int] = ...) -> None: ...

class AIProjectOfNode(_message.Message):
    __slots__ = ("project", "models")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    project: str
    models: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, project: _Optional[str] = ..., models: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AIModel(_message.Message):
    __slots__ = ("model", "api", "type", "idle", "cid")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    model: str
    api: str
    type: int
    idle: int
    cid: str
    def __init__(self, model: _Optional[str] = ..., api: _Optional[str] = ..., type: _Optional[int] = ..., idle: _Optional[int] = ..., cid: _Optional[str] = ...) -> None: ...

class Wallet(_message.Message):
    __slots__ = ("wallet", "signature", "hash")
    WALLET_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    wallet: str
    signature: str
    hash: str
    def __init__(self, wallet: _Optional[str] = ..., signature: _Optional[str] = ..., hash: _Optional[str] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: bytes
    def __init__(self, role: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class ChatCompletionRequest(_message.Message):
    __slots__ = ("project", "model", "messages", "stream", "cid", "temperature", "top_p", "wallet")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    WALLET_FIELD_NUMBER: _ClassVar[int]
    project: str
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    stream: bool
    cid: str
    temperature: float
    top_p: float
    wallet: Wallet
    def __init__(self, project: _Optional[str] = ..., model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ..., stream: _Optional[bool] = ..., cid: _Optional[str] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., wallet: _Optional[_Union[Wallet, _Mapping]] = ...) -> None: ...

class ChatCompletionResponse(_message.Message):
    __slots__ = ("created", "choices", "usage")
    CREATED_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    created: int
    choices: _containers.RepeatedCompositeFieldContainer[ChatChoice]
    usage: ChatUsage
    def __init__(self, created: _Optional[int] = ..., choices: _Optional[_Iterable[_Union[ChatChoice, _Mapping]]] = ..., usage: _Optional[_Union[ChatUsage, _Mapping]] = ...) -> None: ...

class ChatChoice(_message.Message):
    __slots__ = ("index", "message", "finish_reason")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    index: int
    message: ChatMessage
    finish_reason: str
    def __init__(self, index: _Optional[int] = ..., message: _Optional[_Union[ChatMessage, _Mapping]] = ..., finish_reason: _Optional[str] = ...) -> None: ...

class ChatUsage(_message.Message):
    __slots__ = ("completion_tokens", "prompt_tokens", "total_tokens")
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    completion_tokens: int
    prompt_tokens: int
    total_tokens: int
    def __init__(self, completion_tokens: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., total_tokens: _Optional[int] = ...) -> None: ...

class ImageGenerationRequest(_message.Message):
    __slots__ = ("project", "model", "prompt", "number", "size", "width", "height", "ipfs_node", "wallet")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    IPFS_NODE_FIELD_NUMBER: _ClassVar[int]
    WALLET_FIELD_NUMBER: _ClassVar[int]
    project: str
    model: str
    prompt: str
    number: int
    size: str
    width: int
    height: int
    ipfs_node: str
    wallet: Wallet
    def __init__(self, project: _Optional[str] = ..., model: _Optional[str] = ..., prompt: _Optional[str] = ..., number: _Optional[int] = ..., size: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., ipfs_node: _Optional[str] = ..., wallet: _Optional[_Union[Wallet, _Mapping]] = ...) -> None: ...

class ImageGenerationResponse(_message.Message):
    __slots__ = ("ipfs_node", "choices")
    IPFS_NODE_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    ipfs_node: str
    choices: _containers.RepeatedCompositeFieldContainer[ImageChoice]
    def __init__(self, ipfs_node: _Optional[str] = ..., choices: _Optional[_Iterable[_Union[ImageChoice, _Mapping]]] = ...) -> None: ...

class ImageChoice(_message.Message):
    __slots__ = ("cid", "image_name")
    CID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_NAME_FIELD_NUMBER: _ClassVar[int]
    cid: str
    image_name: str
    def __init__(self, cid: _Optional[str] = ..., image_name: _Optional[str] = ...) -> None: ...
