"""Nodes."""

from __future__ import annotations

from aicn.domain.ids import PeerId, parse_peer_id
from aicn.domain.nodes import NodeInfo
from aicn.wire.json_body import take


def decode_node_id(body: bytes) -> PeerId:
    """`POST /ai/project/peer`: whom to ask."""
    return parse_peer_id(take(body)[0].get("node_id"))


def encode_info(info: NodeInfo) -> dict[str, object]:
    """PeerInfo of `/id`."""
    return {
        "peer_id": info.peer_id,
        "protocol_version": info.protocol_version,
        "agent_version": info.agent_version,
        "addresses": list(info.addresses),
        "protocols": list(info.protocols),
    }
