"""A request from one node's services to another's, over streams in memory: order, failures, hang-up at every stage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import Accepted, Chunk, End, InferenceRequest, Kind
from aicn.domain.registration import Endpoint
from aicn.errors import (
    AicnError,
    AnswerBroken,
    Busy,
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    ProtocolViolation,
    TooLarge,
    UnknownModel,
    UnknownNode,
)
from aicn.services.inference import Inference
from aicn.services.nodes import Nodes
from aicn.services.ports import Answer
from aicn.services.registration import Registration
from aicn.services.worker import Worker
from aicn.wire import control, framing
from aicn.wire import inference as wire
from tests.fakes.answers import ScriptedEndpoints, Step
from tests.fakes.hardware import FixedMachine
from tests.fakes.peers import MemoryNetwork, MemoryPeers
from tests.fakes.stores import MemoryRegistrations

ENDPOINT = Endpoint("P", "M", "http://127.0.0.1:1/v1/chat/completions")
WORKER, INPUT = PeerId("worker"), PeerId("input")
BOTH_PATHS = pytest.mark.parametrize("asker", [INPUT, WORKER], ids=["remote", "local"])


def a_request(**changes: Any) -> InferenceRequest:
    deadline = trio.current_time() + 60
    request = InferenceRequest("r", Kind.CHAT, "P", "M", b'{"stream": true}', stream=True, deadline=deadline)
    return replace(request, **changes)


@dataclass
class World:
    network: MemoryNetwork
    endpoints: ScriptedEndpoints
    worker: Worker
    peers: dict[PeerId, MemoryPeers]
    askers: dict[PeerId, Inference]
    nodes: dict[PeerId, Nodes]


@asynccontextmanager
async def a_world(
    script: Callable[[InferenceRequest], Sequence[Step]], limits: Limits | None = None, *, window: int = 256 * 1024
) -> Any:
    limits = limits or Limits()
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery, window=window)
        peers = {name: network.host(name) for name in (WORKER, INPUT)}
        registration = Registration(MemoryRegistrations())
        await registration.register("P", [ENDPOINT])
        endpoints = ScriptedEndpoints(script)
        worker = Worker(registration, endpoints, limits, request_bytes=100_000)
        nodes = {
            WORKER: Nodes(peers[WORKER], registration, FixedMachine()),
            INPUT: Nodes(peers[INPUT], Registration(MemoryRegistrations()), FixedMachine()),
        }
        peers[WORKER].serve(wire.PROTOCOL, worker.serve)
        peers[WORKER].serve(control.PROTOCOL, nodes[WORKER].serve)
        askers = {name: Inference(peers[name], worker, limits) for name in peers}
        yield World(network, endpoints, worker, peers, askers, nodes)
        nursery.cancel_scope.cancel()


async def all_of(answer: Answer) -> list[bytes]:
    return [chunk.data async for chunk in answer]


@BOTH_PATHS
async def test_chunks_come_in_order_and_one_by_one(asker: PeerId) -> None:
    gates = [trio.Event() for _ in range(3)]
    async with a_world(lambda _: [b"a", gates[0], b"b", gates[1], b"c", gates[2]]) as world:
        answer = await world.askers[asker].open(WORKER, a_request())
        for gate, expected in zip(gates, (b"a", b"b", b"c"), strict=True):
            assert await answer.receive() == Chunk(expected)
            gate.set()
        with pytest.raises(trio.EndOfChannel):
            await answer.receive()
        assert answer.end is not None
        assert answer.end.finish_reason == "stop"
        assert answer.node == WORKER
        with pytest.raises(trio.EndOfChannel):
            await answer.receive()
        await answer.aclose()
        await wait_all_tasks_blocked()
        assert world.endpoints.answers[0].closed
        assert not any(stream.was_reset for stream in world.peers[asker].streams)


async def test_what_has_piled_up_travels_together() -> None:
    async with a_world(lambda _: [b"%d;" % number for number in range(100)]) as world:
        answer = await world.askers[INPUT].open(WORKER, a_request())
        await wait_all_tasks_blocked()
        assert await all_of(answer) == [b"".join(b"%d;" % number for number in range(100))]


async def test_the_body_arrives_as_it_was() -> None:
    body = bytes(range(256)) * 300
    async with a_world(lambda _: []) as world:
        await all_of(await world.askers[INPUT].open(WORKER, a_request(body=body)))
        endpoint, request = world.endpoints.requests[0]
        assert (endpoint, request.body, request.id, request.stream) == (ENDPOINT, body, "r", True)


async def test_a_slow_reader_slows_the_model_and_breaks_nothing(autojump_clock: MockClock) -> None:
    pieces = [bytes([65 + number % 26]) * 1000 for number in range(200)]
    async with a_world(lambda _: pieces, window=4096) as world:
        answer = await world.askers[INPUT].open(WORKER, a_request())
        await wait_all_tasks_blocked()
        assert len(world.endpoints.answers[0]._steps) > 190  # no more was taken than the windows hold
        received = b""
        with pytest.raises(trio.EndOfChannel):
            while True:
                await trio.sleep(0.1)
                received += (await answer.receive()).data
        assert received == b"".join(pieces)


@BOTH_PATHS
@pytest.mark.parametrize(
    "error", [ModelFailed("refused"), Busy("full", retry_after=3.0), InvalidRequest("messages: empty"), TooLarge("big")]
)
@pytest.mark.parametrize("before", [[], [b"first"]], ids=["before the first chunk", "after it"])
async def test_an_endpoints_error_arrives_as_itself(asker: PeerId, error: AicnError, before: list[Step]) -> None:
    async with a_world(lambda _: [*before, error]) as world:
        answer = await world.askers[asker].open(WORKER, a_request())
        received = []
        with pytest.raises(type(error), match=error.message) as raised:
            async for chunk in answer:
                received.append(chunk.data)
        assert received == before
        assert raised.value.retry_after == error.retry_after
        assert answer.end is None
        await answer.aclose()


@BOTH_PATHS
async def test_an_unknown_model_is_refused_before_anything(asker: PeerId) -> None:
    async with a_world(lambda _: []) as world:
        with pytest.raises(UnknownModel):
            await world.askers[asker].open(WORKER, a_request(model="other"))
        assert world.endpoints.requests == []


async def test_an_unknown_node() -> None:
    async with a_world(lambda _: []) as world:
        with pytest.raises(UnknownNode):
            await world.askers[INPUT].open(PeerId("nobody"), a_request())


async def test_a_broken_worker_tells_so_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    async with a_world(lambda _: [RuntimeError("bug")]) as world:
        answer = await world.askers[INPUT].open(WORKER, a_request())
        with pytest.raises(ModelFailed):
            await answer.receive()
    assert "bug" in caplog.text


STAGES: dict[str, Callable[[trio.Event], Sequence[Step]]] = {
    "before the first chunk": lambda gate: [gate],
    "between chunks": lambda gate: [b"a", gate],
    "after many": lambda gate: [*[b"a"] * 50, gate],
}


@BOTH_PATHS
@pytest.mark.parametrize("stage", STAGES)
async def test_hanging_up_stops_the_endpoint(asker: PeerId, stage: str) -> None:
    never = trio.Event()
    async with a_world(lambda _: STAGES[stage](never)) as world:
        answer = await world.askers[asker].open(WORKER, a_request())
        async with trio.open_nursery() as client:
            client.start_soon(all_of, answer)
            await (
                wait_all_tasks_blocked()
            )  # until it has all that comes before the gate; a clock could strike before it begins
            client.cancel_scope.cancel()
        await answer.aclose()
        await wait_all_tasks_blocked()
        assert world.endpoints.answers[0].closed
        assert not world.network.nursery.child_tasks


@BOTH_PATHS
async def test_hanging_up_in_the_queue_frees_the_place(asker: PeerId) -> None:
    never = trio.Event()
    async with a_world(lambda _: [b"a", never], Limits(concurrency=1, queue=1)) as world:
        ask = world.askers[asker].open
        running = await ask(WORKER, a_request())
        assert running.accepted == Accepted(0, 1)
        assert await running.receive() == Chunk(b"a")
        waiting = await ask(WORKER, a_request())
        assert waiting.accepted.queue_position == 1
        with pytest.raises(Busy) as refusal:
            await ask(WORKER, a_request())
        assert refusal.value.retry_after
        await waiting.aclose()
        await wait_all_tasks_blocked()
        assert (await ask(WORKER, a_request())).accepted.queue_position == 1
        assert len(world.endpoints.requests) == 1


@BOTH_PATHS
async def test_the_queue_moves_on_when_one_is_done(asker: PeerId) -> None:
    async with a_world(lambda _: [b"a"], Limits(concurrency=1, queue=5)) as world:
        answers = [await world.askers[asker].open(WORKER, a_request()) for _ in range(3)]
        assert [await all_of(answer) for answer in answers] == [[b"a"]] * 3


@BOTH_PATHS
async def test_waiting_too_long_is_busy(asker: PeerId, autojump_clock: MockClock) -> None:
    limits = Limits(concurrency=1, queue=1, queue_s=7)
    never = trio.Event()
    async with a_world(lambda _: [never], limits) as world:
        first = await world.askers[asker].open(WORKER, a_request())
        world.network.nursery.start_soon(_swallow, first.receive)
        second = await world.askers[asker].open(WORKER, a_request())
        with pytest.raises(Busy, match="7 s"):
            await all_of(second)
        assert trio.current_time() == pytest.approx(7, abs=0.1)
        await first.aclose()


async def _swallow(receive: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(AicnError):
        await receive()


@BOTH_PATHS
async def test_the_deadline_ends_it(asker: PeerId, autojump_clock: MockClock) -> None:
    never = trio.Event()
    async with a_world(lambda _: [b"a", never]) as world:
        answer = await world.askers[asker].open(WORKER, a_request(deadline=trio.current_time() + 5))
        assert await answer.receive() == Chunk(b"a")
        with pytest.raises(DeadlineExceeded):
            await answer.receive()
        await answer.aclose()
        await wait_all_tasks_blocked()
        assert world.endpoints.answers[0].closed


async def test_the_workers_own_limit_is_shorter_than_what_is_asked(autojump_clock: MockClock) -> None:
    never = trio.Event()
    async with a_world(lambda _: [never], Limits(request_s=3)) as world:
        answer = await world.askers[INPUT].open(WORKER, a_request(deadline=trio.current_time() + 1000))
        with pytest.raises(DeadlineExceeded):
            await answer.receive()
        assert trio.current_time() == pytest.approx(3, abs=0.1)


def a_frame(request: InferenceRequest) -> bytes:
    return wire.encode_request(request, now=trio.current_time())


BAD_REQUESTS: dict[str, tuple[Callable[[], bytes], type[AicnError]]] = {
    "nothing": (lambda: b"", ProtocolViolation),
    "half a frame": (lambda: a_frame(a_request())[:-1], ProtocolViolation),
    "junk": (lambda: b"\x03abc", ProtocolViolation),
    "an answer": (lambda: wire.encode_end(End()), ProtocolViolation),
    "two requests": (lambda: a_frame(a_request()) * 2, ProtocolViolation),
    "a tail": (lambda: a_frame(a_request()) + b"x", ProtocolViolation),
    "over the limit": (lambda: a_frame(a_request(body=b"x" * 200_000)), TooLarge),
    "no model": (lambda: a_frame(a_request(model="")), InvalidRequest),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_what_is_no_request_is_refused(case: str) -> None:
    bad, error = BAD_REQUESTS[case]
    async with a_world(lambda _: []) as world:
        stream = await world.peers[INPUT].open_stream(WORKER, wire.PROTOCOL)
        await stream.send_all(bad())
        await stream.send_eof()
        reader = framing.FrameReader(10_000)
        while data := await stream.receive_some():
            reader.feed(data)
        frame = reader.next_frame()
        assert frame is not None
        assert type(wire.decode_answer(frame)) is error
        assert world.endpoints.requests == []
        assert world.worker.exchanges._arrivals._held == 0


async def test_a_request_that_never_completes_is_given_up(autojump_clock: MockClock) -> None:
    async with a_world(lambda _: []) as world:
        stream = await world.peers[INPUT].open_stream(WORKER, wire.PROTOCOL)
        await stream.send_all(a_frame(a_request())[:20])
        assert b"deadline_exceeded" in await stream.receive_some()
        assert trio.current_time() == pytest.approx(30, abs=1)


async def test_a_requester_that_takes_nothing_loses_its_place(autojump_clock: MockClock) -> None:
    async with a_world(lambda _: [bytes(1000)] * 100, Limits(concurrency=1, queue_s=100), window=4096) as world:
        stream = await world.peers[INPUT].open_stream(WORKER, wire.PROTOCOL)
        await stream.send_all(a_frame(a_request()))
        await stream.send_eof()
        honest = await world.askers[INPUT].open(WORKER, a_request(deadline=trio.current_time() + 1000))
        assert honest.accepted.queue_position == 1
        await all_of(honest)
        assert stream.was_reset
        assert world.endpoints.answers[0].closed


async def test_a_node_that_answers_too_much_is_at_fault_itself() -> None:
    async with a_world(lambda _: []) as world:

        async def liar(stream: Any) -> None:
            await stream.receive_some()
            await stream.send_all(framing.encode_frame(bytes(2_000_000))[:100])

        world.peers[WORKER].serve(control.PROTOCOL, liar)
        with pytest.raises(ProtocolViolation):
            await world.nodes[INPUT].projects_of(WORKER)


async def _answer_with(world: World, data: bytes, *, reset: bool = False) -> Answer:
    """What the requester makes of a worker that answers `data` and ends the stream."""

    async def liar(stream: Any) -> None:
        while await stream.receive_some():
            pass
        await stream.send_all(data)
        if reset:
            await wait_all_tasks_blocked()
            stream.reset()

    world.peers[WORKER].serve(wire.PROTOCOL, liar)
    return await world.askers[INPUT].open(WORKER, a_request())


ACCEPTED = wire.encode_accepted(Accepted())
CHUNK = wire.encode_chunk(Chunk(b"a"))
LIES: dict[str, tuple[bytes, type[AicnError]]] = {
    "silence": (b"", AnswerBroken),
    "no acceptance": (CHUNK, ProtocolViolation),
    "junk": (b"\x02\xff\xff", ProtocolViolation),
    "a huge frame": (framing.encode_frame(b"x" * 2_000_000)[:10], ProtocolViolation),
    "no end": (ACCEPTED + CHUNK, AnswerBroken),
    "half an end": (ACCEPTED + CHUNK + wire.encode_end(End("stop"))[:-1], AnswerBroken),
    "accepted twice": (ACCEPTED + ACCEPTED, ProtocolViolation),
    "empty frame": (ACCEPTED + b"\x00", ProtocolViolation),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_worker_is_a_clear_error(lie: str) -> None:
    data, error = LIES[lie]
    async with a_world(lambda _: []) as world:
        with pytest.raises(error):
            await all_of(await _answer_with(world, data))


async def test_a_reset_is_never_a_complete_answer() -> None:
    async with a_world(lambda _: []) as world:
        answer = await _answer_with(world, ACCEPTED + CHUNK, reset=True)
        with pytest.raises(AnswerBroken):
            await all_of(answer)


async def test_a_stopping_worker_lets_running_requests_finish_and_takes_no_new_ones() -> None:
    gate = trio.Event()
    async with a_world(lambda _: [b"a", gate, b"b"]) as world:
        answer = await world.askers[INPUT].open(WORKER, a_request())
        assert await answer.receive() == Chunk(b"a")
        drained = trio.Event()

        async def drain() -> None:
            await world.worker.drain()
            drained.set()

        world.network.nursery.start_soon(drain)
        await wait_all_tasks_blocked()
        with pytest.raises(Busy, match="stopping"):
            await world.askers[INPUT].open(WORKER, a_request())
        assert not drained.is_set()
        gate.set()
        assert await all_of(answer) == [b"b"]
        with trio.fail_after(1):
            await drained.wait()


async def test_projects_of_any_node() -> None:
    async with a_world(lambda _: []) as world:
        for asker in (INPUT, WORKER):
            (project,) = await world.nodes[asker].projects_of(WORKER)
            assert (project.name, project.models) == ("P", ("M",))
        assert list(await world.nodes[INPUT].projects_of(INPUT)) == []


async def test_several_questions_on_one_stream() -> None:
    async with a_world(lambda _: []) as world:
        stream = await world.peers[INPUT].open_stream(WORKER, control.PROTOCOL)
        for _ in range(3):
            await stream.send_all(control.encode_request(control.PROJECTS, None))
            reader = framing.FrameReader(1000)
            reader.feed(await stream.receive_some())
            frame = reader.next_frame()
            assert frame is not None
            assert [project.name for project in control.decode_answer(control.PROJECTS, frame)] == ["P"]
        await stream.send_all(b"\x02\x7a\x00")
        assert b"unsupported" in await stream.receive_some()
