"""Linux: /proc, /sys and /etc below a root that tests choose. No root rights, no tools, no subprocess."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

from aicn.domain.hardware import Cpu, Disk, Memory, OperatingSystem
from aicn.hardware import portable
from aicn.hardware.files import entries, number, text

_CPUINFO_BYTES = 4 * 2**20  # 1.5 KiB for each of 2000 threads
_SECTOR = 512  # bytes: the unit of /sys/block/*/size, whatever the disk's own is
_VPD_HEAD = 4  # bytes in front of the serial number in SCSI's page 80

# gopsutil's families of platforms, by the ID and ID_LIKE of os-release.
_FAMILIES = {
    **dict.fromkeys(("debian", "ubuntu", "linuxmint", "raspbian", "kylin", "deepin"), "debian"),
    **dict.fromkeys(("rhel", "centos", "ol", "scientific", "amzn", "xenserver", "rocky", "almalinux"), "rhel"),
    **dict.fromkeys(("suse", "opensuse", "opensuse-leap", "opensuse-tumbleweed", "sles", "sled"), "suse"),
    **{name: name for name in ("fedora", "gentoo", "slackware", "arch", "alpine", "coreos", "solus", "exherbo")},
}
_VIRTUAL_DISKS = ("vd", "xvd")  # names of virtio's and Xen's disks
_VIRTUAL_MODELS = re.compile(r"(QEMU|VBOX|VMware|Virtual disk|Msft Virtual|Virtual HD)", re.IGNORECASE)
_NO_DISKS = re.compile(r"mmcblk\d+(boot\d+|rpmb)$")  # parts of an eMMC that look like disks


def operating_system(root: Path) -> OperatingSystem:
    release: dict[str, str] = {}
    for line in (text(root / "etc/os-release") or text(root / "usr/lib/os-release")).splitlines():
        key, _, value = line.partition("=")
        release[key.strip()] = value.strip().strip("\"'")
    platform = release.get("ID", "").lower()
    likes = [platform, *release.get("ID_LIKE", "").lower().split()]
    version = text(root / "etc/debian_version") if platform == "debian" else ""  # has the point release
    system = os.uname()
    return OperatingSystem(
        os="linux",
        platform=platform,
        platform_family=next((_FAMILIES[like] for like in likes if like in _FAMILIES), ""),
        platform_version=version or release.get("VERSION_ID", ""),
        kernel_version=system.release,
        kernel_arch=system.machine,
    )


def processors(root: Path) -> tuple[Cpu, ...]:
    """By socket. Where the kernel names none (ARM), the model is what py-cpuinfo finds."""
    cores: defaultdict[int, set[tuple[int, ...]]] = defaultdict(set)
    threads: defaultdict[int, list[str]] = defaultdict(list)
    for cpu in entries(root / "sys/devices/system/cpu"):
        topology = cpu / "topology"
        if not re.fullmatch(r"cpu\d+", cpu.name) or not (topology / "core_id").exists():
            continue  # not a CPU, or one that is off
        package = number(topology / "physical_package_id")  # -1, which becomes 0, where the firmware does not tell
        cores[package].add((number(topology / "die_id"), number(topology / "cluster_id"), number(topology / "core_id")))
        threads[package].append(cpu.name.removeprefix("cpu"))
    if not cores:
        return portable.processors()
    models = _models(root)
    if not models:
        models = dict.fromkeys((names[0] for names in threads.values()), portable.model_name())
    return tuple(
        Cpu(
            model_name=next((models[cpu] for cpu in threads[package] if models.get(cpu)), "unknown"),
            total_cores=len(cores[package]),
            total_threads=len(threads[package]),
        )
        for package in sorted(cores)
    )


def _models(root: Path) -> dict[str, str]:
    """Model names by the number of the CPU."""
    models: dict[str, str] = {}
    cpu = ""
    for line in text(root / "proc/cpuinfo", _CPUINFO_BYTES).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "processor":
            cpu = value.strip()
        elif key.strip() == "model name" and cpu and value.strip():
            models[cpu] = value.strip()
    return models


def memory(root: Path) -> Memory:
    """Installed: the memory blocks, as ghw counts them; what is usable where the kernel does not show any."""
    blocks = root / "sys/devices/system/memory"
    size = number(blocks / "block_size_bytes", 16)
    online = sum(text(block / "online") == "1" for block in entries(blocks) if block.name.startswith("memory"))
    usable = portable.usable_memory()
    return Memory(total_physical_bytes=max(size * online, usable), total_usable_bytes=usable)


def disks(root: Path) -> tuple[Disk, ...]:
    """What is in the machine or plugged into it; not what the kernel makes up (loop, RAM, RAID, LVM): that has no device."""
    found = []
    for block in entries(root / "sys/block"):
        if not (block / "device").exists() or number(block / "hidden") or _NO_DISKS.match(block.name):
            continue
        size = min(number(block / "size"), 2**53) * _SECTOR
        if size or block.name.startswith("sr"):  # 0: a card reader without a card
            udev = _udev(root, text(block / "dev"))
            model = text(block / "device/model") or text(block / "device/name") or udev.get("ID_MODEL", "")
            serial = _serial(block) or udev.get("ID_SERIAL_SHORT", "")
            found.append(Disk(_drive_type(block, model), size, model or "unknown", serial or "unknown"))
    return tuple(found)


def _drive_type(block: Path, model: str) -> str:
    name = block.name
    if name.startswith("sr"):
        return "ODD"
    if name.startswith("fd"):
        return "FDD"
    if name.startswith(_VIRTUAL_DISKS) or _VIRTUAL_MODELS.match(model):
        return "virtual"  # what it says of rotation is made up
    return {"0": "SSD", "1": "HDD"}.get(text(block / "queue/rotational"), "unknown")


def _serial(block: Path) -> str:
    """NVMe and MMC, virtio, SCSI and SATA."""
    return text(block / "device/serial") or text(block / "serial") or _page_80(block / "device/vpd_pg80")


def _page_80(path: Path) -> str:
    """SCSI's "unit serial number": a page code, a length, the number (SPC-6, 7.7.20)."""
    try:
        page = path.read_bytes()
    except OSError:
        return ""
    return page[_VPD_HEAD : _VPD_HEAD + 252].decode("ascii", "ignore").replace("\0", "").strip()


def _udev(root: Path, device: str) -> dict[str, str]:
    """What udev has noted of a block device, such as "8:0"."""
    if not re.fullmatch(r"\d+:\d+", device):
        return {}
    lines = text(root / "run/udev/data" / f"b{device}", 64 * 1024).splitlines()
    return dict(line[2:].split("=", 1) for line in lines if line.startswith("E:") and "=" in line)
