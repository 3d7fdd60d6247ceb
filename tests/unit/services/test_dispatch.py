"""Requests by project: who is asked, in which order, and when it is given up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.domain.ids import PeerId
from aicn.domain.inference import Chunk, End, InferenceRequest, Kind
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import OfferedModel, Provider
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
from aicn.services.dispatch import Dispatch
from aicn.services.ports import Answer
from tests.fakes.answers import ScriptedAnswer, Step
from tests.fakes.routers import AsGiven

NODES = [PeerId(f"16Uiu2HAm{name * 37}{number:08}") for number, name in enumerate("ABCDEFG")]


class Network:
    """Nodes that all offer one model; `behaviours` in the order of the directory: the steps of an answer, or a refusal."""

    def __init__(self, *behaviours: Sequence[Step] | AicnError) -> None:
        self.behaviours = dict(zip(NODES, behaviours, strict=False))
        self.asked: list[PeerId] = []
        self.answers: list[ScriptedAnswer] = []
        self.questions: list[tuple[str, str | None, Kind | None]] = []
        self.dispatch = Dispatch(self, self, AsGiven())

    def providers(self, project: str, model: str | None, *, kind: Kind | None = None, most: int) -> list[Provider]:
        self.questions.append((project, model, kind))
        link = Link(Connectivity.CONNECTED, 0.01)
        return [Provider(node, OfferedModel("M", Kind.CHAT), link) for node in self.behaviours][:most]

    async def open(self, node: PeerId, request: InferenceRequest) -> Answer:
        await trio.lowlevel.checkpoint()
        self.asked.append(node)
        behaviour = self.behaviours[node]
        if isinstance(behaviour, AicnError):
            raise behaviour
        answer = ScriptedAnswer(behaviour, deadline=request.deadline, end=End("stop", total_ms=7))
        answer.node = node
        self.answers.append(answer)
        return answer


def a_request(*, seconds: float = 60) -> InferenceRequest:
    return InferenceRequest("r", Kind.CHAT, "P", "M", b"{}", stream=True, deadline=trio.current_time() + seconds)


async def test_the_first_that_begins_answers() -> None:
    network = Network([b"a", b"b"], [b"never"])
    answer = await network.dispatch.open(a_request())
    assert answer.node == NODES[0]
    assert [await answer.receive(), await answer.receive()] == [Chunk(b"a"), Chunk(b"b")]
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
    network = Network(failure, [b"good"])
    answer = await network.dispatch.open(a_request())
    assert (answer.node, await answer.receive()) == (NODES[1], Chunk(b"good"))
    assert network.asked == NODES[:2]
    assert all(abandoned.closed for abandoned in network.answers[:-1])


@pytest.mark.parametrize("late", [False, True], ids=["refused", "before the first chunk"])
@pytest.mark.parametrize("error", [InvalidRequest("messages: wrong"), Forbidden("no wallet")])
async def test_what_is_the_callers_fault_is_not_tried_elsewhere(error: AicnError, late: bool) -> None:
    assert error.fault is Fault.CALLER
    network = Network([error] if late else error, [b"good"])
    with pytest.raises(type(error)) as told:
        await network.dispatch.open(a_request())
    assert told.value is error
    assert network.asked == NODES[:1]
    assert all(answer.closed for answer in network.answers)


async def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    network = Network([b"a", AnswerBroken("gone")], [b"good"])
    answer = await network.dispatch.open(a_request())
    assert await answer.receive() == Chunk(b"a")
    with pytest.raises(AnswerBroken):
        await answer.receive()
    assert network.asked == NODES[:1]


async def test_nobody_offers_it() -> None:
    with pytest.raises(NoNode, match=r"^no node offers model M of project P$") as told:
        await Network().dispatch.open(a_request())
    assert told.value.retry_after is None


async def test_all_have_failed_and_each_is_named_in_one_line() -> None:
    first, second, third = NODES[:3]
    network = Network(
        Unreachable(f"peer {first} does not answer"),
        ModelFailed("line\nbreak " + "x" * 5000),
        Busy("full", retry_after=9),
    )
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
    network = Network(*(Unreachable("no") for _ in NODES))
    with pytest.raises(NoNode, match="none of 5 nodes"):
        await network.dispatch.open(a_request())
    assert network.asked == NODES[:5]


async def test_when_all_are_busy_the_shortest_wait_is_told() -> None:
    network = Network(Busy("full", retry_after=9), Busy("full", retry_after=2.5), Busy("full"))
    with pytest.raises(NoNode) as told:
        await network.dispatch.open(a_request())
    assert told.value.retry_after == 2.5


async def test_the_requests_own_time_ends_the_search(autojump_clock: MockClock) -> None:
    network = Network([trio.Event()], [b"good"])
    began = trio.current_time()
    with pytest.raises(DeadlineExceeded, match=r"^the request's deadline has passed: …00000000: too late$"):
        await network.dispatch.open(a_request(seconds=10))
    assert trio.current_time() - began == pytest.approx(10)
    assert network.asked == NODES[:1]
    assert network.answers[0].closed


async def test_a_caller_that_leaves_abandons_the_node_that_is_asked() -> None:
    network = Network(ModelFailed("first"), [trio.Event()], [b"good"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.dispatch.open, a_request())
        await wait_all_tasks_blocked()
        assert network.asked == NODES[:2]
        nursery.cancel_scope.cancel()
    assert network.answers[0].closed
    assert network.asked == NODES[:2]


async def test_a_defect_of_ours_is_not_hidden() -> None:
    network = Network([AssertionError("a defect")], [b"good"])
    with pytest.raises(AssertionError):
        await network.dispatch.open(a_request())
    assert network.asked == NODES[:1]
    assert network.answers[0].closed
