"""Windows: CIM classes, through PowerShell. What it does not tell, or not in time, is unknown."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from aicn.domain.hardware import Cpu, Disk, Gpu, Memory, OperatingSystem
from aicn.hardware import portable
from aicn.hardware.files import plain, to_number
from aicn.hardware.pci import Adapter

# gopsutil's words for Win32_OperatingSystem.ProductType.
_FAMILIES = {1: "Standalone Workstation", 2: "Server (Domain Controller)", 3: "Server"}
_VIRTUAL_BUSES = (14, 15)  # MSFT_PhysicalDisk.BusType: virtual, backed by a file
_MEDIA = {3: "HDD", 4: "SSD"}  # MSFT_PhysicalDisk.MediaType
_STORAGE = "root/Microsoft/Windows/Storage"

Row = Mapping[str, Any]


def operating_system() -> OperatingSystem:
    return to_operating_system(_ask("Win32_OperatingSystem", "Caption", "Version", "ProductType"), platform.machine())


def processors() -> tuple[Cpu, ...]:
    rows = _ask("Win32_Processor", "Name", "NumberOfCores", "NumberOfLogicalProcessors")
    return to_processors(rows) or portable.processors()


def memory() -> Memory:
    usable = portable.usable_memory()
    installed = sum(to_number(row.get("Capacity")) for row in _ask("Win32_PhysicalMemory", "Capacity"))
    return Memory(max(installed, usable), usable)


def disks() -> tuple[Disk, ...]:
    return to_disks(
        _ask("MSFT_PhysicalDisk", "FriendlyName", "SerialNumber", "Size", "MediaType", "BusType", space=_STORAGE)
    )


def adapters() -> tuple[Adapter, ...]:
    return to_adapters(_ask("Win32_VideoController", "Name", "AdapterCompatibility"))


def to_operating_system(rows: Sequence[Row], machine: str) -> OperatingSystem:
    row: Row = rows[0] if rows else {}
    version = _of(row, "Version")
    full = f"{version} Build {version.rpartition('.')[2]}" if version else ""
    return OperatingSystem(
        os="windows",
        platform=_of(row, "Caption"),
        platform_family=_FAMILIES.get(to_number(row.get("ProductType")), ""),
        platform_version=full,
        kernel_version=full,
        kernel_arch={"AMD64": "x86_64", "ARM64": "aarch64"}.get(machine, machine),
    )


def to_processors(rows: Sequence[Row]) -> tuple[Cpu, ...]:
    return tuple(
        Cpu(
            _of(row, "Name") or "unknown",
            to_number(row.get("NumberOfCores")),
            to_number(row.get("NumberOfLogicalProcessors")),
        )
        for row in rows
    )


def to_disks(rows: Sequence[Row]) -> tuple[Disk, ...]:
    return tuple(
        Disk(
            drive_type="virtual"
            if to_number(row.get("BusType")) in _VIRTUAL_BUSES
            else _MEDIA.get(to_number(row.get("MediaType")), "unknown"),
            size_bytes=to_number(row.get("Size")),
            model=_of(row, "FriendlyName") or "unknown",
            serial_number=_of(row, "SerialNumber") or "unknown",
        )
        for row in rows
    )


def to_adapters(rows: Sequence[Row]) -> tuple[Adapter, ...]:
    return tuple(
        Adapter("", Gpu(_of(row, "AdapterCompatibility") or "unknown", _of(row, "Name") or "unknown")) for row in rows
    )


def _ask(name: str, *properties: str, space: str = "root/cimv2") -> Sequence[Row]:
    """The instances of a CIM class."""
    query = (
        "[Console]::OutputEncoding = [Text.Encoding]::UTF8; "
        f"Get-CimInstance -Namespace {space} {name} | Select-Object {', '.join(properties)} | ConvertTo-Json -Compress"
    )
    told = portable.tool_json(("powershell", "-NoProfile", "-NonInteractive", "-Command", query))
    rows = told if isinstance(told, list) else [told]  # one instance is no list
    return [row for row in rows if isinstance(row, dict)]


def _of(row: Row, key: str) -> str:
    value = row.get(key)
    return plain(value) if isinstance(value, str) else ""
