"""What nodes tell of themselves, there and back, and what strangers make of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.hardware import Cpu, Disk, Gpu, HostInfo, Memory, OperatingSystem
from aicn.domain.ids import PeerId
from aicn.domain.nodes import NodeInfo
from aicn.errors import ProtocolViolation
from aicn.wire import nodes as wire
from aicn.wire.pb import control_pb2 as pb

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=wire.LONGEST_TEXT)
TEXTS = st.lists(TEXT, max_size=5).map(tuple)
BYTES = st.integers(0, 2**63 - 1)
COUNT = st.integers(0, 2**32 - 1)


def tuples(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=4).map(tuple)


INFOS = st.builds(NodeInfo, TEXT.map(PeerId), TEXT, TEXT, TEXTS, TEXTS)
HOSTS = st.builds(
    HostInfo,
    st.builds(OperatingSystem, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT),
    tuples(st.builds(Cpu, TEXT, COUNT, COUNT)),
    st.builds(Memory, BYTES, BYTES),
    tuples(st.builds(Disk, TEXT, BYTES, TEXT, TEXT)),
    tuples(st.builds(Gpu, TEXT, TEXT)),
)


@given(INFOS)
def test_node_info_comes_back_as_it_was(info: NodeInfo) -> None:
    assert wire.to_node_info(wire.from_node_info(info)) == info


@given(HOSTS)
def test_host_info_comes_back_as_it_was(info: HostInfo) -> None:
    assert wire.to_host_info(wire.from_host_info(info)) == info


def test_texts_of_strangers_are_one_short_line() -> None:
    told = pb.HostInfo(gpu=[pb.Gpu(vendor="a\x1b[31m\n\u202eb", product="x" * 5000)])
    (gpu,) = wire.to_host_info(told).gpu
    assert gpu == Gpu("a [31m  b", "x" * 256)


@pytest.mark.parametrize("field", ["cpu", "disk", "gpu"])
def test_a_machine_has_so_many_parts(field: str) -> None:
    parts = {"cpu": pb.Cpu(), "disk": pb.Disk(), "gpu": pb.Gpu()}
    wire.to_host_info(pb.HostInfo(**{field: [parts[field]] * 1024}))
    with pytest.raises(ProtocolViolation, match="1025"):
        wire.to_host_info(pb.HostInfo(**{field: [parts[field]] * 1025}))


@pytest.mark.parametrize("field", ["addresses", "protocols"])
def test_a_node_has_so_many_addresses_and_protocols(field: str) -> None:
    with pytest.raises(ProtocolViolation, match=f"1025 {field}"):
        wire.to_node_info(pb.NodeInfo(**{field: ["x"] * 1025}))


def test_own_lists_are_cut_to_what_others_take() -> None:
    host = HostInfo(disk=(Disk("SSD", 1),) * 2000)
    assert len(wire.to_host_info(wire.from_host_info(host)).disk) == 1024


def test_sizes_are_what_clients_can_read() -> None:
    assert (
        wire.to_host_info(pb.HostInfo(memory=pb.Memory(total_usable_bytes=2**64 - 1))).memory.total_usable_bytes
        == 2**63 - 1
    )
