"""Drawn pictures are images, the same for the same seed; the formats that endpoints answer are told apart."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.dev.drawing import draw
from aicn.dev.pictures import Sides, sides_of

_FRAME = b"\x00\x11\x08" + struct.pack(">HH", 480, 640)  # length, precision, height, width
_JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(9) + b"\xff\xc2" + _FRAME + bytes(9)


def _webp(kind: bytes, payload: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + struct.pack("<I", len(payload)) + payload


@pytest.mark.parametrize(
    ("data", "sides"),
    [
        (_JPEG, (640, 480)),
        (b"\xff\xd8\xff\xd9", (0, 0)),
        (b"GIF89a" + struct.pack("<HH", 640, 480), (640, 480)),
        (_webp(b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 640, 480)), (640, 480)),
        (_webp(b"VP8L", b"\x2f" + (639 | 479 << 14).to_bytes(4, "little")), (640, 480)),
        (
            _webp(b"VP8X", bytes(4) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")),
            (640, 480),
        ),
        (_webp(b"????", b""), (0, 0)),
        (b"<html>", (0, 0)),
        (b"", (0, 0)),
    ],
)
def test_formats(data: bytes, sides: Sides) -> None:
    assert sides_of(data) == sides


@given(
    st.sampled_from([_JPEG[:20], b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8X", b"GIF89a", b"\x89PNG\r\n\x1a\n", b""]),
    st.binary(),
)
def test_nothing_breaks_it(start: bytes, rest: bytes) -> None:
    assert min(sides_of(start + rest)) >= 0


@pytest.mark.parametrize(("width", "height"), [(16, 16), (100, 60), (17, 512)])
def test_a_drawing_is_a_png_of_that_size(width: int, height: int) -> None:
    data = draw("a bird", width, height)
    assert sides_of(data) == (width, height)
    at, chunks = 8, {}
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size]) == (zlib.crc32(name + body),)
        chunks[name] = body
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert len(zlib.decompress(chunks[b"IDAT"])) == height * (1 + width)
    assert data == draw("a bird", width, height)
    assert data != draw("a fish", width, height)
