"""Figures as a table: on the terminal, in bench/last.json, in docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.rows import Metric

LAST = Path(__file__).with_name("last.json")
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


@dataclass(frozen=True)
class Figure:
    """One measured value."""

    row: str
    metric: str
    target: str
    direct: float | None  # the same load on the endpoint itself; None: there is nothing to compare
    through: float
    ok: str  # yes, NO, or nothing without a target

    @classmethod
    def of(cls, row: str, metric: Metric, direct: dict[str, Any], through: dict[str, Any]) -> Figure:
        value = float(through[metric.key])
        return cls(row, metric.name, metric.target, direct.get(metric.key), value, metric.verdict(value))


def last_recorded() -> dict[tuple[str, str], float]:
    """(row, metric) → value of the last recorded run; empty when there is none."""
    if not LAST.exists():
        return {}
    return {(f["row"], f["metric"]): f["through"] for f in json.loads(LAST.read_text())["figures"]}


def table(figures: list[Figure], last: dict[tuple[str, str], float]) -> list[tuple[str, ...]]:
    """Head and rows, as text."""
    head: tuple[str, ...] = ("load", "figure", "direct", "through", "target", "last", "ok")
    return [head] + [
        (
            f.row,
            f.metric,
            show(f.direct),
            show(f.through),
            f.target,
            show(last.get((f.row, f.metric))),
            f.ok,
        )
        for f in figures
    ]


def text(rows: list[tuple[str, ...]]) -> str:
    """For a terminal: columns, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown(rows: list[tuple[str, ...]]) -> str:
    return "\n".join(["| " + " | ".join(row) + " |" for row in (rows[0], ("---",) * len(rows[0]), *rows[1:])])


def machine() -> dict[str, Any]:
    """Where the figures come from, as far as it matters to them."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def record(figures: list[Figure]) -> None:
    """Make these the last recorded figures, and put them into the page."""
    LAST.write_text(json.dumps({"machine": machine(), "figures": [asdict(f) for f in figures]}, indent=1) + "\n")
    write_block("bench", [row[:5] + row[6:] for row in table(figures, {})])


def write_block(name: str, rows: list[tuple[str, ...]]) -> None:
    """Put a table into the page in place of the block `name`, with the machine above it."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    where = machine()
    before, _, rest = PAGE.read_text().partition(begin)
    PAGE.write_text(
        f"{before}{begin}\n{where['date']}, {where['cores']} cores, Python {where['python']}, {where['system']}\n\n"
        f"{markdown(rows)}\n{end}{rest.partition(end)[2]}"
    )


def show(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
