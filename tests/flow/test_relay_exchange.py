"""A chat with a worker that can only be reached through a relay: what the services see is no different."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import trio

from aicn.config.schema import Limits
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.registration import Endpoint
from aicn.errors import AnswerBroken
from aicn.p2p.host import Host
from aicn.services.inference import Inference
from aicn.services.ports import Answer
from aicn.services.registration import Registration
from aicn.services.worker import Worker
from aicn.wire import inference as wire
from tests.fakes.answers import ScriptedEndpoints, Step
from tests.fakes.hosts import CONFIG, full_address, open_test_host, until
from tests.fakes.stores import MemoryRegistrations

HIDDEN = replace(CONFIG, listen=())  # nobody can dial it
PSK = "f504f536a912a8cf7d00adacee8ed20270c5040d961d7f3da4fccbcbec0ec48a"
PIECES = [b'{"n": %d}' % number for number in range(100)]


@dataclass
class World:
    relay: Host
    worker: Host
    endpoints: ScriptedEndpoints
    asker: Inference

    async def ask(self) -> Answer:
        deadline = trio.current_time() + 30
        body = b'{"stream": true}'
        request = InferenceRequest("r", Kind.CHAT, "P", "M", body, stream=True, deadline=deadline)
        with trio.fail_after(10):
            return await self.asker.open(self.worker.id, request)


@asynccontextmanager
async def a_world(script: Callable[[InferenceRequest], Sequence[Step]], psk: str = "") -> AsyncIterator[World]:
    """Two nodes that nobody can dial and that know only a relay; one of them has a model."""
    limits = Limits()
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_test_host(dht_mode="server", relay_service=True, psk=psk))
        knowing = {"bootstrap": (full_address(relay),), "psk": psk}
        host = await stack.enter_async_context(open_test_host(HIDDEN, **knowing))
        asking = await stack.enter_async_context(open_test_host(HIDDEN, **knowing))
        registration = Registration(MemoryRegistrations())
        await registration.register("P", [Endpoint("P", "M", "http://127.0.0.1:1/v1/chat/completions")])
        endpoints = ScriptedEndpoints(script)
        worker = Worker(registration, endpoints, limits, request_bytes=100_000)
        host.serve(wire.PROTOCOL, worker.serve)
        await until(lambda: host.addresses() and asking.connections())
        yield World(relay, host, endpoints, Inference(asking, worker, limits))


@pytest.mark.parametrize("psk", ["", PSK], ids=["open", "psk"])
async def test_a_streamed_answer_comes_through(psk: str) -> None:
    gate = trio.Event()
    async with a_world(lambda _: [*PIECES[:50], gate, *PIECES[50:]], psk) as world:
        answer = await world.ask()
        received = b""
        with trio.fail_after(10):
            while len(received) < len(b"".join(PIECES[:50])):
                received += (await answer.receive()).data
            gate.set()
            received += b"".join([chunk.data async for chunk in answer])
        assert received == b"".join(PIECES)
        assert answer.end is not None
        await answer.aclose()
        (connection,) = [one for one in world.worker.connections() if one.peer != world.relay.id]
        assert connection.address.endswith(f"/p2p/{world.relay.id}/p2p-circuit")


async def test_hanging_up_reaches_the_model() -> None:
    never = trio.Event()
    async with a_world(lambda _: [b"a", never]) as world:
        answer = await world.ask()
        assert (await answer.receive()).data == b"a"
        await answer.aclose()
        await until(lambda: world.endpoints.answers[0].closed)


async def test_a_relay_connection_that_ends_breaks_the_answer_and_the_next_one_works() -> None:
    never = trio.Event()
    async with a_world(lambda _: [b"a", never]) as world, open_test_host(relay_service=True) as second:
        answer = await world.ask()
        assert (await answer.receive()).data == b"a"
        await world.worker.connect(full_address(second))
        await until(lambda: len(world.worker.addresses()) == 2)
        for connection in world.relay._swarm.open_connections():
            await connection.close()
        with trio.fail_after(10), pytest.raises(AnswerBroken):
            await answer.receive()
        await answer.aclose()
        await until(lambda: len(world.worker.addresses()) == 2)  # bootstrap has brought the first one back
        again = await world.ask()
        assert (await again.receive()).data == b"a"
        await again.aclose()
