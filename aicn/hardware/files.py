"""Reading the files in which Linux tells of its hardware: what is not there, not readable or no such thing is "" or 0."""

from __future__ import annotations

from pathlib import Path

_MOST = 4096  # bytes: sysfs gives a page at most
_LARGEST = 2**63 - 1  # what clients of spec 1 read sizes into


def text(path: Path, most: int = _MOST) -> str:
    """The first `most` bytes, without control characters (but line ends) and outer blanks."""
    try:
        with path.open("rb") as file:
            data = file.read(most)
    except (OSError, ValueError):  # ValueError: a name that is no name
        return ""
    return plain(data.decode(errors="replace"))


def plain(told: str) -> str:
    """What a device, a driver or a tool says of itself, as text that can be shown."""
    return "".join(c for c in told if c.isprintable() or c == "\n").strip()


def number(path: Path, base: int = 10) -> int:
    """A number from 0 to 2**63 - 1."""
    return to_number(text(path), base)


def to_number(told: object, base: int = 10) -> int:
    """The number that `told` is, or is the text of; 0 when it is none."""
    try:
        value = int(told, base) if isinstance(told, str) else int(told) if isinstance(told, (int, float)) else 0
    except (ValueError, OverflowError):
        return 0
    return min(max(value, 0), _LARGEST)


def entries(directory: Path) -> list[Path]:
    """What is in a directory, by name."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []
