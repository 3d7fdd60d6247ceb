"""What is kept of an exchange that has ended."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from werkzeug.datastructures import Headers

from aicn.domain.inference import End, InferenceRequest, Kind, Usage
from aicn.domain.routing import Attempt, Trace
from aicn.gateway.exchange import GatewayRequest
from aicn.gateway.reporting import CLIENT_LEFT, Reports
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.node import OTHER, FakeNode


def a_request(*, error: str = "", stream: bool = True) -> GatewayRequest:
    async def no_push(path: str, headers: Headers) -> None: ...

    scope: Any = {"type": "http", "server": ("localhost", 1)}
    path = "/v1/chat/completions"
    request = GatewayRequest("POST", "http", path, b"", Headers(), "", "1.1", scope, send_push_promise=no_push)
    request.id, request.error = "r1", error
    request.asked = InferenceRequest("r1", Kind.CHAT, "P", "M", b"a secret", stream=stream, deadline=0.0)
    return request


def an_answer(trace: Trace | None = None) -> ScriptedAnswer:
    answer = ScriptedAnswer(())
    answer.node, answer.trace = OTHER, trace
    answer.end = End("stop", Usage(7, 3, 10), queued_ms=250)
    return answer


async def test_comments_before_an_answer_are_no_first_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    node, began = FakeNode().node(), trio.current_time() - 10
    way = Trace("r1", Kind.CHAT, "P", "M", True, began, 1e9)
    way.attempts = [
        Attempt(OTHER, began + 1),
        Attempt(OTHER, began + 2, first_s=3.0),
        Attempt(OTHER, began + 9, first_s=0.5),
    ]
    request = a_request()
    request.answer, request.first_at = an_answer(way), began + 0.01  # `: queued position=1`
    Reports(node).ended(request, 200, began=began)
    served = node.traces.find("r1").served
    assert served is not None
    assert served.first_s == pytest.approx(5.0)
    fields = caplog.records[-1].fields  # type: ignore[attr-defined]
    assert {name: fields[name] for name in ("id", "status", "node", "project", "model", "attempts")} == {
        "id": "r1", "status": 200, "node": OTHER, "project": "P", "model": "M", "attempts": 3
    }  # fmt: skip
    assert (fields["queue_ms"], fields["tokens_in"], fields["tokens_out"], fields["finish"]) == (250, 7, 3, "stop")
    assert "error" not in fields
    assert "secret" not in caplog.text + str(fields)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [("", CLIENT_LEFT, "cancelled"), ("no_node", 503, "no_node"), ("answer_broken", CLIENT_LEFT, "answer_broken")],
)
async def test_how_it_ended(error: str, status: int, code: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    node = FakeNode().node()
    Reports(node).ended(a_request(error=error), status, began=trio.current_time())
    found = node.traces.find("r1")
    assert found.trace is None  # nobody has answered, and the search tells of itself
    assert found.served is not None
    assert found.served.code == code == caplog.records[-1].fields["error"]  # type: ignore[attr-defined]


async def test_a_request_for_no_model_is_not_remembered() -> None:
    node, request = FakeNode().node(), a_request()
    request.asked = None
    Reports(node).ended(request, 404, began=trio.current_time())
    assert not node.traces.knows("r1")
    assert b'aicn_http_requests_total{route="(no route)",status="404"} 1.0' in await node.metrics.text(in_flight=1)
