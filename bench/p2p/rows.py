"""The figures, and what is to be reached."""

from __future__ import annotations

from dataclasses import dataclass

from bench.report import show
from bench.rows import Metric

STACKS = ("stock", "aicn", "go")  # as the server; the client of the Go server is ours


@dataclass(frozen=True)
class Row:
    """One figure of all implementations. `times_stock`: its target is a multiple of stock's value, not a value."""

    load: str
    metric: Metric
    times_stock: float | None = None

    def cells(self, values: dict[str, float | None], last: float | None) -> tuple[str, ...]:
        """A row of the table; `values` by implementation, None where there is none."""
        ours, stock = values["aicn"], values["stock"]
        ratio = ours / stock if ours is not None and stock else None
        target = self.metric.target if self.times_stock is None else f">= {self.times_stock:g} x stock"
        return (
            self.load,
            self.metric.name,
            *(show(values[stack]) for stack in STACKS),
            "-" if ratio is None else f"x {show(ratio)}",
            target,
            show(last),
            self._verdict(ours, ratio),
        )

    def _verdict(self, value: float | None, ratio: float | None) -> str:
        if self.times_stock is not None:
            return "" if ratio is None else "yes" if ratio >= self.times_stock else "NO"
        return "" if value is None else self.metric.verdict(value)


HEAD = ("load", "figure", *STACKS, "aicn : stock", "target", "last", "ok")
LAST_COLUMN = HEAD.index("last")

ONE = "new stream, 1 KiB there and back, 1 worker"
MANY = "new stream, 1 KiB there and back, 32 workers"
BULK = "256 MiB on one stream (the Go peer hashes them)"
RELAYED = "new stream, 1 KiB there and back, through a relay (go: a Go relay)"
ROWS = (
    Row(ONE, Metric("requests/s", "one_rps")),
    Row(ONE, Metric("ms p50", "one_p50_ms")),
    Row(MANY, Metric("requests/s", "many_rps"), times_stock=8),
    Row(MANY, Metric("ms p50", "many_p50_ms")),
    Row(MANY, Metric("CPU ms per request, client", "many_client_ms", at_most=0.45)),
    Row(MANY, Metric("CPU ms per request, server", "many_server_ms", at_most=0.45)),
    Row(BULK, Metric("MB/s", "bulk_mb_s"), times_stock=3),
    Row(BULK, Metric("CPU ms per MB, both sides", "bulk_ms")),
    Row("1000 streams open at once, 1 KiB each way", Metric("s", "at_once_s")),
    Row("1000 streams open at once, 1 KiB each way", Metric("streams lost", "at_once_lost", at_most=0)),
    Row(RELAYED, Metric("ms p50, 1 worker", "relayed_p50_ms")),
    Row(RELAYED, Metric("requests/s, 32 workers", "relayed_rps")),
    Row("a new host connects and has its first answer", Metric("ms p50", "dial_p50_ms")),
    Row("200 connections", Metric("memory KiB per connection, server", "connection_kib")),
)

SOAK = "streams of 0 to 100,000 bytes, 64 at a time, 15 % cancelled, 10 % reset"
SOAK_METRICS = (
    Metric("streams/s", "streams_s"),
    Metric("answered whole", "whole"),
    Metric("cancelled", "cancelled"),
    Metric("reset", "reset"),
    Metric("lost", "lost", at_most=0),
    Metric("corrupted", "corrupted", at_most=0),
    Metric("memory MB that the client grew by", "client_grown_mb", at_most=8),
    Metric("memory MB that the server grew by", "server_grown_mb", at_most=8),
    Metric("tasks left on the server", "server_tasks_left", at_most=0),
)
