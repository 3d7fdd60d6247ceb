"""The event loop under a command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

Result = TypeVar("Result")


def run(main: Callable[[], Awaitable[Result]]) -> Result:
    """trio.run, with Ctrl-C as click knows it: nurseries wrap it in a group."""
    try:
        return trio.run(main)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
