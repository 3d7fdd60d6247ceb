"""How a correction is put in place."""

from __future__ import annotations

from typing import Any

from aicn.errors import StartupError


def expect(owner: Any, *names: str) -> None:
    """StartupError unless `owner` itself defines all of `names`, which classes of ours override or use."""
    for name in names:
        if name not in vars(owner):
            where = getattr(owner, "__qualname__", owner.__name__)
            raise StartupError(f"libp2p has no {where}.{name}: aicn needs libp2p 0.8.1 exactly")


def replace(owner: Any, name: str, replacement: object) -> None:
    """Put `replacement` in the place of `owner.name`, which must be there: another libp2p would silently lose the correction."""
    expect(owner, name)
    setattr(owner, name, replacement)
