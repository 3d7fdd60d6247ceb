"""How a correction is put in place."""

from __future__ import annotations

from typing import Any

from aicn.errors import StartupError


def replace(owner: Any, name: str, replacement: object) -> None:
    """Put `replacement` in the place of `owner.name`, which must be there: another libp2p would silently lose the correction."""
    if name not in vars(owner):
        where = getattr(owner, "__qualname__", owner.__name__)
        raise StartupError(f"libp2p has no {where}.{name}: aicn needs libp2p 0.8.1 exactly")
    setattr(owner, name, replacement)
