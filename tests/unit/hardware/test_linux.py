"""What Linux tells of its hardware, from trees as they were found on machines of several kinds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicn.domain.hardware import Cpu, Disk, Gpu, Memory
from aicn.hardware import linux, pci

Tree = Mapping[str, str | bytes]
USABLE = psutil.virtual_memory().total
I7 = "Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz"
XEON = "Intel(R) Xeon(R) Platinum 8480+"


def plant(root: Path, tree: Tree) -> Path:
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def cpus(model: str, *, packages: int, cores: int, threads: int) -> dict[str, str]:
    """sysfs topology and /proc/cpuinfo; `cores` and `threads` (in all) of each package."""
    tree = {}
    lines = []
    for package in range(packages):
        for thread in range(threads):
            number = package * threads + thread
            at = f"sys/devices/system/cpu/cpu{number}/topology"
            tree |= {f"{at}/physical_package_id": f"{package}\n", f"{at}/core_id": f"{thread % cores}\n"}
            lines.append(f"processor\t: {number}\nmodel name\t: {model}\nflags\t\t: fpu vme\n\n")
    return tree | {"proc/cpuinfo": "".join(lines)}


def pci_device(address: str, *, kind: str, vendor: str, device: str, **more: str) -> dict[str, str]:
    at = f"sys/bus/pci/devices/{address}"
    ids = {f"{at}/class": f"0x{kind}\n", f"{at}/vendor": f"0x{vendor}\n", f"{at}/device": f"0x{device}\n"}
    return ids | {f"{at}/{name}": f"{value}\n" for name, value in more.items()}


LAPTOP: Tree = {
    "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n',
    "etc/debian_version": "trixie/sid\n",
    **cpus(I7, packages=1, cores=4, threads=8),
    "sys/devices/system/cpu/cpufreq/x": "",
    "sys/devices/system/cpu/cpu9/online": "0\n",
    "sys/block/nvme0n1/size": "1000215216\n",
    "sys/block/nvme0n1/queue/rotational": "0\n",
    "sys/block/nvme0n1/device/model": "Samsung SSD 970 EVO Plus 500GB          \n",
    "sys/block/nvme0n1/device/serial": "S4EVNX0R123456      \n",
    "sys/block/nvme0c0n1/hidden": "1\n",
    "sys/block/nvme0c0n1/device/model": "Samsung SSD 970 EVO Plus 500GB\n",
    "sys/block/nvme0c0n1/size": "1000215216\n",
    "sys/block/mmcblk0/size": "62333952\n",
    "sys/block/mmcblk0/queue/rotational": "0\n",
    "sys/block/mmcblk0/device/name": "SC32G\n",
    "sys/block/mmcblk0/device/serial": "0x9a1b2c3d\n",
    "sys/block/mmcblk0boot0/size": "8192\n",
    "sys/block/mmcblk0boot0/device/name": "SC32G\n",
    "sys/block/sdb/size": "0\n",
    "sys/block/sdb/device/model": "SD Card Reader\n",
    **{f"sys/block/{name}/size": "2048\n" for name in ("loop0", "zram0", "ram0", "dm-0", "md127", "nbd0", "zd0")},
    "usr/share/misc/pci.ids": "# a comment\n\n8086  Intel Corporation\n\t5917  UHD Graphics 620\n\t\t1028 0817  Latitude\n"
    "10de  NVIDIA Corporation\n\t1d13  GP108M [GeForce MX250]\nC 03  Display controller\n\t00  VGA compatible controller\n",
    **pci_device("0000:00:02.0", kind="030000", vendor="8086", device="5917"),
    **pci_device("0000:01:00.0", kind="030200", vendor="10de", device="1d13"),
    **pci_device("0000:00:1f.3", kind="040300", vendor="8086", device="9d71"),
}
SERVER: Tree = {
    "etc/os-release": 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n',
    **cpus(XEON, packages=2, cores=56, threads=112),
    "sys/devices/system/memory/block_size_bytes": "80000000\n",
    "sys/devices/system/memory/auto_online_blocks": "online\n",
    **{f"sys/devices/system/memory/memory{n}/online": "1\n" for n in range(1024)},
    "sys/devices/system/memory/memory1024/online": "0\n",
    "sys/block/sda/size": "3907029168\n",
    "sys/block/sda/dev": "8:0\n",
    "sys/block/sda/queue/rotational": "1\n",
    "sys/block/sda/device/model": "WDC WD20EJRX-89G\n",
    "sys/block/sda/device/vpd_pg80": b"\x00\x80\x00\x14     WD-WCC4M2USUZ1V",
    "sys/block/sdb/size": "468862128\n",
    "sys/block/sdb/dev": "8:16\n",
    "sys/block/sdb/queue/rotational": "0\n",
    "sys/block/sdb/device/type": "0\n",
    "run/udev/data/b8:16": "S:disk/by-id/x\nE:ID_MODEL=TOSHIBA-TR200\nE:ID_SERIAL_SHORT=29KB71U8K46S\nE:odd\nG:systemd\n",
    "sys/block/sr0/size": "0\n",
    "sys/block/sr0/queue/rotational": "1\n",
    "sys/block/sr0/device/model": "DVD-ROM\n",
    **pci_device("0000:03:00.0", kind="030000", vendor="1a03", device="2000"),
    **pci_device("0000:3b:00.0", kind="030200", vendor="10de", device="2330"),
    **pci_device("0000:5e:00.0", kind="038000", vendor="1002", device="74a1", product_name="AMD Instinct MI300X"),
    **pci_device("0000:86:00.0", kind="030000", vendor="abcd", device="0001"),
}
VIRTUAL: Tree = {
    "etc/os-release": "ID=alpine\nVERSION_ID=3.20.3\n",
    **cpus("AMD EPYC", packages=4, cores=1, threads=1),
    "sys/block/vda/size": "536870912\n",
    "sys/block/vda/serial": "overlayblk\n",
    "sys/block/vda/queue/rotational": "1\n",
    "sys/block/vda/device/vendor": "0x1af4\n",
    "sys/block/sda/size": "2048\n",
    "sys/block/sda/queue/rotational": "0\n",
    "sys/block/sda/device/model": "QEMU HARDDISK\n",
    "sys/block/fd0/size": "8\n",
    "sys/block/fd0/device/x": "",
    **pci_device("0000:00:01.0", kind="030000", vendor="1234", device="1111"),
    **pci_device("0000:00:02.0", kind="030000", vendor="1af4", device="1050"),
}


def gpus(root: Path) -> list[Gpu]:
    return [adapter.gpu for adapter in pci.adapters(root)]


def test_a_laptop(tmp_path: Path) -> None:
    root = plant(tmp_path, LAPTOP)
    os_told = linux.operating_system(root)
    assert (os_told.os, os_told.platform, os_told.platform_family, os_told.platform_version) == (
        "linux",
        "ubuntu",
        "debian",
        "24.04",
    )
    assert (os_told.kernel_version, os_told.kernel_arch) == (os.uname().release, os.uname().machine)
    assert linux.processors(root) == (Cpu(I7, 4, 8),)
    assert linux.memory(root) == Memory(USABLE, USABLE)
    assert linux.disks(root) == (
        Disk("SSD", 31914983424, "SC32G", "0x9a1b2c3d"),
        Disk("SSD", 512110190592, "Samsung SSD 970 EVO Plus 500GB", "S4EVNX0R123456"),
    )
    assert gpus(root) == [Gpu("Intel", "UHD Graphics 620"), Gpu("NVIDIA", "GP108M [GeForce MX250]")]


def test_a_server(tmp_path: Path) -> None:
    root = plant(tmp_path, SERVER)
    os_told = linux.operating_system(root)
    assert (os_told.platform, os_told.platform_family, os_told.platform_version) == ("rocky", "rhel", "9.4")
    assert linux.processors(root) == (Cpu(XEON, 56, 112), Cpu(XEON, 56, 112))
    assert linux.memory(root) == Memory(2**41, USABLE)
    assert linux.disks(root) == (
        Disk("HDD", 2000398934016, "WDC WD20EJRX-89G", "WD-WCC4M2USUZ1V"),
        Disk("SSD", 240057409536, "TOSHIBA-TR200", "29KB71U8K46S"),
        Disk("ODD", 0, "DVD-ROM", "unknown"),
    )
    assert gpus(root) == [
        Gpu("ASPEED", "ASPEED Graphics Family"),
        Gpu("NVIDIA", "PCI device 10de:2330"),  # without pci.ids; NVIDIA's driver knows its name
        Gpu("AMD", "AMD Instinct MI300X"),
        Gpu("unknown", "PCI device abcd:0001"),
    ]


def test_a_virtual_machine(tmp_path: Path) -> None:
    root = plant(tmp_path, VIRTUAL)
    assert linux.operating_system(root).platform_family == "alpine"
    assert linux.processors(root) == (Cpu("AMD EPYC", 1, 1),) * 4
    assert linux.disks(root) == (
        Disk("FDD", 4096, "unknown", "unknown"),
        Disk("virtual", 1048576, "QEMU HARDDISK", "unknown"),
        Disk("virtual", 274877906944, "unknown", "overlayblk"),
    )
    assert gpus(root) == [Gpu("QEMU", "QEMU Standard VGA"), Gpu("Red Hat", "Virtio GPU")]


def test_a_container_that_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicn.hardware.portable.run_tool", lambda command: "")
    told = linux.operating_system(tmp_path)
    assert (told.os, told.platform, told.platform_family, told.platform_version) == ("linux", "", "", "")
    (cpu,) = linux.processors(tmp_path)
    assert cpu.model_name == "unknown"
    assert (cpu.total_cores, cpu.total_threads) == (psutil.cpu_count(logical=False), psutil.cpu_count())
    assert linux.memory(tmp_path) == Memory(USABLE, USABLE)
    assert linux.disks(tmp_path) == ()
    assert gpus(tmp_path) == []


def test_the_model_of_a_processor_that_the_kernel_does_not_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plant(tmp_path, cpus("x", packages=2, cores=2, threads=2) | {"proc/cpuinfo": "processor\t: 0\n"})
    plant(root, {"sys/devices/system/cpu/cpu0/topology/physical_package_id": "0\n"})
    monkeypatch.setattr("aicn.hardware.portable.run_tool", lambda command: '{"brand_raw": "Cortex-A72"}')
    assert linux.processors(root) == (Cpu("Cortex-A72", 2, 2),) * 2


def test_debian_says_its_point_release(tmp_path: Path) -> None:
    root = plant(tmp_path, {"etc/os-release": "ID=debian\nVERSION_ID=12\n", "etc/debian_version": "12.11\n"})
    assert linux.operating_system(root).platform_version == "12.11"


def test_names_of_graphics_adapters_from_the_bus_and_from_the_driver() -> None:
    on_bus = (
        pci.Adapter("0000:03:00.0", Gpu("ASPEED", "ASPEED Graphics Family")),
        pci.Adapter("0000:3b:00.0", Gpu("NVIDIA", "PCI device 10de:2330")),
    )
    by_driver = (pci.Adapter("0000:3b:00.0", Gpu("NVIDIA", "NVIDIA H100")), pci.Adapter("", Gpu("NVIDIA", "in WSL")))
    assert pci.merged(on_bus, by_driver) == (on_bus[0].gpu, by_driver[0].gpu, by_driver[1].gpu)


FILES = sorted({*LAPTOP, *SERVER, *VIRTUAL})


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(FILES), st.binary(max_size=200) | st.sampled_from([b"-1", b"9" * 5000]), max_size=40
    )
)
def test_junk_in_these_files_is_never_an_error(junk: dict[str, bytes]) -> None:
    with TemporaryDirectory() as directory:
        root = plant(Path(directory), {**cpus("x", packages=1, cores=1, threads=1), **junk})
        linux.operating_system(root)
        assert linux.processors(root)
        assert linux.memory(root).total_physical_bytes < 2**63
        for disk in linux.disks(root):
            assert 0 <= disk.size_bytes < 2**63
            assert disk.model
            assert disk.serial_number
        for gpu in gpus(root):
            assert gpu.vendor
            assert gpu.product.isprintable()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A directory in a file's place, as everything else that cannot be read, is nothing."""
    for name in (
        "etc/os-release",
        "sys/block/sda/size",
        "sys/block/sda/device/model",
        "sys/block/sda/device/vpd_pg80/x",
    ):
        (tmp_path / name).mkdir(parents=True)
    assert linux.operating_system(tmp_path).platform == ""
    assert linux.disks(tmp_path) == ()


def test_this_machine() -> None:
    root = Path("/")
    assert linux.operating_system(root).platform
    assert sum(cpu.total_threads for cpu in linux.processors(root)) >= 1
    memory = linux.memory(root)
    assert memory.total_physical_bytes >= memory.total_usable_bytes == USABLE
    assert all(disk.size_bytes >= 0 for disk in linux.disks(root))
