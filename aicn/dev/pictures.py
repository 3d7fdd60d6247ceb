"""How large a picture is, by the first bytes of its file."""

from __future__ import annotations

import struct

from aicn.domain.images import image_type

_JPEG_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # SOF0 to SOF15 (ITU-T T.81, table B.1)

Sides = tuple[int, int]
_UNKNOWN: Sides = (0, 0)


def sides_of(data: bytes) -> Sides:
    """Width and height of a PNG, JPEG, GIF or WebP; 0 and 0 where they are not found, as in all other formats."""
    kind = image_type(data)
    match kind.extension if kind is not None else "":
        case "png" if len(data) >= 24:
            width, height = struct.unpack(">II", data[16:24])
            return width, height
        case "gif" if len(data) >= 10:
            width, height = struct.unpack("<HH", data[6:10])
            return width, height
        case "jpg":
            return _jpeg_sides(data)
        case "webp":
            return _webp_sides(data)
        case _:
            return _UNKNOWN


def _jpeg_sides(data: bytes) -> Sides:
    """From the first frame header; the segments before it each tell their length."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _JPEG_SIZES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return _UNKNOWN


def _webp_sides(data: bytes) -> Sides:
    """Of the three kinds of first chunk (RFC 9649)."""
    kind = data[12:16]
    if kind == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return _UNKNOWN
