"""What nodes tell of themselves, as messages of proto/control.proto, and back.

Answers come from strangers: lists have at most `LONGEST_LIST` entries (ProtocolViolation), texts are cut to `LONGEST_TEXT`
characters and freed of control characters, sizes fit into 63 bits, for that is what clients of spec 1 read them into.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from aicn.domain.hardware import Cpu, Disk, Gpu, HostInfo, Memory, OperatingSystem
from aicn.domain.ids import PeerId
from aicn.domain.nodes import NodeInfo
from aicn.domain.registration import Project
from aicn.errors import ProtocolViolation
from aicn.wire.pb import control_pb2 as pb

LONGEST_LIST = 1024  # disks of a large storage server; nothing has more addresses or protocols
LONGEST_TEXT = 256  # characters
_MOST_BYTES = 2**63 - 1

T = TypeVar("T")


def from_projects(projects: Sequence[Project]) -> pb.Projects:
    return pb.Projects(projects=[pb.Project(name=project.name, models=project.models) for project in projects])


def to_projects(message: pb.Projects) -> Sequence[Project]:
    return [Project(project.name, tuple(project.models)) for project in message.projects]


def from_node_info(info: NodeInfo) -> pb.NodeInfo:
    return pb.NodeInfo(
        peer_id=info.peer_id,
        protocol_version=info.protocol_version,
        agent_version=info.agent_version,
        addresses=info.addresses[:LONGEST_LIST],
        protocols=info.protocols[:LONGEST_LIST],
    )


def to_node_info(message: pb.NodeInfo) -> NodeInfo:
    """The peer id is as it was sent: who asks compares it with whom he asked."""
    return NodeInfo(
        peer_id=PeerId(_text(message.peer_id)),
        protocol_version=_text(message.protocol_version),
        agent_version=_text(message.agent_version),
        addresses=tuple(_text(address) for address in _few(message.addresses, "addresses")),
        protocols=tuple(_text(protocol) for protocol in _few(message.protocols, "protocols")),
    )


def from_host_info(info: HostInfo) -> pb.HostInfo:
    os, memory = info.os, info.memory
    return pb.HostInfo(
        os=pb.OperatingSystem(
            os=os.os,
            platform=os.platform,
            platform_family=os.platform_family,
            platform_version=os.platform_version,
            kernel_version=os.kernel_version,
            kernel_arch=os.kernel_arch,
        ),
        cpu=[
            pb.Cpu(model_name=cpu.model_name, total_cores=cpu.total_cores, total_threads=cpu.total_threads)
            for cpu in info.cpu[:LONGEST_LIST]
        ],
        memory=pb.Memory(
            total_physical_bytes=memory.total_physical_bytes, total_usable_bytes=memory.total_usable_bytes
        ),
        disk=[
            pb.Disk(
                drive_type=disk.drive_type,
                size_bytes=disk.size_bytes,
                model=disk.model,
                serial_number=disk.serial_number,
            )
            for disk in info.disk[:LONGEST_LIST]
        ],
        gpu=[pb.Gpu(vendor=gpu.vendor, product=gpu.product) for gpu in info.gpu[:LONGEST_LIST]],
    )


def to_host_info(message: pb.HostInfo) -> HostInfo:
    os, memory = message.os, message.memory
    return HostInfo(
        os=OperatingSystem(
            os=_text(os.os),
            platform=_text(os.platform),
            platform_family=_text(os.platform_family),
            platform_version=_text(os.platform_version),
            kernel_version=_text(os.kernel_version),
            kernel_arch=_text(os.kernel_arch),
        ),
        cpu=tuple(
            Cpu(_text(cpu.model_name), cpu.total_cores, cpu.total_threads) for cpu in _few(message.cpu, "processors")
        ),
        memory=Memory(_bytes(memory.total_physical_bytes), _bytes(memory.total_usable_bytes)),
        disk=tuple(
            Disk(_text(disk.drive_type), _bytes(disk.size_bytes), _text(disk.model), _text(disk.serial_number))
            for disk in _few(message.disk, "disks")
        ),
        gpu=tuple(Gpu(_text(gpu.vendor), _text(gpu.product)) for gpu in _few(message.gpu, "graphics adapters")),
    )


def _text(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:LONGEST_TEXT])


def _bytes(number: int) -> int:
    return min(number, _MOST_BYTES)


def _few(entries: Sequence[T], what: str) -> Iterable[T]:
    if len(entries) > LONGEST_LIST:
        raise ProtocolViolation(f"a node tells of {len(entries)} {what}; at most {LONGEST_LIST} are taken")
    return entries
