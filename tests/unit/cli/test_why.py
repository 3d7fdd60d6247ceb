"""`aicn why`: what a person reads of a request that took two nodes."""

from __future__ import annotations

import json
from collections.abc import Callable

from click.testing import Result

from aicn.domain.inference import Kind, Usage
from aicn.domain.routing import Attempt, Trace, Verdict
from aicn.domain.served import Served
from aicn.wire.v0.tracing import encode_trace
from tests.fakes.api import LOST, ME, OTHER, FakeApi

Aicn = Callable[..., Result]
AT = 1_763_794_081.5

GOLDEN = f"""\
request r1
chat with P/M, streamed, by /v1 until 2025-11-22 06:48:01 UTC
  ok after 2.500 s, first chunk after 0.250 s, tokens 12 in and 34 out, finish stop, key k7

considered
   1  {OTHER}  0.25 s  better of two
   2  {ME}  0.40 s  busier
   -  {LOST}  1.00 s  context of 8 tokens is too short

asked
  +0.001 s  {OTHER}  direct
      accepted after 0.010 s, queued 0.120 s, first chunk after 0.240 s, 9 chunks, failed after 1.200 s: answer_broken
  +1.201 s  {ME}  relayed, to go on where another broke off
      accepted after 0.020 s, first chunk after 0.050 s, 20 chunks, ended after 1.299 s

answered here for {LOST}: chat with P/M, streamed, until 2025-11-22 06:48:01 UTC
  busy after 0.000 s

answered here for this node itself: chat with P/M, streamed, until 2025-11-22 06:48:01 UTC
  ok after 1.298 s
"""


def a_way() -> Trace:
    way = Trace("r1", Kind.CHAT, "P", "M", True, 100.0, AT - 2.5, ended_s=2.5)
    way.verdicts = [
        Verdict(OTHER, 0, 0.25, "better of two"),
        Verdict(ME, 1, 0.4, "busier"),
        Verdict(LOST, None, 1.0, "context of 8 tokens is too short"),
    ]
    broken = Attempt(OTHER, 100.001, accepted_s=0.01, first_s=0.24, ended_s=1.2, queued_ms=120, chunks=9)
    broken.error = "answer_broken"
    resumed = Attempt(ME, 101.201, relayed=True, resumed=True, accepted_s=0.02, first_s=0.05, ended_s=1.299, chunks=20)
    way.attempts = [broken, resumed]
    return way


def a_served(surface: str, seconds: float, **more: object) -> Served:
    return Served("r1", surface, Kind.CHAT, "P", "M", True, AT, seconds, **more)  # type: ignore[arg-type]


def test_two_nodes(aicn: Aicn, api: FakeApi) -> None:
    asked = a_served("v1", 2.5, node=ME, first_s=0.25, usage=Usage(12, 34, 46), finish_reason="stop", key="k7")
    worked = [a_served("worker", 0.0, node=LOST, code="busy"), a_served("worker", 1.298)]
    api.trace = encode_trace("r1", a_way(), asked, worked)
    result = aicn("why", "r1", "--api", api.url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == GOLDEN
    assert api.requests[-1][0] == "/api/v0/debug/trace?id=r1"
    assert json.loads(aicn("why", "r1", "--json", "--api", api.url).stdout) == api.trace


def test_nobody_could_be_asked(aicn: Aicn, api: FakeApi) -> None:
    way = Trace("r1", Kind.CHAT, "P", "M", True, 100.0, AT, error="no_node", ended_s=0.0)
    api.trace = encode_trace("r1", way, a_served("v0", 0.001, code="no_node"), [])
    lines = aicn("why", "r1", "--api", api.url).stdout.splitlines()
    assert lines[2:] == ["  no_node after 0.001 s", "", "considered: nobody", "", "asked: nobody"]


def test_what_strangers_have_named_cannot_steer_the_terminal(aicn: Aicn, api: FakeApi) -> None:
    named = Served("r1", "worker", Kind.CHAT, "P", "\x1b[2J", True, AT, 0.1, node=OTHER)
    api.trace = encode_trace("r1", None, None, [named])
    assert "\x1b" not in aicn("why", "r1", "--api", api.url).stdout


def test_an_unknown_request(aicn: Aicn, api: FakeApi) -> None:
    api.refuse["/api/v0/debug/trace?id=gone"] = (400, {"code": 1001, "message": "id: no such request that has ended"})
    result = aicn("why", "gone", "--api", api.url)
    assert (result.exit_code, result.stderr) == (1, "Error: id: no such request that has ended (code 1001)\n")
