"""What is counted of a request, however it ended, and what a restart keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from aicn.domain.ids import PeerId
from aicn.domain.inference import End, InferenceRequest, Kind
from aicn.domain.inference import Usage as Tokens
from aicn.domain.keys import Key, Scope
from aicn.domain.served import Served
from aicn.domain.usage import DAY_S, HOUR_S, PEER, Counts, Row
from aicn.errors import RateLimited, StorageError
from aicn.services import usage as service
from aicn.services.usage import KEPT_S, WRITE_EVERY_S, Usage, open_usage
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.stores import MemoryUsage

HOUR = 20_000 * DAY_S + 12 * HOUR_S
NODE = PeerId("16Uiu2HAm5cygUrKCBxtNSMKKvgdr1saPM6XWcgnPyTvK4sdrARGL")
KEY = Key("0123456789ab", "k", b"", Scope(tokens_per_day=1000), 0.0)
BODY = b'{"max_tokens": 100}'
RESERVED = 100 + len(BODY) // 6


class Clock:
    """Unix time, set by hand."""

    now = HOUR + 10.0

    def __call__(self) -> float:
        return self.now


def request(model: str = "m") -> InferenceRequest:
    return InferenceRequest("id", Kind.CHAT, "p", model, BODY, stream=True, deadline=0.0)


def ended(tokens: Tokens | None) -> ScriptedAnswer:
    answer = ScriptedAnswer([b"x"])
    answer.node = NODE
    answer.end = End(usage=tokens)
    return answer


async def counted(usage: Usage) -> dict[Row, Counts]:
    return dict(await usage.since(0))


async def test_a_whole_answer() -> None:
    usage = Usage(MemoryUsage(), clock=Clock())
    usage.begin(KEY, request()).end(ended(Tokens(3, 4, 7)), whole=True, left=False, sent=50)
    counts = Counts(requests=1, prompt_tokens=3, completion_tokens=4, bytes_in=len(BODY), bytes_out=50)
    assert await counted(usage) == {Row(HOUR, KEY.id, "p", "m", NODE): counts}


@pytest.mark.parametrize("answered", [True, False])
async def test_a_client_that_leaves_pays_what_was_reserved(answered: bool) -> None:
    usage = Usage(MemoryUsage(), clock=Clock())
    answer = ScriptedAnswer([b"x"]) if answered else None
    usage.begin(KEY, request()).end(answer, whole=False, left=True, sent=0)
    (counts,) = (await counted(usage)).values()
    assert (counts.requests, counts.failed, counts.estimated_tokens) == (1, 1, RESERVED)


async def test_what_no_model_has_answered_costs_nothing_and_has_no_name() -> None:
    usage = Usage(MemoryUsage(), clock=Clock())
    for place in range(20):
        usage.begin(KEY, request(f"made up {place}")).end(None, whole=False, left=False, sent=0)
    assert await counted(usage) == {
        Row(HOUR, KEY.id, "", "", ""): Counts(requests=20, failed=20, bytes_in=20 * len(BODY))
    }


async def test_requests_without_a_key_are_counted_too() -> None:
    usage = Usage(MemoryUsage(), clock=Clock())
    usage.begin(None, request()).end(ended(None), whole=True, left=False, sent=1)
    assert await counted(usage) == {Row(HOUR, "", "p", "m", NODE): Counts(requests=1, bytes_in=len(BODY), bytes_out=1)}


async def test_what_other_nodes_have_asked() -> None:
    usage = Usage(MemoryUsage(), clock=Clock())
    whole = Served(
        "id", "worker", Kind.CHAT, "p", "m", stream=True, at=0.0, seconds=1.0, node=NODE, usage=Tokens(3, 4, 7)
    )
    usage.served(whole)
    usage.served(replace(whole, code="busy", usage=None, model="made up"))
    for own in (None, PeerId(KEY.id)):  # of this node's clients, who are counted at its gateway
        usage.served(replace(whole, node=own))
    assert await counted(usage) == {
        Row(HOUR, PEER, "p", "m", NODE): Counts(requests=1, prompt_tokens=3, completion_tokens=4),
        Row(HOUR, PEER, "", "", NODE): Counts(requests=1, failed=1),
    }


async def test_what_was_spent_today_holds_after_a_restart() -> None:
    store, clock = MemoryUsage(), Clock()
    async with open_usage(Usage(store, clock=clock)) as _:
        pass
    first = Usage(store, clock=clock)
    async with open_usage(first):
        first.begin(KEY, request()).end(ended(Tokens(0, 0, 950)), whole=True, left=False, sent=0)
    second = Usage(store, clock=clock)
    async with open_usage(second):
        with pytest.raises(RateLimited):
            second.begin(KEY, request())
        clock.now += DAY_S
        second.begin(KEY, request())


async def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_ROWS", 3)
    usage = Usage(MemoryUsage(), clock=Clock())
    for place in range(9):
        usage.begin(None, request(f"m{place}")).end(ended(None), whole=True, left=False, sent=0)
    rows = await counted(usage)
    assert len(rows) == 4
    assert rows[Row(HOUR, "", "", "", "")].requests == 6
    assert sum(one.requests for one in rows.values()) == 9


async def test_old_hours_are_forgotten() -> None:
    clock = Clock()
    usage = Usage(MemoryUsage(), clock=clock)
    usage.count(KEY.id, "p", "m", NODE, Counts(requests=1))
    await usage.write()
    clock.now += KEPT_S + HOUR_S
    usage.count(KEY.id, "p", "m", NODE, Counts(requests=2))
    assert [one.requests for one in (await counted(usage)).values()] == [2]


async def test_what_could_not_be_written_is_written_later(autojump_clock: object) -> None:
    store = MemoryUsage()
    usage = Usage(store, clock=Clock())
    async with open_usage(usage):
        store.failure = StorageError("no space")
        usage.count("", "p", "m", NODE, Counts(requests=1))
        await trio.sleep(WRITE_EVERY_S * 1.5)
        usage.count("", "p", "m", NODE, Counts(requests=1))
        assert store.counts == {}
        store.failure = None
        await trio.sleep(WRITE_EVERY_S)
        assert [one.requests for one in store.counts.values()] == [2]


async def test_sums_over_hours() -> None:
    clock = Clock()
    usage = Usage(MemoryUsage(), clock=clock)
    for _ in range(3):
        usage.count(KEY.id, "p", "m", NODE, Counts(requests=1))
        clock.now += HOUR_S
    rows = await usage.since(0)
    assert [row.hour for row, _ in rows] == [HOUR, HOUR + HOUR_S, HOUR + 2 * HOUR_S]
    assert usage.summed(rows) == [(Row(0, KEY.id, "p", "m", NODE), Counts(requests=3))]
    assert len(await usage.since(HOUR + HOUR_S)) == 2
    assert await usage.since(0, "another") == []
