"""What kind of image bytes are."""

from __future__ import annotations

from typing import NamedTuple


class ImageType(NamedTuple):
    """A format of images."""

    extension: str  # without the dot
    media_type: str


_PNG = ImageType("png", "image/png")
_JPEG = ImageType("jpg", "image/jpeg")
_GIF = ImageType("gif", "image/gif")
_WEBP = ImageType("webp", "image/webp")
_BMP = ImageType("bmp", "image/bmp")
_TIFF = ImageType("tiff", "image/tiff")
_AVIF = ImageType("avif", "image/avif")
_HEIC = ImageType("heic", "image/heic")
_JXL = ImageType("jxl", "image/jxl")

_PREFIXES = (
    (b"\x89PNG\r\n\x1a\n", _PNG),
    (b"\xff\xd8\xff", _JPEG),
    (b"GIF87a", _GIF),
    (b"GIF89a", _GIF),
    (b"II*\x00", _TIFF),
    (b"MM\x00*", _TIFF),
    (b"\xff\x0a", _JXL),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", _JXL),
)
_BRANDS = {b"avif": _AVIF, b"avis": _AVIF, b"heic": _HEIC, b"heix": _HEIC, b"mif1": _HEIC}  # ISO/IEC 14496-12, `ftyp`


def image_type(data: bytes) -> ImageType | None:
    """The format by the first bytes; None for everything that is no raster image."""
    for prefix, kind in _PREFIXES:
        if data.startswith(prefix):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _WEBP
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12])
    if data[:2] == b"BM" and len(data) > 26 and data[14:18] in (b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0"):
        return _BMP  # "BM" alone begins many a text: the size of its second header (40, 108, 124) decides
    return None
