"""What the node counts, as Prometheus reads it. The only importer of prometheus_client, which writes the text.

Names and buckets of `gen_ai_*` are OpenTelemetry's semantic conventions for generative AI (gen-ai-metrics), spelled as Prometheus
has them. Counting happens once per request, in plain dictionaries; what can be read off the node is read when somebody asks.

Labels are bounded: errors by their code words, routes by the table of routes, models to those of this node and `_FOREIGN` more.
A foreign model gets a name of its own once a node has answered for it, so that clients cannot use those up with names that they
make up; the rest are `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import trio
from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from aicn import __version__
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.registration import Project
from aicn.domain.routing import Trace
from aicn.domain.served import Served
from aicn.services.ports import Peers

OTHER = ("other", "other")  # project and model of those that have no name here
_FOREIGN = 100  # models of other nodes that are told apart: each has up to 70 lines
_OWN = 1000  # of this node, over its whole life: a node may register and drop without end

# The advised boundaries of OpenTelemetry's gen-ai-metrics
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

# gen_ai.operation.name; "image_edit" is ours, OpenTelemetry has none
OPERATIONS = {
    Kind.CHAT: "chat",
    Kind.COMPLETION: "text_completion",
    Kind.EMBEDDING: "embeddings",
    Kind.IMAGE_GENERATION: "generate_content",
    Kind.IMAGE_EDIT: "image_edit",
}
_NAMED = ("surface", "gen_ai_operation_name", "aicn_project", "gen_ai_request_model")  # labels of a model's series


class Described(NamedTuple):
    """A histogram: its name, what it says, its boundaries."""

    name: str
    about: str
    bounds: Sequence[float]


DURATION = Described("gen_ai_server_request_duration_seconds", "From a request to the end of its answer.", SECONDS)
FIRST_TOKEN = Described(
    "gen_ai_server_time_to_first_token_seconds", "From a request to the first piece of a streamed answer.", FIRST
)
TOKEN_TIME = Described(
    "gen_ai_server_time_per_output_token_seconds", "Per token after the first, of streamed answers.", PER_TOKEN
)
QUEUE = Described("aicn_queue_seconds", "Waited for a place on the worker.", SECONDS)
USAGE = Described("gen_ai_client_token_usage", "Tokens of a request, as the model endpoint counted them.", TOKENS)


class Histogram:
    """Counts per bucket and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and count up to there, as Prometheus has them."""
        told, count = [], 0
        for bound, here in zip((*self.bounds, float("inf")), self.counts, strict=True):
            count += here
            told.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(count)))
        return told


class Metrics:
    """Counts of one node."""

    def __init__(
        self,
        peers: Peers,
        projects: Callable[[], Sequence[Project]],
        load: Callable[[str, str], tuple[int, int]],
        known: Callable[[], int],
    ) -> None:
        """`projects`: what this node offers; `load`: places of one of its models, and requests that run or wait; `known`: nodes with models."""
        self._peers = peers
        self._projects = projects
        self._load = load
        self._known = known
        self._http: Counter[tuple[str, ...]] = Counter()
        self._requests: Counter[tuple[str, ...]] = Counter()
        self._attempts: Counter[tuple[str, ...]] = Counter()
        self._histograms: dict[Described, dict[tuple[str, ...], Histogram]] = {
            one: {} for one in (DURATION, FIRST_TOKEN, TOKEN_TIME, QUEUE, USAGE)
        }
        self._names: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}  # of this node, and of others
        self._process = ProcessCollector(registry=None)

    def answered(self, route: str, status: int) -> None:
        """An HTTP request has ended."""
        self._http[route, str(status)] += 1

    def served(self, served: Served) -> None:
        """A model request has ended."""
        project, model = self._name(served)
        labels = (served.surface, OPERATIONS[served.kind], project, model)
        self._requests[(*labels, served.code or "ok")] += 1
        self._observe(DURATION, labels, served.seconds)
        if served.surface == "worker":
            self._observe(QUEUE, labels, served.queued_s)
        if served.stream and served.first_s is not None:
            self._observe(FIRST_TOKEN, labels, served.first_s)
        if (usage := served.usage) is None:
            return
        self._observe(USAGE, (*labels, "input"), usage.prompt_tokens)
        self._observe(USAGE, (*labels, "output"), usage.completion_tokens)
        if served.stream and served.first_s is not None and usage.completion_tokens > 1:
            self._observe(TOKEN_TIME, labels, (served.seconds - served.first_s) / (usage.completion_tokens - 1))

    def traced(self, trace: Trace, _request: InferenceRequest) -> None:
        """A request for a model of whichever node has it has ended."""
        for attempt in trace.attempts:
            what = "resume" if attempt.resumed else "hedge" if attempt.hedge else "plain"
            self._attempts[what, attempt.error or "ok"] += 1

    async def text(self, *, in_flight: int) -> bytes:
        """All of it in Prometheus' text format. `in_flight`: HTTP requests at work, this one included."""
        page = _Page([*self._now(in_flight), *self._counted()], self._process)
        return await trio.to_thread.run_sync(generate_latest, page)  # 10 µs a line, and there may be thousands

    def _name(self, served: Served) -> tuple[str, str]:
        name = (served.project, served.model)
        own, foreign = self._names[True], self._names[False]
        if name in own or (name in foreign and served.surface != "worker"):
            return name
        if len(own) < _OWN and any(name == (one.name, model) for one in self._projects() for model in one.models):
            own.add(name)
            return name
        if served.surface != "worker" and served.node is not None and len(foreign) < _FOREIGN:
            foreign.add(name)
            return name
        return OTHER

    def _observe(self, what: Described, labels: tuple[str, ...], value: float) -> None:
        series = self._histograms[what]
        if (histogram := series.get(labels)) is None:
            histogram = series[labels] = Histogram(what.bounds)
        histogram.observe(value)

    def _counted(self) -> Iterator[Metric]:
        yield _counter("aicn_http_requests", "HTTP requests.", ("route", "status"), self._http)
        yield _counter("aicn_model_requests", "Requests for models.", (*_NAMED, "code"), self._requests)
        yield _counter(
            "aicn_attempts", "Nodes asked for requests that name a model and no node.", ("what", "code"), self._attempts
        )
        for what, series in self._histograms.items():
            names = (*_NAMED, "gen_ai_token_type") if what is USAGE else _NAMED
            family = HistogramMetricFamily(what.name, what.about, labels=names)
            for labels, histogram in series.items():
                family.add_metric(labels, histogram.buckets(), histogram.total)
            yield family

    def _now(self, in_flight: int) -> Iterator[Metric]:
        info = GaugeMetricFamily("aicn_info", "Always 1; the program's version.", labels=("version",))
        info.add_metric((__version__,), 1)
        yield info
        yield GaugeMetricFamily("aicn_http_requests_in_flight", "HTTP requests at work.", in_flight)
        places, running, waiting = (
            GaugeMetricFamily(f"aicn_model_{name}", about, labels=("aicn_project", "gen_ai_request_model"))
            for name, about in (
                ("places", "Requests of a model of this node that may run at once."),
                ("running", "Requests of a model of this node that run."),
                ("waiting", "Requests of a model of this node that wait for a place."),
            )
        )
        for project in self._projects():
            for model in project.models:
                concurrency, load = self._load(project.name, model)
                places.add_metric((project.name, model), concurrency)
                running.add_metric((project.name, model), min(concurrency, load))
                waiting.add_metric((project.name, model), max(0, load - concurrency))
        yield from (places, running, waiting)
        open_ = self._peers.connections()
        yield GaugeMetricFamily("aicn_peers", "Connected peers.", len({one.peer for one in open_}))
        kinds = Counter((one.direction.lower(), str("/p2p-circuit" in one.address).lower()) for one in open_)
        connections = GaugeMetricFamily("aicn_connections", "Connections to peers.", labels=("direction", "relayed"))
        for direction in ("inbound", "outbound"):
            for relayed in ("false", "true"):
                connections.add_metric((direction, relayed), kinds[direction, relayed])
        yield connections
        yield GaugeMetricFamily("aicn_catalog_nodes", "Nodes whose offers are known, this one included.", self._known())


class _Page(Collector):
    """What one scrape shows."""

    def __init__(self, families: Sequence[Metric], process: ProcessCollector) -> None:
        self._families = families
        self._process = process

    def collect(self) -> Iterator[Metric]:
        yield from self._families
        yield from self._process.collect()  # reads /proc: not on the event loop


def _counter(name: str, about: str, labels: Sequence[str], counts: Counter[tuple[str, ...]]) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
