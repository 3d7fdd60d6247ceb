"""A machine that is what a test says it is."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from aicn.domain.hardware import Cpu, Disk, Gpu, HostInfo, Memory, OperatingSystem

# The machine of spec 1's example.
EXAMPLE = HostInfo(
    os=OperatingSystem(
        os="windows",
        platform="Microsoft Windows 11 Pro",
        platform_family="Standalone Workstation",
        platform_version="10.0.22631.3737 Build 22631.3737",
        kernel_version="10.0.22631.3737 Build 22631.3737",
        kernel_arch="x86_64",
    ),
    cpu=(Cpu("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", 6, 12),),
    memory=Memory(17179869184, 17105440768),
    disk=(
        Disk("HDD", 2000396321280, "WDC WD20EJRX-89G3VY0", "WD-WCC4M2USUZ1V"),
        Disk("SSD", 240054796800, "TOSHIBA-TR200", "29KB71U8K46S"),
    ),
    gpu=(Gpu("qdesk", "Qdesk Virtual Display Adapter"), Gpu("NVIDIA", "NVIDIA GeForce RTX 2080 Ti")),
)


@dataclass
class FixedMachine:
    """ports.HardwareSource."""

    info: HostInfo = EXAMPLE

    async def read(self) -> HostInfo:
        await trio.lowlevel.checkpoint()
        return self.info
