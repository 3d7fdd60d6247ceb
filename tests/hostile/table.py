"""The table of abuses, filled by the decorators below."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.hostile.attacker import Attacker

POUR_S = 0.5  # how long a flood without an end of its own lasts

Run = Callable[[Attacker], Awaitable[None]]


@dataclass(frozen=True)
class Abuse:
    """One way to treat a node badly. `run` may end by being thrown out; what it asserts must hold."""

    run: Run
    private: bool  # against a node of a private network

    @property
    def name(self) -> str:
        """Its function's."""
        return self.run.__name__


ABUSES: list[Abuse] = []


def abuse(run: Run) -> Run:
    """Enter `run` in the table."""
    ABUSES.append(Abuse(run, private=False))
    return run


def abuse_of_private_network(run: Run) -> Run:
    """Enter `run` in the table; its victim has a pre-shared key."""
    ABUSES.append(Abuse(run, private=True))
    return run
