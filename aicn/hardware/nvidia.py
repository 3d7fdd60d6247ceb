"""NVIDIA's own names of its GPUs, from the driver's management library (NVML)."""

from __future__ import annotations

from aicn.domain.hardware import Gpu
from aicn.hardware.files import plain
from aicn.hardware.pci import Adapter


def adapters() -> tuple[Adapter, ...]:
    """None where there is no driver."""
    import pynvml as nvml  # type: ignore[import-untyped]  # here: the import takes 20 ms, and most nodes are never asked

    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        devices = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        return tuple(_adapter(nvml.nvmlDeviceGetPciInfo(one).busId, nvml.nvmlDeviceGetName(one)) for one in devices)
    except nvml.NVMLError:  # a GPU that has fallen off the bus: it is told as the bus has it
        return ()
    finally:
        nvml.nvmlShutdown()


def _adapter(bus_id: str | bytes, name: str | bytes) -> Adapter:
    return Adapter(sysfs_address(_text(bus_id)), Gpu("NVIDIA", _text(name)))


def sysfs_address(bus_id: str) -> str:
    """NVML's "00000000:3B:00.0" as the kernel's "0000:3b:00.0"."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


def _text(told: str | bytes) -> str:
    """Old versions of the binding give bytes."""
    return plain(told.decode(errors="replace") if isinstance(told, bytes) else told)
