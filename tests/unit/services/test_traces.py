"""What became of the last requests, and only of those."""

from __future__ import annotations

import pytest

from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.routing import Trace, Verdict
from aicn.domain.served import Served
from aicn.errors import InvalidRequest
from aicn.services import traces as module
from aicn.services.traces import MOST, MOST_WORKED, Traces

NODE = PeerId("16Uiu2HAmRTpigc7jAbsLndB2xDEBMAXLb887SBEFhfdJeEJNtqRM")
A_REQUEST = InferenceRequest("id", Kind.CHAT, "P", "M", b"{}", stream=True, deadline=0.0)


def a_way(request_id: str, candidates: int = 1) -> Trace:
    way = Trace(request_id, Kind.CHAT, "P", "M", True, 0.0, 1e9)
    way.verdicts = [Verdict(NODE, 0, 0.1, "the only one")] * candidates
    return way


def a_served(request_id: str, surface: str = "v1", code: str = "") -> Served:
    return Served(request_id, surface, Kind.CHAT, "P", "M", True, 1e9, 0.5, node=NODE, code=code)


def test_both_sides_of_a_request() -> None:
    traces = Traces()
    traces.served(a_served("a"))
    traces.traced(a_way("a"), A_REQUEST)
    traces.served(a_served("a", "worker", "busy"))
    traces.served(a_served("a", "worker"))
    found = traces.find("a")
    assert found.trace is not None
    assert found.served == a_served("a")
    assert [one.code for one in found.worked] == ["busy", ""]


def test_a_request_whose_client_named_the_node() -> None:
    traces = Traces()
    traces.named(a_served("a", "v0", "model_failed"), 7.0)
    way = traces.find("a").trace
    assert way is not None
    assert [(one.node, one.reason) for one in way.verdicts] == [(NODE, "named by the client")]
    assert [(one.node, one.error, one.ended_s) for one in way.attempts] == [(NODE, "model_failed", 0.5)]


def test_the_oldest_are_forgotten() -> None:
    traces = Traces()
    for number in range(MOST + 1):
        traces.traced(a_way(str(number)), A_REQUEST)
    assert traces.find("1").trace is not None
    with pytest.raises(InvalidRequest, match=rf"^id: .* {MOST} of clients and 0 of peers .* since \d{{4}}-.* UTC$"):
        traces.find("0")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 100_000)
    traces = Traces()
    for number in range(20):
        traces.traced(a_way(str(number), candidates=64), A_REQUEST)
    remembered = [number for number in range(20) if _known(traces, str(number))]
    assert remembered == [15, 16, 17, 18, 19]  # some 17 kB each


def test_requests_of_peers_do_not_push_out_those_of_clients() -> None:
    traces = Traces()
    traces.served(a_served("mine"))
    for number in range(MOST + 10):
        traces.served(a_served(str(number), "worker"))
    for _ in range(MOST_WORKED + 5):
        traces.served(a_served("mine", "worker"))  # a peer that takes our name
    assert traces.find("mine").served == a_served("mine")
    assert len(traces.find("mine").worked) == MOST_WORKED


def _known(traces: Traces, request_id: str) -> bool:
    try:
        traces.find(request_id)
    except InvalidRequest:
        return False
    return True
