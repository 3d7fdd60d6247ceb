"""The machine as it is told: each part is read in a thread of its own, with a deadline, and kept for a while.

Parts do not wait for each other's luck: a driver that hangs costs its own part only, and no second thread is sent after the
first.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import trio

from aicn.config.schema import Hardware
from aicn.domain.hardware import Cpu, Disk, HostInfo, Memory, OperatingSystem
from aicn.hardware import linux, macos, nvidia, pci, portable, windows

log = logging.getLogger(__name__)

_READ_S = 5.0  # most that a caller waits for the slowest part: half of what a peer that asks us does
_CHANGING_S = 60.0  # how old disks, memory and adapters may be: they are plugged in
_DRIVER_S = 600.0  # how old NVIDIA's names may be: asking wakes sleeping GPUs

T = TypeVar("T")


class Part(Generic[T]):
    """One part of the machine: `value` is what was read last, at first what is told when nothing can be read."""

    def __init__(self, name: str, read: Callable[[], T], unknown: T, lasts_s: float) -> None:
        self.value = unknown
        self._name = name
        self._read = read
        self._lasts_s = lasts_s
        self._expires = -inf
        self._thread = trio.CapacityLimiter(1)

    @property
    def due(self) -> bool:
        return trio.current_time() >= self._expires

    async def refresh(self) -> None:
        """Read it; `value` stays when that fails. What takes too long is there for a later caller."""
        self._expires = trio.current_time() + _READ_S + _CHANGING_S  # of a failure
        if not self._thread.available_tokens:
            return
        with trio.move_on_after(_READ_S) as scope:
            try:
                await trio.to_thread.run_sync(self._read_now, abandon_on_cancel=True, limiter=self._thread)
            except Exception as error:  # noqa: BLE001 - the boundary of what drivers come up with
                log.warning("hardware: %s cannot be read: %s: %s", self._name, type(error).__name__, error)
            else:
                self._expires = trio.current_time() + self._lasts_s
        if scope.cancelled_caught:
            log.warning("hardware: %s could not be read within %g s", self._name, _READ_S)

    def _read_now(self) -> None:
        self.value = self._read()  # here, in the thread: nobody may be waiting any more


class Readers(NamedTuple):
    """How each part is read; they run in threads and may take their time."""

    os: Callable[[], OperatingSystem]
    cpu: Callable[[], tuple[Cpu, ...]]
    memory: Callable[[], Memory]
    disk: Callable[[], tuple[Disk, ...]]
    bus: Callable[[], tuple[pci.Adapter, ...]]  # graphics adapters
    driver: Callable[[], tuple[pci.Adapter, ...]]  # those of NVIDIA by their own names


class Machine:
    """ports.HardwareSource. Any number of callers share one reading, and none of them ends it by leaving."""

    def __init__(self, config: Hardware, nursery: trio.Nursery, readers: Readers) -> None:
        self._config = config
        self._nursery = nursery
        self._os = Part("the system", readers.os, OperatingSystem(), inf)
        self._cpu: Part[tuple[Cpu, ...]] = Part("the processors", readers.cpu, (), inf)
        self._memory = Part("the memory", readers.memory, Memory(), _CHANGING_S)
        self._disk: Part[tuple[Disk, ...]] = Part("the disks", readers.disk, (), _CHANGING_S)
        self._bus: Part[tuple[pci.Adapter, ...]] = Part("the graphics adapters", readers.bus, (), _CHANGING_S)
        self._driver: Part[tuple[pci.Adapter, ...]] = Part("NVIDIA's driver", readers.driver, (), _DRIVER_S)
        self._parts: tuple[Part[Any], ...] = (self._os, self._cpu, self._memory, self._disk, self._bus, self._driver)
        self._reading: trio.Event | None = None

    async def read(self) -> HostInfo:
        """Everything, at most a minute old, after at most `_READ_S` seconds."""
        if self._reading is None and any(part.due for part in self._parts):
            self._reading = trio.Event()
            self._nursery.start_soon(self._refresh, self._reading)
        if self._reading is not None:
            await self._reading.wait()
        return HostInfo(
            os=self._os.value,
            cpu=self._cpu.value,
            memory=self._memory.value,
            disk=tuple(self._shown(disk) for disk in self._disk.value),
            gpu=pci.merged(self._bus.value, self._driver.value),
        )

    async def _refresh(self, done: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            for part in self._parts:
                if part.due:
                    nursery.start_soon(part.refresh)
        self._reading = None
        done.set()

    def _shown(self, disk: Disk) -> Disk:
        return disk if self._config.serial_numbers else replace(disk, serial_number="")


@asynccontextmanager
async def open_machine(config: Hardware, readers: Readers | None = None) -> AsyncIterator[Machine]:
    """This machine. Nothing is read before the first question."""
    async with trio.open_nursery() as nursery:
        yield Machine(config, nursery, readers or readers_of(sys.platform))
        nursery.cancel_scope.cancel()


def readers_of(platform: str, root: Path = Path("/")) -> Readers:
    """How each part is read on a system (sys.platform's name of it); `root` is where Linux has its files."""
    if platform == "win32":
        return Readers(
            windows.operating_system, windows.processors, windows.memory, windows.disks, windows.adapters, tuple
        )
    if platform == "darwin":
        return Readers(macos.operating_system, portable.processors, macos.memory, macos.disks, macos.adapters, tuple)
    return Readers(
        partial(linux.operating_system, root),
        partial(linux.processors, root),
        partial(linux.memory, root),
        partial(linux.disks, root),
        partial(pci.adapters, root),
        nvidia.adapters,
    )
