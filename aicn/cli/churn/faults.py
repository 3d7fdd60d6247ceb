"""What is done to whom, and when: by a seed, so that a trial can be had again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Literal, get_args

Mode = Literal["kill", "freeze", "slow", "mixed", "frozen"]
Kind = Literal["kill", "freeze", "slow"]
MODES: tuple[Mode, ...] = get_args(Mode)
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something is done to a worker, and taken back `lasts_s` later: never, if that is None."""

    at_s: float  # since the clients began; later where no other worker would be left
    worker: int  # from 0
    kind: Kind
    lasts_s: float | None


def schedule(mode: Mode, seed: int, workers: int, every_s: float) -> Iterator[Fault]:
    """A fault each `every_s` seconds without end, nobody twice in a row; for "frozen" the one that the first worker does not survive."""
    if mode == "frozen":
        yield Fault(every_s, 0, "freeze", None)
        return
    chance = Random(seed)  # noqa: S311 - not for secrets: the same seed must give the same trial
    last = -1
    for number in count(1):
        kind: Kind = chance.choice(KINDS) if mode == "mixed" else mode
        last = chance.choice([worker for worker in range(workers) if worker != last])
        # a killed one needs a second more to be ready again
        yield Fault(number * every_s, last, kind, every_s / 2 if kind == "kill" else every_s * 1.5)
