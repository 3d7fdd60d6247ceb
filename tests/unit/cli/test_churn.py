"""What churn does to whom, and the figures that it makes of what clients saw."""

from __future__ import annotations

from itertools import islice

import pytest

from aicn.cli.churn.faults import KINDS, Fault, Mode, schedule
from aicn.cli.churn.fleet import Deed
from aicn.cli.churn.report import Figure, Report, Run, percentile, report
from aicn.cli.churn.streams import Stream


def first(mode: Mode, seed: int = 1, workers: int = 5, count: int = 40) -> list[Fault]:
    return list(islice(schedule(mode, seed, workers, every_s=2.0), count))


def test_the_seed_decides() -> None:
    assert first("mixed", seed=3) == first("mixed", seed=3) != first("mixed", seed=4)


def test_a_fault_each_interval_and_nobody_twice_in_a_row() -> None:
    faults = first("kill")
    assert [fault.at_s for fault in faults] == [2.0 * number for number in range(1, 41)]
    assert {fault.worker for fault in faults} == set(range(5))
    assert all(one.worker != next_one.worker for one, next_one in zip(faults, faults[1:], strict=False))
    assert {fault.kind for fault in faults} == {"kill"}
    assert {fault.kind for fault in first("mixed")} == set(KINDS)


def test_frozen_is_one_fault_for_good() -> None:
    assert first("frozen", workers=2) == [Fault(2.0, 0, "freeze", None)]


def stream(number: int = 0, *times: float, nodes: tuple[str, ...] = ("A",), **more: object) -> Stream:
    """One whose texts came at `times`."""
    made = Stream(number, 0.0, texts=["x"] * len(times), text_at=list(times), nodes=list(nodes), done=True)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def named(made: Report, name: str) -> Figure:
    return next(figure for figure in made.figures if figure.name == name)


@pytest.mark.parametrize(
    ("values", "part", "expected"), [([], 0.5, None), ([3, 1, 2], 0.5, 2), ([1, 2], 0.95, 2), ([7], 0.0, 7)]
)
def test_percentiles(values: list[float], part: float, expected: float | None) -> None:
    assert percentile(values, part) == expected


def test_gap_and_notice_of_a_stream_that_was_resumed() -> None:
    resumed = stream(1, 0.1, 0.2, 0.9, 1.0, nodes=("A", "B"), resumed_at=[0.6])
    made = report("kill", Run([stream(1, 0.1, 0.2)], 2.0), Run([resumed], 3.0), [Deed(0.25, "A", "worker-1", "kill")])
    assert named(made, "resume gap p95, s").disturbed == pytest.approx(0.7)
    assert named(made, "from the fault until another worker goes on, p50, s").disturbed == pytest.approx(0.35)
    assert named(made, "resumes from a worker to which nothing was done").disturbed == 0
    assert named(made, "all streams, times the undisturbed run").disturbed == 1.5
    assert made.good


def test_a_resume_that_nothing_caused_is_counted() -> None:
    resumed = stream(1, 0.1, 0.9, nodes=("A", "B"), resumed_at=[0.6])
    made = report("mixed", Run([stream()], 1.0), Run([resumed], 1.0), [Deed(0.25, "B", "worker-2", "slow")])
    assert named(made, "resumes from a worker to which nothing was done").disturbed == 1


@pytest.mark.parametrize("failed", [True, False])
def test_one_wrong_stream_is_no_success(failed: bool) -> None:
    wrong = stream(4, 0.1, error="its text differs", failed=failed)
    made = report("freeze", Run([stream(0, 0.1)], 1.0), Run([stream(0, 0.1), wrong], 1.0), [])
    assert not made.good
    assert made.wrong == ["stream 4, answered by …A: its text differs"]
    assert made.as_json()["good"] is False


@pytest.mark.parametrize(
    ("mode", "name"), [("kill", "resume gap p95, s"), ("frozen", "all streams, times the undisturbed run")]
)
def test_a_promise_that_is_missed(mode: Mode, name: str) -> None:
    late = stream(1, 0.1, 1.3, nodes=("A", "B"), resumed_at=[0.6])
    made = report(mode, Run([stream(1, 0.1)], 10.0), Run([late], 10.6), [Deed(0.25, "A", "worker-1", "kill")])
    assert [figure.name for figure in made.figures if not figure.reached] == [name]
    assert named(made, name).cells()[-1] == "NO"
