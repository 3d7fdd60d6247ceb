"""What is measured and what is to be reached: one Row per load, one Metric per figure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One figure of a row: `key` of its result, and the target."""

    name: str
    key: str
    at_least: float | None = None
    at_most: float | None = None

    def verdict(self, value: float) -> str:
        """ "yes", "NO", or nothing where there is no target."""
        if not self.target:
            return ""
        low, high = self.at_least, self.at_most
        return "yes" if (low is None or value >= low) and (high is None or value <= high) else "NO"

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:,g}"
        return f"<= {self.at_most:,g}" if self.at_most is not None else ""


@dataclass(frozen=True)
class Row:
    """One load, run against the endpoint directly and through input node and worker."""

    id: str
    name: str
    metrics: tuple[Metric, ...]
    clients: int
    requests: int
    stream: bool = True
    tokens: int = 8
    delay_ms: int = 0  # between two tokens
    spread_s: float = 0.0  # the clients arrive evenly over this time
    v1: bool = False  # asked over /v1, by the model's name alone

    @property
    def model(self) -> str:
        """Under which the worker has an endpoint that answers so."""
        return f"{self.tokens}-tokens-{self.delay_ms}-ms"

    @property
    def query(self) -> str:
        """Which makes the fake endpoint answer so."""
        return f"?tokens={self.tokens}&delay={self.delay_ms}"


NONE_LOST = Metric("requests lost", "lost", at_most=0)

ROWS = (
    Row(
        "plain-16",
        "plain chat, 16 clients",
        (
            Metric("requests/s", "rps", at_least=550),
            Metric("CPU ms per request, gateway + worker", "cpu_ms", at_most=2.2),
            Metric("CPU ms per request, gateway", "cpu_gateway_ms"),
            Metric("CPU ms per request, worker", "cpu_worker_ms"),
        ),
        clients=16,
        requests=3000,
        stream=False,
    ),
    Row(
        "stream-64",
        "stream of 8 tokens at once, 64 clients",
        (Metric("requests/s", "rps", at_least=450),),
        clients=64,
        requests=3000,
    ),
    Row(
        "first-1",
        "stream of 8 tokens at once, 1 client",
        (Metric("first token added, ms p50", "first_added", at_most=5),),
        clients=1,
        requests=300,
    ),
    Row(
        "first-16",
        "stream of 8 tokens at once, 16 clients",
        (Metric("first token added, ms p50", "first_added", at_most=30),),
        clients=16,
        requests=2000,
    ),
    Row(
        "v1-16",
        "stream of 8 tokens at once over /v1, 16 clients",
        (
            Metric("first token added, ms p50", "first_added", at_most=30),
            Metric("first token added, ms p99", "first_added99", at_most=80),
        ),
        clients=16,
        requests=2000,
        v1=True,
    ),
    Row(
        "steady-16",
        "a token each 20 ms, 16 streams",
        (Metric("gap ms p99", "gap99", at_most=24), Metric("first token added, ms p50", "first_added")),
        clients=16,
        requests=48,
        tokens=50,
        delay_ms=20,
    ),
    Row(
        "steady-64",
        "a token each 20 ms, 64 streams",
        (Metric("gap ms p99", "gap99", at_most=30),),
        clients=64,
        requests=192,
        tokens=50,
        delay_ms=20,
    ),
    Row(
        "many-1000",
        "a token each 100 ms, 1000 streams within 1 s",
        (
            NONE_LOST,
            Metric("gap ms p99", "gap99", at_most=450),
            Metric("memory MB, gateway", "rss_gateway", at_most=250),
            Metric("memory MB, worker", "rss_worker", at_most=250),
        ),
        clients=1000,
        requests=1000,
        tokens=50,
        delay_ms=100,
        spread_s=1.0,
    ),
    Row(
        "bulk-16",
        "500 tokens at once, 16 clients",
        (Metric("events/s", "events_s", at_least=50_000),),
        clients=16,
        requests=480,
        tokens=500,
    ),
    Row(
        "plain-256",
        "plain chat, 256 clients",
        (NONE_LOST, Metric("requests/s", "rps")),
        clients=256,
        requests=5120,
        stream=False,
    ),
)

# Measured on the daemons themselves, without load.
START = Metric("start to ready, s (median of 3)", "ready_s", at_most=2.0)
IDLE = (
    Metric("memory MB idle, gateway", "rss_gateway", at_most=130),
    Metric("memory MB idle, worker", "rss_worker", at_most=130),
)
