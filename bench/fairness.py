"""What a flood of one peer costs another: a worker's admission under a seeded load, in virtual time.

    python -m bench.fairness

One principal keeps 256 requests waiting; another sends one at random moments. Printed is how long that one waits for a place, in service
times, without the flood, with it, and with it where all wait in one line.
"""

from __future__ import annotations

import random
from statistics import quantiles

import trio
from trio.testing import MockClock

from aicn.services.admission import Admission

_FLOOD = 256
_SAMPLES = 200
_SERVICE_S = 1.0


def main() -> None:
    print("wait of the modest one, service times: p50 / p95 / most\n")
    print(f"{'places':>6}  {'alone':>20}  {'flood, in turn':>20}  {'flood, one line':>22}")
    for places in (1, 2, 8, 32):
        cells = [_measured(places, flood, modest) for flood, modest in (("", "b"), ("a", "b"), ("a", "a"))]
        print(f"{places:>6}  {cells[0]:>20}  {cells[1]:>20}  {cells[2]:>22}")


def _measured(places: int, flood: str, modest: str) -> str:
    """`flood`: its principal; empty: none."""
    waits: list[float] = []
    trio.run(
        _load,
        Admission(concurrency=places, queue=10 * _FLOOD),
        flood,
        modest,
        waits,
        clock=MockClock(autojump_threshold=0),
    )
    cuts = quantiles(waits, n=20)
    return f"{cuts[9]:.2f} / {cuts[18]:.2f} / {max(waits):.2f}"


async def _load(admission: Admission, flood: str, modest: str, waits: list[float]) -> None:
    chance = random.Random(7)

    async def keep_asking() -> None:
        while True:
            await _request(admission, flood, chance)

    async with trio.open_nursery() as nursery:
        for _ in range(_FLOOD if flood else 0):
            nursery.start_soon(keep_asking)
        for _ in range(_SAMPLES):
            await trio.sleep(chance.uniform(2, 6) * _SERVICE_S)
            began = trio.current_time()
            waits.append(await _request(admission, modest, chance) - began)
        nursery.cancel_scope.cancel()


async def _request(admission: Admission, who: str, chance: random.Random) -> float:
    """When it got its place."""
    ticket, _ = admission.enter(who)
    try:
        await ticket.wait()
        placed = trio.current_time()
        await trio.sleep(chance.uniform(0.5, 1.5) * _SERVICE_S)
        return placed
    finally:
        ticket.leave()


if __name__ == "__main__":
    main()
