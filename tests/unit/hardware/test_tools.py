"""What macOS and Windows tell through their tools, as these print it; and tools that do not."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.hardware import Cpu, Disk, Gpu
from aicn.hardware import macos, nvidia, portable, windows
from aicn.hardware.files import to_number

MAC = json.loads("""{
  "SPNVMeDataType": [{"_name": "Apple SSD Controller", "_items": [{"_name": "APPLE SSD AP0512Q", "device_model": "APPLE SSD AP0512Q",
    "device_serial": "0ba0123456789abc", "size": "500.28 GB", "size_in_bytes": 500277792768, "volumes": [{"_name": "disk0s1"}]}]}],
  "SPSerialATADataType": [{"_name": "Intel AHCI", "_items": [{"_name": "x", "device_model": "WDC WD20EJRX", "device_serial": "WD-1",
    "size_in_bytes": 2000398934016, "spsata_medium_type": "Rotational"}, {"_name": "an empty bay"}]}]}""")
MAC_DISPLAYS = json.loads("""{"SPDisplaysDataType": [
  {"_name": "kHW_AppleM1ProItem", "sppci_model": "Apple M1 Pro", "spdisplays_vendor": "sppci_vendor_Apple", "sppci_cores": "16"},
  {"sppci_model": "GeForce GT 750M", "spdisplays_vendor": "NVIDIA (0x10de)"}]}""")
WINDOWS = {"Caption": "Microsoft Windows 11 Pro", "Version": "10.0.22631", "ProductType": 1}
WINDOWS_DISKS = [
    {"FriendlyName": "WDC WD20EJRX-89G3VY0", "SerialNumber": "     WD-WCC4M2USUZ1V", "Size": 2000398934016, "MediaType": 3, "BusType": 11},
    {"FriendlyName": "TOSHIBA-TR200", "SerialNumber": "29KB71U8K46S", "Size": 240057409536, "MediaType": 4, "BusType": 11},
    {"FriendlyName": "Msft Virtual Disk", "SerialNumber": None, "Size": 1, "MediaType": 0, "BusType": 15},
    {},
]  # fmt: skip


def test_disks_and_adapters_of_a_mac() -> None:
    assert macos.to_disks(MAC) == (
        Disk("SSD", 500277792768, "APPLE SSD AP0512Q", "0ba0123456789abc"),
        Disk("HDD", 2000398934016, "WDC WD20EJRX", "WD-1"),
    )
    assert [adapter.gpu for adapter in macos.to_adapters(MAC_DISPLAYS)] == [
        Gpu("Apple", "Apple M1 Pro"),
        Gpu("NVIDIA", "GeForce GT 750M"),
    ]


def test_windows() -> None:
    told = windows.to_operating_system([WINDOWS], "AMD64")
    assert (told.os, told.platform, told.platform_family) == ("windows", WINDOWS["Caption"], "Standalone Workstation")
    assert (told.kernel_version, told.kernel_arch) == ("10.0.22631 Build 22631", "x86_64")
    assert windows.to_disks(WINDOWS_DISKS) == (
        Disk("HDD", 2000398934016, "WDC WD20EJRX-89G3VY0", "WD-WCC4M2USUZ1V"),
        Disk("SSD", 240057409536, "TOSHIBA-TR200", "29KB71U8K46S"),
        Disk("virtual", 1, "Msft Virtual Disk"),
        Disk("unknown", 0),
    )
    processor = {"Name": "Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", "NumberOfCores": 6, "NumberOfLogicalProcessors": 12}
    assert windows.to_processors([processor]) == (Cpu("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", 6, 12),)
    (adapter,) = windows.to_adapters([{"Name": "Qdesk Virtual Display Adapter", "AdapterCompatibility": "qdesk"}])
    assert adapter.gpu == Gpu("qdesk", "Qdesk Virtual Display Adapter")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["_items", "size_in_bytes", "device_model", "Size", "Name", "x"]), inner)
    ),
)


@given(JSON)
def test_any_other_json_is_no_error(told: Any) -> None:
    macos.to_disks(told)
    macos.to_adapters(told)
    rows = [row for row in (told if isinstance(told, list) else [told]) if isinstance(row, dict)]
    windows.to_operating_system(rows, "x")
    windows.to_processors(rows)
    windows.to_adapters(rows)
    assert all(0 <= disk.size_bytes < 2**63 for disk in windows.to_disks(rows))


@pytest.mark.parametrize(
    ("told", "number"), [("12", 12), (" 7\n", 7), ("-1", 0), ("", 0), (None, 0), (float("nan"), 0), (1e300, 2**63 - 1)]
)
def test_numbers(told: object, number: int) -> None:
    assert to_number(told) == number


def test_a_systems_own_tools_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def tool(command: tuple[str, ...]) -> str:
        asked.append(command)
        return json.dumps(WINDOWS_DISKS) if "MSFT_PhysicalDisk" in command[-1] else json.dumps(WINDOWS)

    monkeypatch.setattr(portable, "run_tool", tool)
    assert len(windows.disks()) == 4
    assert windows.operating_system().platform == WINDOWS["Caption"]
    assert asked[0][0] == "powershell"
    assert "-Namespace root/Microsoft/Windows/Storage" in asked[0][-1]


def test_tools_that_are_not_there_fail_or_hang() -> None:
    assert portable.run_tool(("/nowhere/tool",)) == ""
    assert portable.run_tool((sys.executable, "-c", "print(1); raise SystemExit(1)")) == ""
    began = time.monotonic()
    assert portable.run_tool((sys.executable, "-c", "import time; time.sleep(60)"), deadline_s=0.2) == ""
    assert time.monotonic() - began < 20
    assert portable.tool_json((sys.executable, "-c", "print('[')")) is None


def test_without_tools_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "run_tool", lambda command: "")
    for told in (macos.disks(), macos.adapters(), windows.disks(), windows.adapters()):
        assert told == ()
    for system in (macos, windows):
        assert system.operating_system().platform_version == ""
        memory = system.memory()
        assert memory.total_physical_bytes == memory.total_usable_bytes > 0
    assert windows.processors()[0].model_name == "unknown"


def test_the_processor_of_this_machine_by_py_cpuinfo() -> None:
    (cpu,) = portable.processors()
    assert cpu.model_name not in ("", "unknown")


class Driver:
    """As pynvml: a server with two GPUs, of which the second is lost when `broken`."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, there: bool = True, broken: bool = False) -> None:
        self.there, self.broken, self.open = there, broken, 0

    def nvmlInit(self) -> None:
        if not self.there:
            raise self.NVMLError("no libnvidia-ml.so")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        if number and self.broken:
            raise self.NVMLError("GPU is lost")
        return number

    def nvmlDeviceGetPciInfo(self, number: int) -> Any:
        return type("PciInfo", (), {"busId": f"00000000:{0x3B + number:02X}:00.0".encode()})

    def nvmlDeviceGetName(self, number: int) -> str | bytes:
        return "NVIDIA H100 80GB HBM3" if number else b"NVIDIA H100 80GB HBM3"


def test_names_from_nvidias_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    assert [(one.address, one.gpu) for one in nvidia.adapters()] == [
        ("0000:3b:00.0", Gpu("NVIDIA", "NVIDIA H100 80GB HBM3")),
        ("0000:3c:00.0", Gpu("NVIDIA", "NVIDIA H100 80GB HBM3")),
    ]
    assert driver.open == 0


@pytest.mark.parametrize("driver", [Driver(there=False), Driver(broken=True)], ids=["none", "lost"])
def test_no_driver_and_a_lost_gpu(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    assert nvidia.adapters() == ()
    assert driver.open == 0
