"""Answers whose worker dies, freezes or slows, at every stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aicn.config.schema import Routing
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.offers import Provider
from aicn.domain.routing import Budget
from aicn.errors import AicnError, AnswerBroken, Busy, DeadlineExceeded, ModelFailed, Unreachable
from aicn.wire.sse import iter_data
from tests.fakes.answers import Step
from tests.fakes.networks import NODES, Network, a_request, read
from tests.fakes.routers import AsGiven

WORDS = ["Once ", "upon ", "a ", "time ", "🦊 ", "ran."]
TEXT = "".join(WORDS)
DONE = b"data: [DONE]\n\n"
FIRST, SECOND, THIRD, *_ = NODES


def event(delta: dict[str, str], finish: str | None = None, *, of: str = "x", **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'id': of, 'choices': [choice], **more})}\n\n".encode()


def model(request: InferenceRequest) -> list[Step]:
    """What a deterministic model streams: it goes on with what the assistant has said, and counts its tokens."""
    said = json.loads(request.body)["messages"][-1]
    begun = said["content"] if said["role"] == "assistant" else ""
    start = next(count for count in range(len(WORDS) + 1) if "".join(WORDS[:count]) == begun)
    rest = WORDS[start:]
    usage = {"prompt_tokens": 5 + start, "completion_tokens": len(rest), "total_tokens": 5 + len(WORDS)}
    role = event({"role": "assistant", "content": ""}, of=f"from{start}")
    texts = [event({"content": word}, of=f"from{start}") for word in rest]
    return [role, *texts, event({}, "stop", of=f"from{start}", usage=usage), DONE]


def cut(after: int, *then: Step) -> Callable[[InferenceRequest], Sequence[Step]]:
    """The model's answer, of which something else follows `after` events."""
    return lambda request: [*model(request)[:after], *then]


def check_whole(data: bytes) -> None:
    """One answer, as if nothing had been."""
    events = [json.loads(one) for one in iter_data(data) if one != b"[DONE]"]
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in events) == TEXT
    assert {one["id"] for one in events} == {"from0"}
    assert [reason for one in events if (reason := one["choices"][0]["finish_reason"])] == ["stop"]
    told = [one["usage"] for one in events if "usage" in one]
    assert told in ([], [{"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}])
    assert (data.count(b"[DONE]"), data.endswith(DONE)) == (1, True)


class Hasty(AsGiven):
    """Knows what it takes."""

    def __init__(self, known: Budget) -> None:
        super().__init__()
        self.known = known
        self.told: list[tuple[str, AicnError | None]] = []

    def budget(self, provider: Provider, request: InferenceRequest) -> Budget:
        return self.known

    def ended(self, provider: Provider, *, error: AicnError | None, **more: Any) -> None:
        self.told.append((provider.node, error))
        super().ended(provider, error=error, **more)


ENDLESS = trio.Event
FAILURES: dict[str, Callable[[], list[Step]]] = {
    "reset": lambda: [AnswerBroken("reset")],
    "endpoint": lambda: [ModelFailed("the endpoint broke off")],
    "ends": list,
    "stalls": lambda: [ENDLESS()],
    "busy": lambda: [Busy("went away")],
    "late": lambda: [DeadlineExceeded("too slow")],
}
STAGES = range(len(WORDS) + 3)  # events that came before it: none, the role, words, the end with the counts


@pytest.mark.parametrize("replays", [False, True], ids=["continued", "replayed"])
@pytest.mark.parametrize("after", STAGES)
@pytest.mark.parametrize("what", FAILURES)
async def test_whatever_happens_the_client_gets_one_whole_answer(
    what: str, after: int, replays: bool, autojump_clock: MockClock
) -> None:
    async with Network(cut(after, *FAILURES[what]()), model) as network:
        network.frozen.add(FIRST)
        request = a_request({"messages": [{"role": "user"}], "temperature": 0 if replays else 1})
        answer = await network.dispatch.open(request)
        data = await read(answer)
        check_whole(data)
        assert answer.end is not None
        await answer.aclose()
        finished = after == len(WORDS) + 2
        assert network.asked == ([FIRST] if finished else [FIRST, SECOND])
        resumed = f": aicn resumed node={SECOND} attempt=2\n\n".encode()
        assert (resumed in data) == (not finished and after > 0)
        assert all(one.closed for one in network.answers)
        (trace,) = network.finished
        assert answer.trace is trace
        assert (trace.error, trace.finish_reason) == ("", "stop")
        assert [one.resumed for one in trace.attempts][1:] == ([] if finished else [after > 0])
        if after:  # else it ends as the worker says, here without counts
            assert trace.usage is not None
            assert trace.usage.completion_tokens == len(WORDS)


async def test_a_worker_that_freezes_is_left_within_two_seconds(autojump_clock: MockClock) -> None:
    async with Network(cut(3, trio.Event()), model) as network:
        network.frozen.add(FIRST)
        began = trio.current_time()
        check_whole(await read(await network.dispatch.open(a_request())))
        assert 2 <= trio.current_time() - began < 2.3
        assert network.finished[0].attempts[0].error == "unreachable"


async def test_a_worker_that_is_slow_but_answers_pings_keeps_its_time(autojump_clock: MockClock) -> None:
    pause = trio.Event()
    router = Hasty(Budget(15, 60, 1))
    async with (
        Network(lambda r: [*model(r)[:3], pause, *model(r)[3:]], model, router=router) as network,
        trio.open_nursery() as nursery,
    ):
        answer = await network.dispatch.open(a_request())

        async def later() -> None:
            await trio.sleep(9)
            pause.set()

        nursery.start_soon(later)
        check_whole(await read(answer))
        assert network.asked == [FIRST]
        assert 3 <= len(network.pinged) <= 5  # after 1, 2, 4, 8 s


async def test_one_that_is_silent_for_ever_is_left_though_it_answers_pings(autojump_clock: MockClock) -> None:
    router = Hasty(Budget(15, 60, 1))
    async with Network(cut(3, trio.Event()), model, router=router) as network:
        check_whole(await read(await network.dispatch.open(a_request())))
        assert 10 <= trio.current_time() < 20
        assert isinstance(router.told[0][1], DeadlineExceeded)


async def test_who_is_alone_is_waited_for(autojump_clock: MockClock) -> None:
    async with Network(cut(3, trio.Event())) as network:
        network.frozen.add(FIRST)
        with pytest.raises(AnswerBroken) as told:
            await read(await network.dispatch.open(a_request(seconds=30)))
        assert trio.current_time() == pytest.approx(30)
        assert told.value.usage == (0, 2)


async def test_what_has_not_begun_is_left_when_it_is_frozen(autojump_clock: MockClock) -> None:
    async with Network([trio.Event()], model) as network:
        network.frozen.add(FIRST)
        answer = await network.dispatch.open(a_request())
        assert trio.current_time() < 2.3
        check_whole(await read(answer))


async def test_it_breaks_again_and_again() -> None:
    async with Network(
        cut(3, AnswerBroken("1")), cut(3, AnswerBroken("2")), cut(1, AnswerBroken("3")), Unreachable("4"), model
    ) as network:
        data = await read(await network.dispatch.open(a_request()))
        check_whole(data)
        assert data.count(b": aicn resumed") >= 3


async def test_nobody_can_go_on() -> None:
    first = cut(4, AnswerBroken("reset"))

    def dies(request: InferenceRequest) -> Sequence[Step]:
        return [Unreachable("gone")] if len(network.asked) > 1 else first(request)

    async with Network(dies, Unreachable("dead"), Busy("full")) as network:
        answer = await network.dispatch.open(a_request())
        for _ in range(2):  # and is told again
            with pytest.raises(AnswerBroken, match="broke off") as told:
                await read(answer)
        assert told.value.usage == (0, 3)
        assert network.finished[0].error == "answer_broken"
        assert len(network.asked) <= 20


async def test_a_caller_s_fault_is_none_once_it_has_begun() -> None:
    """A server that does not take an assistant's message at the end refuses with 400; another may."""
    from aicn.errors import InvalidRequest

    async with Network(
        cut(4, AnswerBroken("reset")), InvalidRequest("last message must be the user's"), model
    ) as network:
        check_whole(await read(await network.dispatch.open(a_request())))


async def test_a_replay_that_differs_becomes_a_continuation() -> None:
    asked: list[bytes] = []

    def other(request: InferenceRequest) -> list[Step]:
        asked.append(request.body)
        return model(request) if len(asked) > 1 else [event({"content": "Never"})]

    async with Network(cut(4, AnswerBroken("reset")), other) as network:
        body = {"messages": [{"role": "user"}], "seed": 1}
        check_whole(await read(await network.dispatch.open(a_request(body))))
        assert [len(json.loads(one)["messages"]) for one in asked] == [1, 2]
        assert network.finished[0].attempts[1].error == ""


@pytest.mark.parametrize("how", ["config", "request", "kept"])
async def test_off(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "kept":
        monkeypatch.setattr("aicn.services.lasting._KEPT_BYTES", 200)
    async with Network(cut(4, AnswerBroken("reset")), model, routing=Routing(resume=how != "config")) as network:
        answer = await network.dispatch.open(a_request(), resume=how != "request")
        with pytest.raises(AnswerBroken):
            await read(answer)
        assert network.asked == [FIRST]


@pytest.mark.parametrize("kind", [Kind.CHAT, Kind.IMAGE_GENERATION])
async def test_a_plain_answer_that_breaks_is_asked_for_elsewhere(kind: Kind) -> None:
    async with Network([b'{"a"', AnswerBroken("reset")], [b'{"b"', b":1}"]) as network:
        answer = await network.dispatch.open(a_request(stream=False, kind=kind))
        assert await read(answer) == b'{"b":1}'
        assert (answer.node, answer.end is not None) == (SECOND, True)
        assert network.asked == [FIRST, SECOND]


async def test_a_plain_answer_over_the_limit_is_handed_on_as_it_comes() -> None:
    async with Network([b"x" * 1025, b"y", AnswerBroken("reset")], [b"never"]) as network:
        answer = await network.dispatch.open(a_request(stream=False))
        assert len((await answer.receive()).data) == 1025
        assert (await answer.receive()).data == b"y"
        with pytest.raises(AnswerBroken):
            await answer.receive()


# ---- hedging ----

HASTY = Budget(15, 300, 10, hedge_s=0.2)


async def spare(network: Network) -> None:
    """Requests that allow one hedge."""
    for _ in range(20):
        network.dispatch._means.hedges.requested()


async def test_a_slow_one_is_overtaken(autojump_clock: MockClock) -> None:
    router = Hasty(HASTY)
    async with Network([trio.Event()], model, router=router) as network:
        await spare(network)
        answer = await network.dispatch.open(a_request())
        assert trio.current_time() < 0.4
        check_whole(await read(answer))
        assert network.answers[0].closed
        assert [one.hedge for one in network.finished[0].attempts] == [False, True]
        assert [(node, error and error.code) for node, error in router.told] == [
            (FIRST, "deadline_exceeded"),
            (SECOND, None),
        ]


async def test_a_hedge_that_is_slower_is_left(autojump_clock: MockClock) -> None:
    begin = trio.Event()
    async with (
        Network(lambda r: [begin, *model(r)], [trio.Event()], router=Hasty(HASTY)) as network,
        trio.open_nursery() as nursery,
    ):
        await spare(network)

        async def later() -> None:
            await trio.sleep(0.6)
            begin.set()

        nursery.start_soon(later)
        check_whole(await read(await network.dispatch.open(a_request())))
        await trio.sleep(0.1)
        assert network.asked == [FIRST, SECOND]
        assert network.answers[1].closed


async def test_the_hedge_is_waited_for_when_the_first_fails(autojump_clock: MockClock) -> None:
    def fails(_: InferenceRequest) -> list[Step]:
        return [pause, ModelFailed("late")]

    def slow(request: InferenceRequest) -> list[Step]:
        return [begin, *model(request)]

    pause, begin = trio.Event(), trio.Event()
    async with Network(fails, slow, [b"never"], router=Hasty(HASTY)) as network, trio.open_nursery() as nursery:
        await spare(network)

        async def later() -> None:
            await trio.sleep(0.4)
            pause.set()
            await trio.sleep(0.4)
            begin.set()

        nursery.start_soon(later)
        check_whole(await read(await network.dispatch.open(a_request())))
        assert network.asked == [FIRST, SECOND]


async def test_both_fail(autojump_clock: MockClock) -> None:
    pause = trio.Event()
    async with (
        Network(lambda _: [pause, ModelFailed("1")], ModelFailed("2"), model, router=Hasty(HASTY)) as network,
        trio.open_nursery() as nursery,
    ):
        await spare(network)

        async def later() -> None:
            await trio.sleep(0.4)
            pause.set()

        nursery.start_soon(later)
        check_whole(await read(await network.dispatch.open(a_request())))
        assert network.asked == [FIRST, SECOND, THIRD]


async def test_a_client_that_leaves_stops_both(autojump_clock: MockClock) -> None:
    async with Network([trio.Event()], [trio.Event()], router=Hasty(HASTY)) as network:
        await spare(network)
        with trio.move_on_after(0.6):
            await network.dispatch.open(a_request())
        await trio.sleep(0.1)
        assert network.asked == [FIRST, SECOND]
        assert all(one.closed for one in network.answers)
        assert network.finished[0].error == "cancelled"


@pytest.mark.parametrize("allowed", [True, False])
async def test_at_most_one_request_in_twenty_is_hedged(allowed: bool, autojump_clock: MockClock) -> None:
    async with Network([trio.Event()], [b"x"], router=Hasty(HASTY), routing=Routing(hedge=allowed)) as network:
        for _ in range(100):
            with trio.move_on_after(0.5):
                answer = await network.dispatch.open(a_request(stream=False))
                await answer.aclose()
        assert network.asked.count(SECOND) == (5 if allowed else 0)


async def test_images_are_drawn_once(autojump_clock: MockClock) -> None:
    async with Network([trio.Event()], [b"x"], router=Hasty(HASTY)) as network:
        await spare(network)
        with trio.move_on_after(1):
            await network.dispatch.open(a_request(stream=False, kind=Kind.IMAGE_GENERATION))
        assert network.asked == [FIRST]


async def test_the_last_one_is_waited_for(autojump_clock: MockClock) -> None:
    async with Network([trio.Event()], ModelFailed("2"), router=Hasty(Budget(15, 3, 1, hedge_s=0.2))) as network:
        await spare(network)
        with pytest.raises(DeadlineExceeded, match="the request's deadline"):
            await network.dispatch.open(a_request())
        assert trio.current_time() == pytest.approx(60)
