"""`aicn host`: the machine of a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.output import json_option, show_facts, show_json

_GIB = 2**30


@click.command(short_help="Show the machine of a node.")
@click.argument("peer", required=False)
@api_option
@json_option
def command(*, peer: str | None, api: str, as_json: bool) -> None:
    """Show system, processors, memory, disks and graphics adapters of the running node, or of the node with id PEER."""
    with open_api(api) as node:
        peer = peer or node.get("/api/v0/id")["peer_id"]
        info = node.post("/api/v0/host/info", {"node_id": peer})
    if as_json:
        show_json(info)
        return
    system, memory = info["os"], info["memory"]
    show_facts(
        [
            ("peer id", peer),
            ("system", _words(system["platform"] or system["os"], system["platform_version"], system["kernel_arch"])),
            ("kernel", system["kernel_version"] or "unknown"),
            ("processor", [_processor(cpu) for cpu in info["cpu"] or ()]),
            ("memory", _size(memory["total_physical_bytes"])),
            ("disk", [_disk(disk) for disk in info["disk"] or ()]),
            ("gpu", [_adapter(gpu) for gpu in info["gpu"] or ()]),
        ]
    )


def _processor(cpu: Mapping[str, Any]) -> str:
    return f"{cpu['model_name']}, {cpu['total_cores']} cores, {cpu['total_threads']} threads"


def _disk(disk: Mapping[str, Any]) -> str:
    kind = _words(*(word for word in (disk["drive_type"], disk["model"]) if word != "unknown"))
    return _words(_size(disk["size_bytes"]), kind)


def _adapter(gpu: Mapping[str, Any]) -> str:
    """NVIDIA's products begin with the vendor's name."""
    vendor, product = gpu["vendor"], gpu["product"]
    return product if vendor == "unknown" or product.startswith(vendor) else _words(vendor, product)


def _size(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size else "unknown"


def _words(*words: str) -> str:
    return " ".join(word for word in words if word)
