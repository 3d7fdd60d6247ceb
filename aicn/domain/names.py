"""Names of projects and models."""

from __future__ import annotations

LONGEST_NAME = 128  # characters of a project or model name; they travel in every offer


def is_name(text: str) -> bool:
    """Whether `text` can name a project or a model: 1 to LONGEST_NAME printable characters, no spaces at its ends."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable() and text == text.strip()
