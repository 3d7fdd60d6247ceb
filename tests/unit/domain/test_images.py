from __future__ import annotations

import pytest

from aicn.domain.images import image_type
from tests.fakes.png import draw_png


@pytest.mark.parametrize(
    ("data", "extension"),
    [
        (draw_png(1), "png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "jpg"),
        (b"GIF89a\1\0", "gif"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "webp"),
        (b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(30), "bmp"),
        (b"II*\0\x08\0\0\0", "tiff"),
        (b"\0\0\0\x20ftypavif", "avif"),
        (b"\0\0\0\x20ftypheic", "heic"),
        (b"\xff\x0a\xfa\x1f", "jxl"),
        (b"", None),
        (b"BM is how this text begins, and it goes on", None),
        (b"RIFF\x24\0\0\0WAVEfmt ", None),
        (b"\0\0\0\x20ftypisom", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"<html>", None),
    ],
)
def test_the_first_bytes_say_what_it_is(data: bytes, extension: str | None) -> None:
    kind = image_type(data)
    assert (kind and kind.extension) == extension
