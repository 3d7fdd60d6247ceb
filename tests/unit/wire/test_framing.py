from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.errors import ProtocolViolation, TooLarge
from aicn.wire.framing import FrameReader, encode_frame


def frames_of(data: bytes, cuts: list[int], limit: int = 1 << 20) -> list[bytes]:
    reader, frames = FrameReader(limit), []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in zip(edges, edges[1:], strict=False):
        reader.feed(data[start:end])
        while (frame := reader.next_frame()) is not None:
            frames.append(frame)
    assert reader.pending == 0
    return frames


@given(st.lists(st.binary(max_size=400)), st.lists(st.integers(0, 10_000), max_size=30))
def test_any_cut_gives_the_same_frames(payloads: list[bytes], cuts: list[int]) -> None:
    assert frames_of(b"".join(map(encode_frame, payloads)), cuts) == payloads


@pytest.mark.parametrize(
    ("length", "prefix"), [(0, b"\x00"), (1, b"\x01"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")]
)
def test_prefix_is_an_unsigned_varint(length: int, prefix: bytes) -> None:
    assert encode_frame(b"x" * length) == prefix + b"x" * length


def test_one_byte_at_a_time() -> None:
    data = encode_frame(b"a" * 200) + encode_frame(b"") + encode_frame(b"b")
    assert frames_of(data, list(range(len(data)))) == [b"a" * 200, b"", b"b"]


def test_a_frame_over_the_limit_is_refused_by_its_prefix_alone() -> None:
    reader = FrameReader(100)
    reader.feed(encode_frame(b"x" * 101)[:1])
    with pytest.raises(TooLarge, match="101 bytes"):
        reader.next_frame()


def test_an_endless_prefix_is_refused() -> None:
    reader = FrameReader(100)
    reader.feed(b"\xff" * 4)
    assert reader.next_frame() is None
    reader.feed(b"\xff")
    with pytest.raises(ProtocolViolation):
        reader.next_frame()


@given(st.binary(max_size=300))
def test_junk_is_cut_or_refused(junk: bytes) -> None:
    reader = FrameReader(64)
    reader.feed(junk)
    try:
        while (frame := reader.next_frame()) is not None:
            assert len(frame) <= 64
    except (TooLarge, ProtocolViolation):
        pass


def test_what_follows_the_last_frame_is_given_back_once() -> None:
    reader = FrameReader(100)
    reader.feed(encode_frame(b"last") + b"something else")
    assert reader.next_frame() == b"last"
    assert reader.take_rest() == b"something else"
    assert reader.take_rest() == b""
    reader.feed(encode_frame(b"next"))
    assert reader.next_frame() == b"next"
