"""The boundary around work that nobody waits for."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


async def step(what: str, work: Callable[[], Awaitable[object]]) -> None:
    """Do one step of work that goes on afterwards: an exception, a mistake of ours, is logged and ends nothing else."""
    try:
        await work()
    except Exception:
        log.exception("%s broke", what)
