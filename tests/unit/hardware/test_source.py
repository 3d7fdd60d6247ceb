"""When the machine is read, by how many threads, and what callers get meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aicn.config.schema import Hardware
from aicn.domain.hardware import Cpu, Disk, Gpu, HostInfo, Memory, OperatingSystem
from aicn.hardware.pci import Adapter
from aicn.hardware.source import Machine, Readers, open_machine, readers_of

NVIDIA = Gpu("NVIDIA", "NVIDIA GeForce RTX 2080 Ti")


class Counted:
    """Readers of a made-up machine that count how often each was asked."""

    def __init__(self) -> None:
        self.reads = dict.fromkeys(Readers._fields, 0)
        self.told: dict[str, Callable[[], Any]] = {
            "os": lambda: OperatingSystem("linux"),
            "cpu": lambda: (Cpu("C", 1, 2),),
            "memory": lambda: Memory(2, 1),
            "disk": lambda: (Disk("SSD", 7, "M", "S123"),),
            "bus": lambda: (Adapter("0000:01:00.0", Gpu("NVIDIA", "PCI device 10de:1e07")),),
            "driver": lambda: (Adapter("0000:01:00.0", NVIDIA),),
        }

    def readers(self) -> Readers:
        return Readers(*(self._reader(part) for part in Readers._fields))

    def _reader(self, part: str) -> Callable[[], Any]:
        def read() -> Any:
            self.reads[part] += 1
            return self.told[part]()

        return read


WHOLE = HostInfo(OperatingSystem("linux"), (Cpu("C", 1, 2),), Memory(2, 1), (Disk("SSD", 7, "M", "S123"),), (NVIDIA,))


async def test_it_is_read_when_asked_and_then_kept_for_a_while(mock_clock: MockClock) -> None:
    counted = Counted()
    async with open_machine(Hardware(), counted.readers()) as machine:
        assert set(counted.reads.values()) == {0}
        assert await machine.read() == WHOLE
        mock_clock.jump(59)
        assert await machine.read() == WHOLE
        assert set(counted.reads.values()) == {1}
        mock_clock.jump(2)
        assert await machine.read() == WHOLE
        assert counted.reads == {"os": 1, "cpu": 1, "memory": 2, "disk": 2, "bus": 2, "driver": 1}
        mock_clock.jump(600)
        await machine.read()
        assert (counted.reads["driver"], counted.reads["cpu"]) == (2, 1)


async def test_serial_numbers_can_be_kept_back() -> None:
    async with open_machine(Hardware(serial_numbers=False), Counted().readers()) as machine:
        assert (await machine.read()).disk == (Disk("SSD", 7, "M", ""),)


async def test_a_hundred_callers_share_one_reading_and_none_ends_it_by_leaving() -> None:
    counted = Counted()
    go = threading.Event()
    counted.told["disk"] = lambda: () if go.wait(10) else (Disk("HDD", 1),)
    told: list[HostInfo] = []

    async def ask(machine: Machine) -> None:
        told.append(await machine.read())

    async with open_machine(Hardware(), counted.readers()) as machine:
        with trio.move_on_after(0.05) as impatient:
            await machine.read()
        assert impatient.cancelled_caught
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask, machine)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert not told  # and the loop runs
            go.set()
    assert len(told) == 100
    assert {info.disk for info in told} == {()}
    assert set(counted.reads.values()) == {1}


async def test_a_driver_that_hangs_costs_its_own_part_only(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    counted = Counted()
    go = threading.Event()

    def hang() -> tuple[Adapter, ...]:
        go.wait(60)
        return (Adapter("0000:01:00.0", NVIDIA),)

    counted.told["driver"] = hang
    async with open_machine(Hardware(), counted.readers()) as machine:
        async with trio.open_nursery() as nursery:
            told: list[HostInfo] = []

            async def ask() -> None:
                told.append(await machine.read())

            nursery.start_soon(ask)
            while min(counted.reads.values()) == 0:
                await trio.testing.wait_all_tasks_blocked(0)
                await trio.to_thread.run_sync(threading.Event().wait, 0.001)
            mock_clock.jump(5)
        assert told[0].cpu == WHOLE.cpu
        assert told[0].gpu == (Gpu("NVIDIA", "PCI device 10de:1e07"),)
        assert "NVIDIA's driver could not be read within 5 s" in caplog.text
        mock_clock.jump(3600)
        await machine.read()  # at once: no second thread is sent after the first
        assert counted.reads["driver"] == 1
        go.set()
        while (await machine.read()).gpu != (NVIDIA,):  # late, but there
            await trio.to_thread.run_sync(threading.Event().wait, 0.001)


async def test_a_node_that_stops_does_not_wait_for_a_driver_that_hangs() -> None:
    counted = Counted()
    go, hangs = threading.Event(), threading.Event()

    def hang() -> tuple[Adapter, ...]:
        hangs.set()
        go.wait(60)
        return ()

    counted.told["driver"] = hang
    try:
        with trio.fail_after(20):
            async with open_machine(Hardware(), counted.readers()) as machine:
                with trio.move_on_after(0):
                    await machine.read()
                await trio.to_thread.run_sync(hangs.wait, 10)
        assert not go.is_set()
    finally:
        go.set()


async def test_a_reader_that_breaks_is_unknown_and_is_tried_again(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    counted = Counted()
    good, counted.told["cpu"] = counted.told["cpu"], lambda: 1 // 0
    with caplog.at_level(logging.WARNING):
        async with open_machine(Hardware(), counted.readers()) as machine:
            assert (await machine.read()).cpu == ()
            assert "the processors cannot be read: ZeroDivisionError" in caplog.text
            counted.told["cpu"] = good
            mock_clock.jump(70)
            assert (await machine.read()).cpu == WHOLE.cpu


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32", "freebsd14"])
def test_every_system_has_readers(platform: str) -> None:
    assert all(callable(read) for read in readers_of(platform))


async def test_this_machine() -> None:
    async with open_machine(Hardware()) as machine:
        info = await machine.read()
    assert info.os.os
    assert info.cpu[0].total_threads >= 1
    assert info.memory.total_usable_bytes > 0
