"""What clients say and hear of answers that break off, on both facades."""

from __future__ import annotations

import json

import pytest

from aicn.domain.inference import Kind
from aicn.domain.offers import OfferedModel, OfferedProject
from aicn.errors import AnswerBroken
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.http import serving
from tests.fakes.node import FakeNode

EVENT = b'data: {"choices":[{}]}\n\n'
CHAT = {"project": "p", "model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
PATHS = ["/v1/chat/completions", "/api/v0/chat/completion/proxy"]


def a_node() -> FakeNode:
    """Its answers break off after an event."""
    broken = AnswerBroken("it broke off")
    broken.usage = 5, 1
    fake = FakeNode()
    fake.offer(OfferedProject("p", (OfferedModel("m", Kind.CHAT),)))
    fake.inference.script = lambda _: ScriptedAnswer([EVENT, broken])
    return fake


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("said", "resumed"), [(None, True), ("on", True), ("off", False), (" OFF ", False)])
async def test_a_client_may_not_want_it(path: str, said: str | None, resumed: bool) -> None:
    fake = a_node()
    async with serving(fake) as served:
        headers = {} if said is None else {"X-AICN-Resume": said}
        assert (await served.request("POST", path, CHAT, headers)).status == 200
        assert fake.dispatch.resumed is resumed


@pytest.mark.parametrize("path", PATHS)
async def test_the_error_counts_what_came(path: str) -> None:
    async with serving(a_node()) as served:
        reply = await served.request("POST", path, CHAT)
        last = json.loads(reply.body.rpartition(b"data: ")[2])
        assert last["error"]["usage"] == {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
        assert b"[DONE]" not in reply.body
