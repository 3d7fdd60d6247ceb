"""Chats over `/chat-proxy/0.0.1` with a whole node, from a host that speaks nothing newer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from aicn.backends.peer_http import PeerHttp
from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind
from aicn.errors import Busy, ModelFailed, TooLarge, Unsupported
from aicn.p2p.host import Host
from aicn.services.legacy.proxy import ProxyRequester
from aicn.services.ports import Answer
from tests.fakes.endpoint import FakeEndpoint, open_fake_endpoint
from tests.fakes.ethereum import new_account, proof
from tests.fakes.hosts import open_test_host
from tests.fakes.whole import Whole, open_whole


@dataclass
class World:
    node: Whole
    host: Host
    endpoint: FakeEndpoint
    requester: ProxyRequester

    async def open(self, *, stream: bool = True, model: str = "M", **members: Any) -> Answer:
        body = json.dumps({"model": model, "messages": [], "stream": stream, **members}).encode()
        request = InferenceRequest("r", Kind.CHAT, "P", model, body, stream, trio.current_time() + 30)
        return await self.requester.open(PeerId(self.node.id), request)

    async def read(self, **members: Any) -> bytes:
        answer = await self.open(**members)
        try:
            return b"".join([chunk.data async for chunk in answer])
        finally:
            await answer.aclose()


@asynccontextmanager
async def a_world(directory: Path, **sections: Any) -> AsyncIterator[World]:
    async with (
        open_fake_endpoint() as endpoint,
        open_whole(directory, **sections) as node,
        open_test_host(listen=()) as host,
    ):
        reply = await node.register({"model": "M", "api": endpoint.url})
        assert reply.json["code"] == 0
        await host.connect(f"{node.node.peers.info().addresses[0]}/p2p/{node.id}")
        yield World(node, host, endpoint, ProxyRequester(host, PeerHttp(Limits())))


async def test_chats_plain_and_streamed(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        plain = json.loads(await world.read(stream=False))
        assert plain["choices"][0]["message"]["content"] == world.endpoint.text
        assert (await world.read()).endswith(b"data: [DONE]\n\n")
        with pytest.raises(ModelFailed, match="has no such one"):
            await world.read(model="other")
        assert [json.loads(body)["stream"] for body in world.endpoint.bodies] == [False, True]


async def test_the_node_s_limits_hold(tmp_path: Path) -> None:
    limits = {"concurrency": 1, "queue": 0}
    async with a_world(tmp_path, limits=limits, http={"body_bytes": 10_000}) as world:
        world.endpoint.first_s = 100
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.read)
            while not world.endpoint.open:
                await trio.sleep(0.01)
            with pytest.raises(Busy) as caught:
                await world.read()
            assert caught.value.retry_after is not None
            nursery.cancel_scope.cancel()
        await world.endpoint.wait_cancelled()
        with pytest.raises(TooLarge, match="body: over this node's limit of 10000 bytes"):
            await world.read(padding="x" * 10_000)


async def test_a_wallet_where_one_is_needed(tmp_path: Path) -> None:
    async with a_world(tmp_path, wallet={"required": True}) as world:
        with pytest.raises(ModelFailed, match=r"status 403"):
            await world.read()
        assert await world.read(**proof(new_account(b"\1" * 32), "signed"))


async def test_a_node_that_stops_ends_what_it_answers_and_begins_nothing(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.endpoint.delay_s = 0.05
        answer = await world.open()
        first = (await answer.receive()).data
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.node.node.worker.drain)
            await trio.lowlevel.checkpoint()
            with pytest.raises(Busy, match="the node is stopping"):
                await world.read()
            rest = b"".join([chunk.data async for chunk in answer])
        assert (first + rest).endswith(b"[DONE]\n\n")
        await answer.aclose()


async def test_a_node_that_takes_no_part_in_the_existing_network(tmp_path: Path) -> None:
    async with a_world(tmp_path, legacy={"enabled": False}) as world:
        with pytest.raises(Unsupported):
            await world.read()
