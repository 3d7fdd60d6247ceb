"""Pictures without a model: coloured rings and waves as PNG files (RFC 2083), the same for the same seed.

A pixel is a palette index, the sum of what its column and its row say (x² + y² makes rings), so that a whole row is one
`bytes.translate` of the first: a megapixel takes some 20 ms.
"""

from __future__ import annotations

import struct
import zlib
from math import cos, pi, sin
from random import Random

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = 256
_PALETTE_IMAGE = 3  # colour type of IHDR


def draw(seed: str, width: int, height: int) -> bytes:
    """A picture of `width` x `height` pixels."""
    chance = Random(seed)  # noqa: S311 - not for secrets: the same seed must draw the same
    longest = max(width, height)
    columns, rows = _waves(chance, width, longest), _waves(chance, height, longest)
    turns = [bytes((index + turn) % _COLOURS for index in range(_COLOURS)) for turn in range(_COLOURS)]
    pixels = b"".join(b"\0" + columns.translate(turns[row]) for row in rows)  # each row says how it is filtered: not
    header = struct.pack(">IIBBBBB", width, height, 8, _PALETTE_IMAGE, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", _palette(chance)), (b"IDAT", zlib.compress(pixels, 6)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(name, data) for name, data in chunks)


def _waves(chance: Random, length: int, longest: int) -> bytes:
    """What one axis adds to the palette index: rings around a centre, bent by a wave."""
    centre, rings = chance.uniform(0.25, 0.75) * length / longest, chance.uniform(2, 6)
    waves, depth, phase = chance.randint(1, 3), chance.uniform(0.05, 0.3), chance.uniform(0, 2 * pi)
    values = (
        rings * (i / longest - centre) ** 2 + depth * sin(2 * pi * waves * i / longest + phase) for i in range(length)
    )
    return bytes(int(value * _COLOURS) % _COLOURS for value in values)


def _palette(chance: Random) -> bytes:
    """Colours that go round without a seam, near each other on the colour wheel and none of them harsh."""
    first, step = chance.uniform(0, 2 * pi), chance.choice((-1, 1)) * chance.uniform(0.5, 1.2)
    angles = (2 * pi * i / _COLOURS for i in range(_COLOURS))
    return bytes(int(150 + 95 * cos(angle + first + step * part)) for angle in angles for part in range(3))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
