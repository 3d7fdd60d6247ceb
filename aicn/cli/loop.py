"""The event loop under a command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
import trio

Result = TypeVar("Result")
Failure = TypeVar("Failure", bound=BaseException)


def run(main: Callable[[], Awaitable[Result]]) -> Result:
    """trio.run, with Ctrl-C and errors of commands as click knows them: nurseries wrap them in groups."""
    try:
        return trio.run(main)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from None
        if (failures := group.subgroup(click.ClickException)) is not None:
            raise _first_of(failures) from None
        raise


def _first_of(group: BaseExceptionGroup[Failure]) -> Failure:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
