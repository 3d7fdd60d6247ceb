"""The figures of a trial, and what is to be reached."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from aicn.cli.churn.faults import Mode
from aicn.cli.churn.fleet import Deed
from aicn.cli.churn.streams import Stream

_GAP_P95_S = 1.0
_FROZEN_RATIO = 1.05
_SHOWN = 5  # errors and differences that are told in full


@dataclass(frozen=True, slots=True)
class Run:
    """All streams of one run."""

    streams: Sequence[Stream]
    seconds: float


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table. None: there was nothing to measure."""

    name: str
    undisturbed: float | None
    disturbed: float | None
    at_most: float | None = None

    @property
    def reached(self) -> bool:
        """Whether it is as good as promised, if anything is."""
        return self.at_most is None or all(
            value <= self.at_most for value in (self.undisturbed, self.disturbed) if value is not None
        )

    def cells(self) -> tuple[str, ...]:
        """The line."""
        target = "" if self.at_most is None else f"<= {self.at_most:g}"
        verdict = "" if self.at_most is None else "yes" if self.reached else "NO"
        return self.name, _shown(self.undisturbed), _shown(self.disturbed), target, verdict


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a trial."""

    figures: list[Figure]
    wrong: list[str]  # some of the streams that failed or differ: what, who answered

    @property
    def good(self) -> bool:
        """Whether all that is promised was reached."""
        return all(figure.reached for figure in self.figures)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        figures = [asdict(figure) | {"reached": figure.reached} for figure in self.figures]
        return {"good": self.good, "figures": figures, "wrong": self.wrong}


def report(mode: Mode, undisturbed: Run, disturbed: Run, deeds: Sequence[Deed]) -> Report:
    """The figures of both runs; `deeds`: what was done in the second."""
    figures = [
        Figure("streams", len(undisturbed.streams), len(disturbed.streams)),
        Figure("faults", 0, len(deeds)),
        *(_counts(undisturbed, disturbed)),
        *(_resumes(mode, disturbed, deeds)),
        *(_first_tokens(undisturbed, disturbed)),
        Figure("longest silence of any stream, s", _worst(undisturbed), _worst(disturbed)),
        Figure("all streams, s", undisturbed.seconds, disturbed.seconds),
        Figure(
            "all streams, times the undisturbed run",
            None,
            disturbed.seconds / undisturbed.seconds,
            at_most=_FROZEN_RATIO if mode == "frozen" else None,
        ),
    ]
    wrong = [_wrong(stream) for run in (undisturbed, disturbed) for stream in run.streams if stream.error]
    return Report(figures, wrong[:_SHOWN])


def percentile(values: Sequence[float], part: float) -> float | None:
    """The value that `part` of all do not exceed (nearest rank); None without values."""
    return sorted(values)[max(0, ceil(part * len(values)) - 1)] if values else None


def _counts(undisturbed: Run, disturbed: Run) -> list[Figure]:
    runs = undisturbed.streams, disturbed.streams
    errors, differences = (
        [sum(bool(stream.error) and stream.failed is failed for stream in streams) for streams in runs]
        for failed in (True, False)
    )
    return [
        Figure("client errors", errors[0], errors[1], at_most=0),
        Figure("texts, usage or ids that differ", differences[0], differences[1], at_most=0),
    ]


def _resumes(mode: Mode, run: Run, deeds: Sequence[Deed]) -> list[Figure]:
    resumed = [stream for stream in run.streams if stream.resumed_at]
    gaps = [stream.gap_s for stream in resumed]
    replayed = [stream.gap_s for stream in resumed if stream.number % 2 == 0]
    continued = [stream.gap_s for stream in resumed if stream.number % 2 == 1]
    noticed, without_cause = _noticed(resumed, deeds)
    return [
        Figure("streams that were resumed", None, len(resumed)),
        Figure("resumes in all", None, sum(len(stream.resumed_at) for stream in resumed)),
        Figure("resumes from a worker to which nothing was done", None, without_cause),
        Figure("resume gap p50, s", None, percentile(gaps, 0.5)),
        Figure("resume gap p95, s", None, percentile(gaps, 0.95), at_most=_GAP_P95_S if mode == "kill" else None),
        Figure("resume gap longest, s", None, percentile(gaps, 1.0)),
        Figure("resume gap p95 where it was replayed, s", None, percentile(replayed, 0.95)),
        Figure("resume gap p95 where it was continued, s", None, percentile(continued, 0.95)),
        Figure("from the fault until another worker goes on, p50, s", None, percentile(noticed, 0.5)),
        Figure("from the fault until another worker goes on, p95, s", None, percentile(noticed, 0.95)),
    ]


def _first_tokens(undisturbed: Run, disturbed: Run) -> list[Figure]:
    firsts = [[stream.first_s for stream in run.streams if stream.text_at] for run in (undisturbed, disturbed)]
    return [
        Figure(f"first token {name}, s", *(percentile(values, part) for values in firsts))
        for name, part in (("p50", 0.5), ("p99", 0.99))
    ]


def _noticed(resumed: Sequence[Stream], deeds: Sequence[Deed]) -> tuple[list[float], int]:
    """How long after a fault others went on, and how often somebody was left who had none while he answered."""
    moments: dict[str, list[float]] = {}
    for deed in deeds:
        moments.setdefault(deed.node, []).append(deed.at)
    noticed, without_cause = [], 0
    for stream in resumed:
        for node, at in zip(stream.nodes, stream.resumed_at, strict=False):
            before = moments.get(node, [])
            index = bisect_right(before, at)
            if index == 0:
                without_cause += 1
            else:
                noticed.append(at - max(before[index - 1], stream.began))
    return noticed, without_cause


def _worst(run: Run) -> float | None:
    return percentile([stream.gap_s for stream in run.streams], 1.0)


def _wrong(stream: Stream) -> str:
    nodes = ", ".join(f"…{node[-8:]}" for node in stream.nodes) or "nobody"
    return f"stream {stream.number}, answered by {nodes}: {stream.error}"


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
