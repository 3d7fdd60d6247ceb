"""The machine of a node (spec 1, /host/info). What cannot be read is "" or 0, and a list without it is shorter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OperatingSystem:
    """Names as Go's gopsutil and ghw give them."""

    os: str = ""  # "linux", "windows", "darwin"
    platform: str = ""  # such as "Microsoft Windows 11 Pro", "debian"
    platform_family: str = ""
    platform_version: str = ""
    kernel_version: str = ""
    kernel_arch: str = ""  # such as "x86_64"


@dataclass(frozen=True, slots=True)
class Cpu:
    """A package (socket)."""

    model_name: str
    total_cores: int
    total_threads: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory."""

    total_physical_bytes: int = 0  # installed
    total_usable_bytes: int = 0  # what the system can use


@dataclass(frozen=True, slots=True)
class Disk:
    """A physical disk."""

    drive_type: str  # "HDD", "SSD", "FDD", "ODD", "virtual" or "unknown"
    size_bytes: int
    model: str = "unknown"
    serial_number: str = "unknown"  # "" when the node keeps serial numbers to itself


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics adapter."""

    vendor: str
    product: str


@dataclass(frozen=True, slots=True)
class HostInfo:
    """The whole machine."""

    os: OperatingSystem = OperatingSystem()
    cpu: tuple[Cpu, ...] = ()
    memory: Memory = Memory()
    disk: tuple[Disk, ...] = ()
    gpu: tuple[Gpu, ...] = ()
