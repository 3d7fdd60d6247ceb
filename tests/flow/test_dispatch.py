"""Requests without a node through whole nodes: the directory finds who has the model, and another is asked when one fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, cast

import pytest
import trio

from aicn.config.schema import Limits, Routing
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.offers import Provider
from aicn.errors import InvalidRequest, NoNode
from aicn.p2p.host import Host
from aicn.services.catalog import Catalog
from aicn.services.dispatch import Dispatch, open_dispatch
from aicn.services.ports import PeerStream
from aicn.wire import inference as wire
from tests.fakes.endpoint import Scripted, answers, http_chunk, open_scripted, response, stream_head
from tests.fakes.hosts import until
from tests.fakes.http import Reply
from tests.fakes.routers import AsGiven
from tests.fakes.whole import Whole, open_whole

PLAIN = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'
EVENT = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def event(text: str, finish: str | None) -> bytes:
    value = {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


GOOD = response(200, PLAIN)
GOOD_STREAM = stream_head() + http_chunk(EVENT) + http_chunk(DONE) + http_chunk(b"")
BROKEN_STREAM = stream_head() + http_chunk(EVENT)  # and no more
CHAT = {"project": "P", "model": "M", "messages": [{"role": "user", "content": "Hello"}]}
STREAM = CHAT | {"stream": True}


class World(NamedTuple):
    """`asker` is connected to two workers; each is asked in this order by `dispatch`."""

    asker: Whole
    first: Whole
    second: Whole
    dispatch: Dispatch

    async def offer(self, node: Whole, server: Scripted) -> None:
        """The model at `server` is offered by `node`, and the asker knows."""
        assert (await node.register({"model": "M", "api": server.url()})).status == 200
        await until(lambda: node.id in {one.node for one in self.known()})

    def known(self) -> list[Provider]:
        return self.asker.node.directory.catalog.providers("P", "M", most=10)

    async def chat(self, body: object = CHAT) -> Reply:
        return await self.asker.post("/chat/completion/proxy", body)


class InOrder:
    """The real catalog, in an order that a test can rely on."""

    def __init__(self, catalog: Catalog, order: list[str]) -> None:
        self._catalog = catalog
        self._order = order

    def providers(self, project: str, model: str | None, *, kind: Kind | None = None, most: int) -> list[Provider]:
        found = self._catalog.providers(project, model, kind=kind, most=most)
        return sorted(found, key=lambda provider: self._order.index(provider.node))


@asynccontextmanager
async def a_world(directory: Path) -> AsyncIterator[World]:
    with trio.fail_after(60):
        async with (
            open_whole(directory / "asker") as asker,
            open_whole(directory / "first") as first,
            open_whole(directory / "second") as second,
        ):
            for worker in (first, second):
                await asker.connect(worker)
            ordered = InOrder(asker.node.directory.catalog, [first.id, second.id])
            node = asker.node
            async with open_dispatch(
                ordered,
                node.inference,
                AsGiven(),
                own=node.peers.id,
                links=cast("Host", node.peers).links,
                limits=Limits(),
                routing=Routing(),
            ) as dispatch:
                yield World(asker, first, second, dispatch)


def a_request(body: dict[str, object] = STREAM) -> InferenceRequest:
    stream = bool(body.get("stream"))
    text = json.dumps({name: value for name, value in body.items() if name != "project"}).encode()
    return InferenceRequest("r", Kind.CHAT, "P", "M", text, stream=stream, deadline=trio.current_time() + 30)


async def hang_up(stream: PeerStream) -> None:
    """A worker that dies as soon as it is asked."""
    stream.reset()


async def test_nobody_has_the_model(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        for body in (CHAT, STREAM):
            reply = await world.chat(body)
            assert (reply.status, reply.json) == (503, {"code": 1016, "message": "no node offers model M of project P"})


@pytest.mark.parametrize("stream", [False, True])
async def test_whoever_has_the_model_answers(tmp_path: Path, stream: bool) -> None:
    async with a_world(tmp_path) as world, open_scripted(answers(GOOD_STREAM if stream else GOOD)) as server:
        await world.offer(world.second, server)
        reply = await world.chat(STREAM if stream else CHAT)
        assert reply.status == 200
        assert reply.body == (EVENT + DONE if stream else b'{"code":0,"message":"ok","data":' + PLAIN + b"}")
        assert reply.headers["x-aicn-node"] == world.second.id
        assert world.known()[0].node == world.second.id


async def test_this_node_is_asked_first_and_another_when_it_fails(tmp_path: Path) -> None:
    async with (
        a_world(tmp_path) as world,
        open_scripted(answers(response(500, b"out of memory"))) as bad,
        open_scripted(answers(GOOD)) as good,
    ):
        await world.offer(world.asker, bad)
        await world.offer(world.first, good)
        reply = await world.chat()
        assert (reply.status, reply.headers["x-aicn-node"]) == (200, world.first.id)
        assert (len(bad.requests), len(good.requests)) == (1, 1)


FAILING = {
    "fails": response(500, b"out of memory"),
    "busy": response(429, b"{}", "application/json", "Retry-After: 9"),
    "does not stream": GOOD,
    "breaks off inside of its first event": stream_head() + http_chunk(DONE[:5]),
}


async def test_another_node_is_asked_before_the_first_chunk(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world, open_scripted(answers(GOOD_STREAM)) as good:
        await world.offer(world.second, good)
        for asked, (what, first) in enumerate(FAILING.items(), 1):
            async with open_scripted(answers(first)) as bad:
                await world.offer(world.first, bad)
                answer = await world.dispatch.open(a_request())
                assert answer.node == world.second.id, what
                assert b"".join([chunk.data async for chunk in answer]) == EVENT + DONE
                await answer.aclose()
                assert (len(bad.requests), len(good.requests)) == (1, asked), what


async def test_a_worker_that_dies_when_it_is_asked(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world, open_scripted(answers(GOOD_STREAM)) as server:
        await world.offer(world.first, server)
        await world.offer(world.second, server)
        world.first.node.peers.serve(wire.PROTOCOL, hang_up)
        answer = await world.dispatch.open(a_request())
        assert answer.node == world.second.id
        await answer.aclose()
        world.second.node.peers.serve(wire.PROTOCOL, hang_up)
        with pytest.raises(NoNode) as told:
            await world.dispatch.open(a_request())
        for worker in (world.first, world.second):
            assert f"…{worker.id[-8:]}: " in told.value.message


async def test_what_has_begun_is_gone_on_with(tmp_path: Path) -> None:
    rest = stream_head() + http_chunk(event("!", "stop")) + http_chunk(DONE) + http_chunk(b"")
    async with (
        a_world(tmp_path) as world,
        open_scripted(answers(BROKEN_STREAM)) as bad,
        open_scripted(answers(rest)) as good,
    ):
        await world.offer(world.asker, bad)
        await world.offer(world.first, good)
        reply = await world.chat(STREAM)
        assert (reply.status, reply.headers["x-aicn-node"]) == (200, world.asker.id)
        resumed = f": aicn resumed node={world.first.id} attempt=2\n\n".encode()
        assert reply.body == EVENT + resumed + event("!", "stop") + DONE
        assert json.loads(good.requests[0].body)["messages"] == [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
        ]


async def test_the_callers_mistake_is_told_at_once(tmp_path: Path) -> None:
    async with (
        a_world(tmp_path) as world,
        open_scripted(answers(response(400, b'{"error":{"message":"temperature: too hot"}}'))) as strict,
        open_scripted(answers(GOOD_STREAM)) as good,
    ):
        await world.offer(world.first, strict)
        await world.offer(world.second, good)
        with pytest.raises(InvalidRequest, match="too hot"):
            await world.dispatch.open(a_request())
        assert good.requests == []


async def test_all_are_busy(tmp_path: Path) -> None:
    def busy(seconds: int) -> bytes:
        return response(429, b"{}", "application/json", f"Retry-After: {seconds}")

    async with (
        a_world(tmp_path) as world,
        open_scripted(answers(busy(40))) as one,
        open_scripted(answers(busy(7))) as other,
    ):
        await world.offer(world.first, one)
        await world.offer(world.second, other)
        reply = await world.chat()
        assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, 1016, "7")
        assert reply.json["message"].startswith("none of 2 nodes has answered for model M of project P: …")


async def test_a_client_that_leaves_stops_the_worker_that_is_asked(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world, open_scripted(answers(stream_head(), then_wait=True)) as silent:
        await world.offer(world.first, silent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.dispatch.open, a_request())
            await until(lambda: silent.requests)
            nursery.cancel_scope.cancel()
        await silent.hung_up.wait()
