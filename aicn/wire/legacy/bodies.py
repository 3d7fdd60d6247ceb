"""Bodies of messages: a question or an answer of each type, as plain bytes.

Decoders give what the body says, or raise ProtocolViolation; `None` says that the body is a question. Later versions (v0.2.x) are read
as far as they can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from aicn.domain.hardware import Cpu, Disk, Gpu, HostInfo, Memory, OperatingSystem
from aicn.domain.ids import PeerId
from aicn.domain.nodes import NodeInfo
from aicn.domain.offers import NodeType
from aicn.domain.registration import Project
from aicn.errors import ProtocolViolation
from aicn.wire.legacy.envelope import Type
from aicn.wire.pb import legacy_pb2 as pb

M = TypeVar("M", bound=Message)

EMPTY_QUESTION = b"\x0a\x00"  # an empty `req`
EMPTY_ANSWER = b"\x12\x00"  # an empty `res`: with an error, or a client node without projects

_BODIES: dict[Type, type[Any]] = {
    Type.PEER_IDENTITY: pb.PeerIdentityBody,
    Type.HOST_INFO: pb.HostInfoBody,
    Type.AI_PROJECT: pb.AIProjectBody,
    Type.CHAT_COMPLETION: pb.ChatCompletionBody,
    Type.IMAGE_GENERATION: pb.ImageGenerationBody,
}
_LOOKED_INTO: dict[tuple[Type, str], tuple[str, ...]] = {
    (Type.HOST_INFO, "res"): ("os", "memory"),
    (Type.CHAT_COMPLETION, "req"): ("wallet",),
    (Type.CHAT_COMPLETION, "res"): ("usage",),
    (Type.IMAGE_GENERATION, "req"): ("wallet",),
}
_LONGEST_NAME = 128  # characters of a project or model name, as everywhere
_MOST_PROJECTS = 1000
_MOST_MODELS = 1000  # of one project
_MOST_NAMES = 10_000  # of one node
_MOST_ITEMS = 256  # disks, processors, addresses, protocols …
_LONGEST_ITEM = 512  # characters of one


def parse(kind: Type, plain: bytes) -> Any:
    """The body as a protobuf message with `req` or `res`. ProtocolViolation: it is neither."""
    body = _read(kind, plain)
    if body.WhichOneof("data") is None:
        raise ProtocolViolation(f"legacy: a body of type {kind.name} that asks and answers nothing")
    return body


def _read(kind: Type, plain: bytes) -> Any:
    try:
        return _BODIES[kind].FromString(plain)
    except DecodeError:
        raise ProtocolViolation(f"legacy: not a body of type {kind.name}") from None


def is_question(kind: Type, plain: bytes) -> bool:
    """Whether the body asks; otherwise it answers. ProtocolViolation."""
    return bool(parse(kind, plain).HasField("req"))


def answer(kind: Type, plain: bytes) -> Any:
    """The `res` of a body. ProtocolViolation: it has none."""
    body = parse(kind, plain)
    if not body.HasField("res"):
        raise ProtocolViolation(f"legacy: a question of type {kind.name} where an answer is expected")
    return body.res


def question(kind: Type, plain: bytes) -> Any:
    """The `req` of a body. ProtocolViolation: it has none."""
    body = parse(kind, plain)
    if not body.HasField("req"):
        raise ProtocolViolation(f"legacy: an answer of type {kind.name} where a question is expected")
    return body.req


def check_complete(kind: int, plain: bytes, *, code: int) -> None:
    """ProtocolViolation for a body that nodes of the existing network die of: a submessage that they look into is absent.

    Types and bodies that they ignore pass, and so do those of failures (`code`: the message's), which they do not look into. What cannot
    be read here does not: they may read it, since they take deeper nesting.
    """
    if code or kind not in _BODIES:
        return
    known = Type(kind)
    body = _read(known, plain)
    part = body.req if body.HasField("req") else body.res
    needed = _LOOKED_INTO.get((known, body.WhichOneof("data")), ())
    if not all(part.HasField(name) for name in needed):
        raise ProtocolViolation(f"legacy: a body of type {known.name} without {' or '.join(needed)}")


# ------------------------------------------------------------------------------------------------------ peer identity


def encode_info(info: NodeInfo) -> bytes:
    """Identify data. Nodes of the existing network leave the agent version and the key out, which both are elsewhere."""
    body = pb.PeerIdentityBody()
    body.res.listen_addrs.extend(info.addresses)
    body.res.protocols.extend(info.protocols)
    body.res.protocol_version = info.protocol_version
    body.res.agent_version = info.agent_version
    return body.SerializeToString()


def decode_info(plain: bytes, peer: PeerId, *, agent_version: str = "") -> NodeInfo:
    """`agent_version`: what is known of it, for a body that leaves it out."""
    res = answer(Type.PEER_IDENTITY, plain)
    return NodeInfo(
        peer_id=peer,
        protocol_version=_text(res.protocol_version),
        agent_version=_text(res.agent_version) or agent_version,
        addresses=_texts(res.listen_addrs),
        protocols=_texts(res.protocols),
    )


# ---------------------------------------------------------------------------------------------------------- host info


def encode_host(host: HostInfo) -> bytes:
    body = pb.HostInfoBody()
    res = body.res
    res.os.SetInParent()
    res.memory.SetInParent()
    _copy(host.os, res.os)
    _copy(host.memory, res.memory)
    for items, field in ((host.cpu, res.cpu), (host.disk, res.disk), (host.gpu, res.gpu)):
        for item in items:
            _copy(item, field.add())
    return body.SerializeToString()


def decode_host(plain: bytes) -> HostInfo:
    res = answer(Type.HOST_INFO, plain)
    return HostInfo(
        os=OperatingSystem(**{name: _text(getattr(res.os, name)) for name in OperatingSystem.__slots__}),
        cpu=tuple(Cpu(_text(one.model_name), one.total_cores, one.total_threads) for one in _first(res.cpu)),
        memory=Memory(res.memory.total_physical_bytes, res.memory.total_usable_bytes),
        disk=tuple(
            Disk(_text(one.drive_type), one.size_bytes, _text(one.model), _text(one.serial_number))
            for one in _first(res.disk)
        ),
        gpu=tuple(Gpu(_text(one.vendor), _text(one.product)) for one in _first(res.gpu)),
    )


# ----------------------------------------------------------------------------------------------------------- projects


def encode_projects(projects: Sequence[Project], node_type: NodeType | None = None) -> bytes:
    """Projects with their models; with the node type it is a heartbeat's body."""
    body = pb.AIProjectBody()
    body.res.SetInParent()
    for project in projects:
        body.res.projects.add(project=project.name, models=[model.encode() for model in project.models])
    if node_type:
        body.res.node_type = int(node_type)
    return body.SerializeToString()


def decode_projects(plain: bytes) -> tuple[tuple[Project, ...], NodeType]:
    """Projects and node type; names that cannot be are left out, and so is what is over the limits."""
    res = answer(Type.AI_PROJECT, plain)
    projects: dict[str, dict[str, None]] = {}
    left = _MOST_NAMES
    for one in res.projects[:_MOST_PROJECTS]:
        if not _is_name(one.project):
            continue
        models = projects.setdefault(one.project, {})
        for entry in one.models[: min(_MOST_MODELS, left)]:
            if (name := _model_name(entry)) is not None:
                models[name] = None
                left -= 1
    known = res.node_type & int(NodeType.PUBLIC | NodeType.DIRECTORY | NodeType.MODEL)
    return tuple(Project(name, tuple(models)) for name, models in projects.items()), NodeType(known)


def _model_name(entry: bytes) -> str | None:
    """The name in an entry of `models`: text, or v0.2's message. Text with a control character can only be the message."""
    try:
        name = entry.decode()
    except UnicodeDecodeError:
        name = ""
    if _is_name(name):
        return name
    try:
        name = pb.AIModel.FromString(entry).model
    except DecodeError:
        return None
    return name if _is_name(name) else None


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable() and text == text.strip()


# -------------------------------------------------------------------------------------------------------------- common


def _copy(source: object, target: Message) -> None:
    """The fields of a domain object, which are named as in the message; empty ones are not written."""
    for name in source.__slots__:  # type: ignore[attr-defined]  # slotted dataclasses
        if value := getattr(source, name):
            setattr(target, name, value)


def _first(items: Sequence[M]) -> Sequence[M]:
    return items[:_MOST_ITEMS]


def _texts(items: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(_text, items[:_MOST_ITEMS]))


def _text(value: str) -> str:
    return value[:_LONGEST_ITEM]
