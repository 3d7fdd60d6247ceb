"""Our questions to nodes of the existing network: over the topic, or over a stream."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind, Part, Usage
from aicn.domain.registration import Project
from aicn.errors import (
    AicnError,
    Busy,
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    TooLarge,
    Unreachable,
    Unsupported,
)
from aicn.services.legacy import asking
from aicn.services.legacy.asking import Asking
from aicn.services.legacy.dialect import Dialects
from aicn.services.ports import Answer
from aicn.wire import control
from aicn.wire.completion import parse_completion
from aicn.wire.legacy import bodies, chat, chat_proxy
from aicn.wire.legacy.envelope import Type
from aicn.wire.sse import EventCutter, iter_data
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.hardware import EXAMPLE
from tests.fakes.links import ScriptedLinks

PEER = PeerId("16Uiu2HAmRTpigc7jAbsLndB2xDEBMAXLb887SBEFhfdJeEJNtqRM")
COMPLETION = {
    "created": 5,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": 'say "hé"'}, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
IMAGES = {"ipfs_node": "http://1.2.3.4:5", "choices": [{"cid": "Qm1", "image_name": "a.png"}]}
Tell = Callable[[Type, bytes], Awaitable[bytes]]


class World:
    """A node of the existing network that answers as the real one does, unless `tell` says otherwise."""

    def __init__(self) -> None:
        self.links = ScriptedLinks()
        self.heard: set[PeerId] = set()
        self.questions: list[tuple[Type, bytes, float, bool]] = []  # with time to wait, and whether sealed
        self.streams: list[InferenceRequest] = []
        self.stream: AicnError | ScriptedAnswer = ScriptedAnswer([b"streamed"])
        self.tell: Tell = self.well
        this = cast("Any", self)
        dialects = Dialects(this.links, self.links, self.heard.__contains__)
        self.asking = Asking(this, dialects, self.links, self.open_stream)

    async def ask(self, peer: PeerId, kind: Type, question: bytes, *, within_s: float, sealed: bool = False) -> bytes:
        assert peer == PEER
        self.questions.append((kind, question, within_s, sealed))
        with trio.move_on_after(within_s):
            return await self.tell(kind, question)
        raise DeadlineExceeded("no answer")

    async def well(self, kind: Type, question: bytes) -> bytes:
        await trio.sleep(0.01)
        match kind:
            case Type.PEER_IDENTITY:
                return b"\x12\x0c\x2a\x0aaicn/0.0.1"
            case Type.HOST_INFO:
                return bodies.encode_host(EXAMPLE)
            case Type.AI_PROJECT:
                return bodies.encode_projects([Project("P", ("M",))])
            case Type.CHAT_COMPLETION:
                return chat.encode_chat_answer(COMPLETION)[0]
            case Type.IMAGE_GENERATION:
                return chat.encode_image_answer(IMAGES)

    async def open_stream(self, peer: PeerId, request: InferenceRequest) -> Answer:
        self.streams.append(request)
        if isinstance(self.stream, AicnError):
            raise self.stream
        return self.stream

    def kinds(self) -> list[Type]:
        return [kind for kind, *_ in self.questions]


@pytest.fixture
def world() -> World:
    return World()


def a_request(body: dict[str, Any] | None = None, **changes: Any) -> InferenceRequest:
    body = {"model": "M", "messages": [{"role": "user", "content": "hi"}]} if body is None else body
    deadline = trio.current_time() + 300
    request = InferenceRequest("r", Kind.CHAT, "P", "M", json.dumps(body).encode(), stream=False, deadline=deadline)
    return replace(request, **changes)


def an_image(**members: Any) -> InferenceRequest:
    return a_request({"model": "M", "prompt": "a cat", **members}, kind=Kind.IMAGE_GENERATION)


async def whole(answer: Answer) -> bytes:
    return b"".join([chunk.data async for chunk in answer])


async def test_what_a_node_remembers(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER, chat_proxy.PROTOCOL)
    assert await world.asking.concerns(PEER)
    info = await world.asking.ask(PEER, control.NODE_INFO)
    assert (info.peer_id, info.protocol_version) == (PEER, "aicn/0.0.1")
    assert info.agent_version == "go/0.1.3"  # as identify has told
    assert await world.asking.ask(PEER, control.HOST_INFO) == EXAMPLE
    assert await world.asking.ask(PEER, control.PROJECTS) == (Project("P", ("M",)),)
    assert world.kinds() == [Type.PEER_IDENTITY, Type.HOST_INFO, Type.AI_PROJECT]
    for _, question, within_s, sealed in world.questions:
        assert (question, sealed) == (bodies.EMPTY_QUESTION, False)
        assert within_s == pytest.approx(asking._MEMORY_S)
    assert not world.asking.knows(control.OFFERS)


async def test_native_nodes_are_no_business_of_ours(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER, control.PROTOCOL, chat_proxy.PROTOCOL)
    assert not await world.asking.concerns(PEER)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_chat_goes_over_a_stream_where_there_is_one(
    world: World, autojump_clock: MockClock, stream: bool
) -> None:
    world.links.join(PEER, chat_proxy.PROTOCOL)
    request = a_request(stream=stream)
    assert await whole(await world.asking.open(PEER, request)) == b"streamed"
    assert world.streams == [request]
    assert world.questions == []


async def test_a_plain_chat_over_the_topic(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER)
    world.heard.add(PEER)
    answer = await world.asking.open(PEER, a_request())
    completion = parse_completion(await whole(answer), Kind.CHAT, source="it")
    assert completion["choices"][0]["message"]["content"] == 'say "hé"'
    assert answer.node == PEER
    assert answer.end is not None
    assert (answer.end.finish_reason, answer.end.usage) == ("length", Usage(1, 2, 3))
    ((kind, question, within_s, sealed),) = world.questions
    assert (kind, sealed) == (Type.CHAT_COMPLETION, True)
    assert within_s == pytest.approx(120)
    assert chat.decode_chat(question).project == "P"
    await answer.aclose()


async def test_a_streamed_chat_over_the_topic_comes_as_events_that_end(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER)
    world.heard.add(PEER)
    events = await whole(await world.asking.open(PEER, a_request(stream=True)))
    cutter = EventCutter()
    assert cutter.feed(events) == events
    assert cutter.done
    assert (cutter.finish_reason, cutter.usage) == ("length", Usage(1, 2, 3))
    *said, done = list(iter_data(events))
    assert done == b"[DONE]"
    first = json.loads(said[0])
    assert (first["object"], first["model"], first["id"]) == ("chat.completion.chunk", "M", "chatcmpl-r")
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": 'say "hé"'}


async def test_a_relay_that_lets_no_streams_through_leaves_the_topic(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER, chat_proxy.PROTOCOL)
    world.stream = Unreachable("limited")
    assert b"say" in await whole(await world.asking.open(PEER, a_request()))
    assert world.kinds() == [Type.CHAT_COMPLETION]


async def test_no_other_failure_of_a_stream_is_tried_again(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER, chat_proxy.PROTOCOL)
    world.stream = ModelFailed("no")
    with pytest.raises(ModelFailed):
        await world.asking.open(PEER, a_request())

    async def lost(peer: PeerId, request: InferenceRequest) -> Answer:
        world.links.lose(PEER)
        raise Unreachable("gone")

    world.asking._open_proxy = lost
    with pytest.raises(Unreachable):
        await world.asking.open(PEER, a_request())
    assert world.questions == []


async def test_images(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER, chat_proxy.PROTOCOL)
    answer = await world.asking.open(PEER, an_image(n=2, size="64x32", ipfs_node="http://1.2.3.4:5"))
    assert json.loads(await whole(answer)) == IMAGES
    ((_, question, _, sealed),) = world.questions
    asked = json.loads(chat.decode_image(question).body)
    assert sealed
    assert asked == {
        "model": "M",
        "prompt": "a cat",
        "n": 2,
        "size": "64x32",
        "width": 64,
        "height": 32,
        "ipfs_node": "http://1.2.3.4:5",
    }


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: a_request(kind=Kind.EMBEDDING), Unsupported, "kind embedding"),
        (lambda: a_request(kind=Kind.COMPLETION), Unsupported, "kind completion"),
        (lambda: replace(an_image(), kind=Kind.IMAGE_EDIT), Unsupported, "kind image_edit"),
        (lambda: replace(a_request(), parts=(Part("image", "a", "image/png", b""),)), Unsupported, "files"),
        (lambda: an_image(response_format="b64_json"), Unsupported, "response_format"),
        (lambda: replace(an_image(), stream=True), Unsupported, "stream"),
        (lambda: an_image(n=0), InvalidRequest, "n: "),
        (lambda: a_request({"messages": [], "tools": [{}]}), Unsupported, "tools"),
    ],
)
async def test_what_nodes_of_the_existing_network_have_not(
    world: World, autojump_clock: MockClock, make: Callable[[], InferenceRequest], error: type[AicnError], words: str
) -> None:
    world.links.join(PEER)
    world.heard.add(PEER)
    with pytest.raises(error, match=words):
        await world.asking.open(PEER, make())
    assert world.questions == []


async def test_a_node_that_is_only_heard_of_proves_that_it_is_there(world: World, autojump_clock: MockClock) -> None:
    world.heard.add(PEER)
    await whole(await world.asking.open(PEER, a_request()))
    assert world.kinds() == [Type.PEER_IDENTITY, Type.CHAT_COMPLETION]

    async def silence(kind: Type, question: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    world.tell = silence
    began = trio.current_time()
    with pytest.raises(DeadlineExceeded):
        await world.asking.open(PEER, a_request())
    assert trio.current_time() - began == pytest.approx(asking._MEMORY_S, rel=0.1)


async def test_what_the_topic_has_no_room_for_may_go_to_another_node(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER, chat_proxy.PROTOCOL)

    async def refuse(kind: Type, question: bytes) -> bytes:
        raise TooLarge("topic: too large")

    world.tell = refuse
    with pytest.raises(Unsupported, match="over the topic: topic: too large"):
        await world.asking.open(PEER, an_image())


async def test_a_node_that_dies_meanwhile(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER, chat_proxy.PROTOCOL)

    async def die(kind: Type, question: bytes) -> bytes:
        await trio.sleep(3)
        world.links.lose(PEER)
        await trio.sleep_forever()
        raise AssertionError

    world.tell = die
    began = trio.current_time()
    with pytest.raises(Unreachable, match="went away before it answered"):
        await world.asking.open(PEER, an_image())
    assert trio.current_time() - began < 10


async def test_a_connection_may_end_while_a_node_works(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER, chat_proxy.PROTOCOL)
    world.links.dials[PEER] = frozenset({chat_proxy.PROTOCOL})

    async def work(kind: Type, question: bytes) -> bytes:
        for _ in range(3):
            await trio.sleep(20)
            world.links.lose(PEER)
        return await world.well(kind, question)

    world.tell = work
    assert json.loads(await whole(await world.asking.open(PEER, an_image()))) == IMAGES


async def test_the_deadline_of_the_request_counts_when_it_is_nearer(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER, chat_proxy.PROTOCOL)
    await world.asking.open(PEER, replace(an_image(), deadline=trio.current_time() + 7))
    assert world.questions[0][2] == pytest.approx(7)


async def test_questions_to_one_node_are_bounded(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_MOST_WAITING", 3)
    world.links.join(PEER, chat_proxy.PROTOCOL)
    at_work, most, told = 0, 0, []

    async def slowly(kind: Type, question: bytes) -> bytes:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        try:
            await trio.sleep(5)
            return await world.well(kind, question)
        finally:
            at_work -= 1

    async def ask(timeout_s: float) -> None:
        try:
            await world.asking.open(PEER, replace(an_image(), deadline=trio.current_time() + timeout_s))
            told.append("answered")
        except AicnError as error:
            told.append(type(error).__name__)

    world.tell = slowly
    async with trio.open_nursery() as nursery:
        for _ in range(asking._MOST_UNANSWERED):
            nursery.start_soon(ask, 60)
        await wait_all_tasks_blocked()
        for timeout_s in (60, 60, 3):
            nursery.start_soon(ask, timeout_s)
        await wait_all_tasks_blocked()
        with pytest.raises(Busy):
            await world.asking.open(PEER, an_image())
    assert most == asking._MOST_UNANSWERED
    assert sorted(told) == ["DeadlineExceeded", *["answered"] * (asking._MOST_UNANSWERED + 2)]
    assert not world.asking._places


async def test_a_caller_that_leaves_frees_its_place(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER, chat_proxy.PROTOCOL)

    async def silence(kind: Type, question: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    world.tell = silence
    with trio.move_on_after(1):
        await world.asking.open(PEER, an_image())
    assert not world.asking._places
