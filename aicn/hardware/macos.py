"""macOS: system_profiler and sw_vers. What they do not tell, or not in time, is unknown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from aicn.domain.hardware import Disk, Gpu, Memory, OperatingSystem
from aicn.hardware import portable
from aicn.hardware.files import plain, to_number
from aicn.hardware.pci import Adapter

_VENDORS = {"sppci_vendor_Apple": "Apple", "sppci_vendor_amd": "AMD", "sppci_vendor_intel": "Intel"}


def operating_system() -> OperatingSystem:
    system = os.uname()
    return OperatingSystem(
        os="darwin",
        platform="darwin",
        platform_family="Standalone Workstation",
        platform_version=plain(portable.run_tool(("/usr/bin/sw_vers", "-productVersion"))),
        kernel_version=system.release,
        kernel_arch=system.machine,
    )


def memory() -> Memory:
    usable = portable.usable_memory()  # a Mac reports what is installed
    return Memory(usable, usable)


def disks() -> tuple[Disk, ...]:
    return to_disks(_profile("SPNVMeDataType", "SPSerialATADataType"))


def adapters() -> tuple[Adapter, ...]:
    return to_adapters(_profile("SPDisplaysDataType"))


def to_disks(profile: object) -> tuple[Disk, ...]:
    """Of `system_profiler -json SPNVMeDataType SPSerialATADataType`: buses, with their disks in `_items`."""
    return tuple(
        Disk(
            drive_type="HDD" if _of(item, "spsata_medium_type") == "Rotational" else "SSD",
            size_bytes=to_number(item.get("size_in_bytes")),
            model=_of(item, "device_model") or "unknown",
            serial_number=_of(item, "device_serial") or "unknown",
        )
        for bus in _items(profile)
        for item in _maps(bus.get("_items"))
        if to_number(item.get("size_in_bytes"))
    )


def to_adapters(profile: object) -> tuple[Adapter, ...]:
    """Of `system_profiler -json SPDisplaysDataType`."""
    return tuple(
        Adapter("", Gpu(_vendor(_of(item, "spdisplays_vendor")), _of(item, "sppci_model") or "unknown"))
        for item in _items(profile)
    )


def _profile(*kinds: str) -> object:
    return portable.tool_json(("/usr/sbin/system_profiler", "-json", *kinds))


def _vendor(told: str) -> str:
    """Such as "sppci_vendor_Apple", or "NVIDIA (0x10de)"."""
    return _VENDORS.get(told) or told.removeprefix("sppci_vendor_").partition(" (")[0] or "unknown"


def _items(profile: object) -> Iterator[Mapping[str, Any]]:
    for kind in profile.values() if isinstance(profile, dict) else ():
        yield from _maps(kind)


def _maps(value: object) -> Iterator[Mapping[str, Any]]:
    return (item for item in (value if isinstance(value, list) else ()) if isinstance(item, dict))


def _of(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    return plain(value) if isinstance(value, str) else ""
