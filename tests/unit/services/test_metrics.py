"""What is counted, and what Prometheus reads of it."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from aicn.domain.inference import InferenceRequest, Kind, Usage
from aicn.domain.nodes import Connection
from aicn.domain.registration import Project
from aicn.domain.routing import Attempt, Trace
from aicn.domain.served import CANCELLED, Served
from aicn.services.metrics import FIRST, OPERATIONS, Histogram, Metrics
from tests.fakes.node import OTHER, FakePeers

OPERATIONS_PAGE = Path(__file__).parents[3] / "docs" / "operations.md"
A_REQUEST = InferenceRequest("id", Kind.CHAT, "P", "M", b"{}", stream=True, deadline=0.0)


class Offers:
    """What a node offers, and how much of it is at work."""

    def __init__(self) -> None:
        self.projects = [Project("P", ("M", "N"))]
        self.peers = FakePeers()

    def load(self, project: str, model: str) -> tuple[int, int]:
        return (2, 5) if (project, model) == ("P", "M") else (2, 1)

    def metrics(self) -> Metrics:
        return Metrics(self.peers, lambda: self.projects, self.load, lambda: 3)


def a_served(model: str = "M", *, surface: str = "v1", code: str = "", stream: bool = True, **more: object) -> Served:
    given: dict[str, object] = {"seconds": 2.1, "first_s": 0.1, "usage": Usage(5, 21, 26)} | more
    return Served("id", surface, Kind.CHAT, "P", model, stream, 1e9, code=code, **given)  # type: ignore[arg-type]


async def scraped(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Sample name and label values (sorted by label) → value."""
    text = (await metrics.text(in_flight=4)).decode()
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_streamed_answer() -> None:
    metrics = Offers().metrics()
    metrics.served(a_served())
    found = await scraped(metrics)
    labels = ("P", "chat", "M", "v1")
    assert found["aicn_model_requests_total", ("P", "ok", "chat", "M", "v1")] == 1
    assert found["gen_ai_server_request_duration_seconds_sum", labels] == 2.1
    assert found["gen_ai_server_time_to_first_token_seconds_bucket", (*labels[:3], "0.1", "v1")] == 1
    assert found["gen_ai_server_time_to_first_token_seconds_bucket", (*labels[:3], "0.08", "v1")] == 0
    assert (
        found["gen_ai_server_time_per_output_token_seconds_sum", labels] == 0.1
    )  # two seconds for the twenty after the first
    assert found["gen_ai_client_token_usage_sum", ("P", "chat", "M", "input", "v1")] == 5
    assert found["gen_ai_client_token_usage_sum", ("P", "chat", "M", "output", "v1")] == 21


async def test_answers_that_have_no_token_times() -> None:
    metrics = Offers().metrics()
    metrics.served(a_served(stream=False, first_s=None))
    metrics.served(a_served(usage=Usage(5, 1, 6)))
    metrics.served(a_served(code=CANCELLED, usage=None))
    metrics.served(a_served(code="no_node", usage=None, first_s=None))
    found = await scraped(metrics)
    labels = ("P", "chat", "M", "v1")
    assert found["gen_ai_server_request_duration_seconds_count", labels] == 4
    assert found["gen_ai_server_time_to_first_token_seconds_count", labels] == 2
    assert ("gen_ai_server_time_per_output_token_seconds_count", labels) not in found
    assert {key[1]: value for key, value in found.items() if key[0] == "aicn_model_requests_total"} == {
        ("P", code, "chat", "M", "v1"): count for code, count in (("ok", 2), (CANCELLED, 1), ("no_node", 1))
    }


async def test_models_that_get_a_name() -> None:
    offers = Offers()
    metrics = offers.metrics()
    for number in range(300):
        metrics.served(a_served(f"made up {number}", code="unknown_model"))  # a client's invention
        metrics.served(a_served(f"made up {number}", surface="worker", code="unknown_model"))  # a peer's
    for number in range(150):
        metrics.served(a_served(f"foreign {number}", node=OTHER))
    offers.projects = [Project("P", ("new",))]
    metrics.served(a_served("new", surface="worker", code="busy"))
    found = await scraped(metrics)
    named = {labels[3] for name, labels in found if name == "aicn_model_requests_total"}
    assert named == {"other", "new", *(f"foreign {number}" for number in range(100))}
    assert found["aicn_model_requests_total", ("other", "ok", "chat", "other", "v1")] == 50
    assert found["aicn_model_requests_total", ("other", "unknown_model", "chat", "other", "v1")] == 300


async def test_what_is_read_off_the_node() -> None:
    offers = Offers()
    offers.peers.open = [
        Connection(1, OTHER, "/ip4/1.2.3.4/tcp/1", 0.1, "Inbound"),
        Connection(2, OTHER, "/ip4/1.2.3.4/tcp/1/p2p/x/p2p-circuit", 0.1, "Outbound"),
    ]
    found = await scraped(offers.metrics())
    assert found["aicn_peers", ()] == 1
    assert found["aicn_connections", ("inbound", "false")] == found["aicn_connections", ("outbound", "true")] == 1
    assert found["aicn_connections", ("inbound", "true")] == 0
    assert (found["aicn_model_running", ("P", "M")], found["aicn_model_waiting", ("P", "M")]) == (2, 3)
    assert (found["aicn_model_running", ("P", "N")], found["aicn_model_waiting", ("P", "N")]) == (1, 0)
    assert found["aicn_model_places", ("P", "M")] == 2
    assert (found["aicn_catalog_nodes", ()], found["aicn_http_requests_in_flight", ()]) == (3, 4)


async def test_attempts_by_what_they_were_for() -> None:
    metrics = Offers().metrics()
    way = Trace("id", Kind.CHAT, "P", "M", True, 0.0, 1e9)
    way.attempts += [
        Attempt(OTHER, 0.0, error="answer_broken"),
        Attempt(OTHER, 1.0, resumed=True),
        Attempt(OTHER, 1.0, hedge=True),
    ]
    metrics.traced(way, A_REQUEST)
    metrics.answered("/v1/models", 200)
    found = await scraped(metrics)
    assert found["aicn_attempts_total", ("answer_broken", "plain")] == 1
    assert found["aicn_attempts_total", ("ok", "resume")] == found["aicn_attempts_total", ("ok", "hedge")] == 1
    assert found["aicn_http_requests_total", ("/v1/models", "200")] == 1


def test_buckets_are_cumulative() -> None:
    histogram = Histogram(FIRST)
    for value in (0.0005, 0.001, 0.0011, 100.0):
        histogram.observe(value)
    buckets = dict(histogram.buckets())
    assert (buckets["0.001"], buckets["0.005"], buckets["10.0"], buckets["+Inf"]) == (2, 3, 3, 4)


def test_every_kind_of_request_has_an_operation() -> None:
    assert set(OPERATIONS) == set(Kind)


async def test_every_metric_is_documented() -> None:
    metrics = Offers().metrics()
    metrics.served(a_served())
    metrics.served(a_served(surface="worker"))
    text = (await metrics.text(in_flight=0)).decode()
    told = {family for family in re.findall(r"^# TYPE (\w+)", text, re.MULTILINE) if not family.startswith("process_")}
    assert told == set(re.findall(r"^\| `((?:aicn|gen_ai)_\w+)` \|", OPERATIONS_PAGE.read_text(), re.MULTILINE))
