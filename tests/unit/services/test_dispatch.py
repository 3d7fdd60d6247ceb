"""Requests by project: who is asked, in which order, and when it is given up."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.domain.inference import Chunk, End, Kind
from aicn.errors import (
    AicnError,
    AnswerBroken,
    Busy,
    DeadlineExceeded,
    Fault,
    Forbidden,
    InvalidRequest,
    ModelFailed,
    NoNode,
    UnknownModel,
    UnknownNode,
    Unreachable,
)
from tests.fakes.answers import Step
from tests.fakes.networks import NODES, Network, a_request


async def test_the_first_that_begins_answers() -> None:
    async with Network([b"a", b"data: [DONE]\n\n"], [b"never"]) as network:
        answer = await network.dispatch.open(a_request())
        assert answer.node == NODES[0]
        assert [await answer.receive(), await answer.receive()] == [Chunk(b"a"), Chunk(b"data: [DONE]\n\n")]
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel):
                await answer.receive()
        assert answer.end == End("stop", total_ms=7)
        await answer.aclose()
        assert network.answers[0].closed
        assert network.questions == [("P", "M", Kind.CHAT)]
        assert network.asked == NODES[:1]


@pytest.mark.parametrize(
    "failure",
    [
        Unreachable("no way"),
        UnknownNode("nobody knows it"),  # the directory named it, not the caller
        UnknownModel("not here any more"),
        Busy("full", retry_after=3),
        DeadlineExceeded("silence"),
        [ModelFailed("out of memory")],
        [AnswerBroken("reset")],
        [],  # complete, with nothing in it
    ],
    ids=lambda failure: failure.code if isinstance(failure, AicnError) else repr(failure),
)
async def test_another_node_is_asked_after_a_failure(failure: AicnError | list[Step]) -> None:
    async with Network(failure, [b"good"]) as network:
        answer = await network.dispatch.open(a_request())
        assert (answer.node, await answer.receive()) == (NODES[1], Chunk(b"good"))
        assert network.asked == NODES[:2]
        assert all(abandoned.closed for abandoned in network.answers[:-1])


@pytest.mark.parametrize("late", [False, True], ids=["refused", "before the first chunk"])
@pytest.mark.parametrize("error", [InvalidRequest("messages: wrong"), Forbidden("no wallet")])
async def test_what_is_the_callers_fault_is_not_tried_elsewhere(error: AicnError, late: bool) -> None:
    assert error.fault is Fault.CALLER
    async with Network([error] if late else error, [b"good"]) as network:
        with pytest.raises(type(error)) as told:
            await network.dispatch.open(a_request())
        assert told.value is error
        assert network.asked == NODES[:1]
        assert all(answer.closed for answer in network.answers)


async def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    async with Network([b"a", AnswerBroken("gone")], [b"good"]) as network:
        answer = await network.dispatch.open(a_request())
        assert await answer.receive() == Chunk(b"a")
        with pytest.raises(AnswerBroken):
            await answer.receive()
        assert network.asked == NODES[:1]


async def test_nobody_offers_it() -> None:
    async with Network() as network:
        with pytest.raises(NoNode, match=r"^no node offers model M of project P$") as told:
            await network.dispatch.open(a_request())
    assert told.value.retry_after is None


async def test_all_have_failed_and_each_is_named_in_one_line() -> None:
    first, second, third = NODES[:3]
    async with Network(
        Unreachable(f"peer {first} does not answer"),
        ModelFailed("line\nbreak " + "x" * 5000),
        Busy("full", retry_after=9),
    ) as network:
        with pytest.raises(NoNode) as told:
            await network.dispatch.open(a_request())
        message = told.value.message
        assert message.startswith(
            "none of 3 nodes has answered for model M of project P: …00000000: it does not answer; …00000001: line br"
        )
        assert message.endswith("…; …00000002: full")
        assert "\n" not in message
        assert len(message) < 500
        assert network.asked == [first, second, third]


async def test_no_more_than_five_are_asked() -> None:
    async with Network(*(Unreachable("no") for _ in NODES)) as network:
        with pytest.raises(NoNode, match="none of 5 nodes"):
            await network.dispatch.open(a_request())
        assert network.asked == NODES[:5]


async def test_when_all_are_busy_the_shortest_wait_is_told() -> None:
    async with Network(Busy("full", retry_after=9), Busy("full", retry_after=2.5), Busy("full")) as network:
        with pytest.raises(NoNode) as told:
            await network.dispatch.open(a_request())
        assert told.value.retry_after == 2.5


async def test_the_requests_own_time_ends_the_search(autojump_clock: MockClock) -> None:
    async with Network([trio.Event()], [b"good"]) as network:
        began = trio.current_time()
        with pytest.raises(DeadlineExceeded, match=r"^the request's deadline has passed: …00000000: too late$"):
            await network.dispatch.open(a_request(seconds=10))
        assert trio.current_time() - began == pytest.approx(10)
        assert network.asked == NODES[:1]
        assert network.answers[0].closed


async def test_a_caller_that_leaves_abandons_the_node_that_is_asked() -> None:
    async with Network(ModelFailed("first"), [trio.Event()], [b"good"]) as network:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.dispatch.open, a_request())
            await wait_all_tasks_blocked()
            assert network.asked == NODES[:2]
            nursery.cancel_scope.cancel()
        assert network.answers[0].closed
        assert network.asked == NODES[:2]


async def test_a_defect_of_ours_is_not_hidden() -> None:
    async with Network([AssertionError("a defect")], [b"good"]) as network:
        with pytest.raises(AssertionError):
            await network.dispatch.open(a_request())
        assert network.asked == NODES[:1]
        assert network.answers[0].closed
