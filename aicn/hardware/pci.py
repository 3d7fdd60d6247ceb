"""Graphics adapters on Linux, from the PCI bus: names from the system's pci.ids and a small table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aicn.domain.hardware import Gpu
from aicn.hardware.files import entries, plain, text

_DISPLAY = "0x03"  # PCI class: VGA, XGA, 3D and other display controllers
_PCI_IDS = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/pciutils/pci.ids")

_VENDORS = {
    "10de": "NVIDIA",
    "1002": "AMD",
    "8086": "Intel",
    "1a03": "ASPEED",
    "102b": "Matrox",
    "1013": "Cirrus Logic",
    "1ed5": "Moore Threads",
    "1234": "QEMU",
    "1af4": "Red Hat",
    "1b36": "Red Hat",
    "15ad": "VMware",
    "80ee": "VirtualBox",
    "1414": "Microsoft",
}
# What servers and virtual machines have that is not for computing; the rest is named by the driver or pci.ids.
_PRODUCTS = {
    ("1a03", "2000"): "ASPEED Graphics Family",
    ("1013", "00b8"): "GD 5446",
    ("1234", "1111"): "QEMU Standard VGA",
    ("1af4", "1050"): "Virtio GPU",
    ("1b36", "0100"): "QXL paravirtual graphic card",
    ("15ad", "0405"): "SVGA II Adapter",
    ("80ee", "beef"): "VirtualBox Graphics Adapter",
    ("1414", "5353"): "Hyper-V virtual VGA",
    ("1414", "008e"): "Basic Render Driver",  # WSL's, for every GPU of the machine
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """A graphics adapter at its place."""

    address: str  # such as "0000:01:00.0"; "" when unknown
    gpu: Gpu


def adapters(root: Path) -> tuple[Adapter, ...]:
    """All display controllers, in the order of their addresses."""
    found = [device for device in entries(root / "sys/bus/pci/devices") if text(device / "class").startswith(_DISPLAY)]
    ids = {device.name: (_id(device / "vendor"), _id(device / "device")) for device in found}
    named = _look_up(root, set(ids.values())) if found else {}
    return tuple(Adapter(device.name, _gpu(ids[device.name], text(device / "product_name"), named)) for device in found)


def merged(on_bus: tuple[Adapter, ...], by_driver: tuple[Adapter, ...]) -> tuple[Gpu, ...]:
    """What the bus shows, with the driver's names where it knows better; and what the driver alone sees (WSL, containers)."""
    names = {adapter.address: adapter.gpu for adapter in by_driver}
    seen = {adapter.address for adapter in on_bus}
    return (
        *(names.get(adapter.address, adapter.gpu) for adapter in on_bus),
        *(adapter.gpu for adapter in by_driver if adapter.address not in seen),
    )


def _id(path: Path) -> str:
    return text(path).lower().removeprefix("0x")[:4]


def _gpu(ids: tuple[str, str], driver_name: str, named: Mapping[tuple[str, str], str]) -> Gpu:
    vendor, device = ids
    return Gpu(
        vendor=_VENDORS.get(vendor) or named.get((vendor, "")) or "unknown",
        product=driver_name or named.get(ids) or _PRODUCTS.get(ids) or f"PCI device {vendor}:{device}",
    )


def _look_up(root: Path, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Names by vendor and device, of a vendor by (vendor, ""), as far as a pci.ids of the system has them."""
    for name in _PCI_IDS:
        try:
            with (root / name).open(encoding="utf-8", errors="replace") as lines:
                return _named(lines, wanted)
        except OSError:
            continue
    return {}


def _named(lines: Iterable[str], wanted: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Of "vvvv  name" for a vendor and, below it, a tab and "dddd  name" for each device."""
    vendors = {vendor for vendor, _ in wanted}
    names: dict[tuple[str, str], str] = {}
    vendor = ""
    for line in lines:
        if line[0] not in "\t#\n":
            vendor, _, name = line.partition("  ")
            if vendor in vendors:
                names[vendor, ""] = plain(name)
        elif vendor in vendors and line[0] == "\t":
            device, _, name = line[1:].partition("  ")
            if (vendor, device) in wanted:
                names[vendor, device] = plain(name)
    return names
