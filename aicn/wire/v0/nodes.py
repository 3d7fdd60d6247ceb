"""Nodes."""

from __future__ import annotations

from aicn.domain.hardware import HostInfo
from aicn.domain.ids import PeerId, parse_peer_id
from aicn.domain.nodes import NodeInfo
from aicn.wire.json_body import take


def decode_node_id(body: bytes) -> PeerId:
    """Calls about a node, such as `POST /peer`: whom to ask."""
    return parse_peer_id(take(body)[0].get("node_id"))


def encode_info(info: NodeInfo) -> dict[str, object]:
    """PeerInfo, as of `/id`."""
    return {
        "peer_id": info.peer_id,
        "protocol_version": info.protocol_version,
        "agent_version": info.agent_version,
        "addresses": list(info.addresses),
        "protocols": list(info.protocols),
    }


def encode_host_info(info: HostInfo) -> dict[str, object]:
    """`POST /host/info`: spec 1's members in its order."""
    os, memory = info.os, info.memory
    return {
        "os": {
            "os": os.os,
            "platform": os.platform,
            "platform_family": os.platform_family,
            "platform_version": os.platform_version,
            "kernel_version": os.kernel_version,
            "kernel_arch": os.kernel_arch,
        },
        "cpu": [
            {"model_name": cpu.model_name, "total_cores": cpu.total_cores, "total_threads": cpu.total_threads}
            for cpu in info.cpu
        ],
        "memory": {
            "total_physical_bytes": memory.total_physical_bytes,
            "total_usable_bytes": memory.total_usable_bytes,
        },
        "disk": [
            {
                "drive_type": disk.drive_type,
                "size_bytes": disk.size_bytes,
                "model": disk.model,
                "serial_number": disk.serial_number,
            }
            for disk in info.disk
        ],
        "gpu": [{"vendor": gpu.vendor, "product": gpu.product} for gpu in info.gpu],
    }
