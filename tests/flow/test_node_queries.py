"""`/peer` and `/host/info` from HTTP to another node and back, over real hosts; and peers that answer as they should not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest
import trio

from aicn.domain.hardware import HostInfo, Memory
from aicn.domain.nodes import NodeInfo
from aicn.errors import AicnError, Busy, ProtocolViolation, Unreachable, Unsupported
from aicn.p2p.host import Host
from aicn.p2p.stream import Stream
from aicn.services import nodes as service
from aicn.services.nodes import Nodes
from aicn.services.registration import Registration
from aicn.wire import control
from aicn.wire.framing import FrameReader, encode_frame
from aicn.wire.pb import control_pb2 as pb
from aicn.wire.v0.nodes import encode_host_info
from tests.fakes.hardware import EXAMPLE, FixedMachine
from tests.fakes.hosts import PEER_OF_NOBODY, full_address, open_test_host
from tests.fakes.http import Served, serving
from tests.fakes.node import FakeNode
from tests.fakes.stores import MemoryRegistrations

OWN_HOST = HostInfo(memory=Memory(2, 1))
QUERIES = pytest.mark.parametrize("path", ["/peer", "/host/info"])


def nodes_of(host: Host, info: HostInfo, **options: bool) -> Nodes:
    nodes = Nodes(host, Registration(MemoryRegistrations()), FixedMachine(info), **options)
    host.serve(control.PROTOCOL, nodes.serve)
    return nodes


@dataclass
class World:
    """A node with its HTTP API, connected to another."""

    here: Host
    there: Host
    asker: Nodes
    served: Served

    async def ask(self, path: str, node: str) -> tuple[int, dict[str, Any]]:
        with trio.fail_after(30):
            reply = await self.served.request("POST", f"/api/v0{path}", {"node_id": node})
        return reply.status, reply.json


@asynccontextmanager
async def a_world(**options: bool) -> AsyncIterator[World]:
    async with open_test_host() as here, open_test_host() as there:
        asker = nodes_of(here, OWN_HOST)
        nodes_of(there, EXAMPLE, **options)
        await here.connect(full_address(there))
        fake = FakeNode()
        fake.nodes = cast("Any", asker)
        async with serving(fake) as served:
            yield World(here, there, asker, served)


async def test_another_node_and_this_one() -> None:
    async with a_world() as world:
        for host, info in ((world.there, EXAMPLE), (world.here, OWN_HOST)):
            status, body = await world.ask("/peer", host.id)
            assert (status, body["code"], body["data"]["peer_id"]) == (200, 0, host.id)
            assert body["data"]["agent_version"] == "aicn/test"
            assert body["data"]["addresses"] == list(host.addresses())
            assert control.PROTOCOL in body["data"]["protocols"]
            status, body = await world.ask("/host/info", host.id)
            assert (status, body) == (200, {"code": 0, "message": "ok", "data": encode_host_info(info)})
        assert body["data"]["disk"] == body["data"]["gpu"] == body["data"]["cpu"] == []


async def test_a_node_may_keep_its_machine_to_itself() -> None:
    async with a_world(share_host_info=False) as world:
        status, body = await world.ask("/host/info", world.there.id)
        assert (status, body["code"]) == (501, 1010)
        assert "hardware.share" in body["message"]
        assert (await world.ask("/peer", world.there.id))[0] == 200
    async with open_test_host() as host:
        assert await nodes_of(host, EXAMPLE, share_host_info=False).host_info_of(host.id) == EXAMPLE


@QUERIES
async def test_a_peer_of_nobody_is_said_at_once(path: str) -> None:
    async with a_world() as world:
        began = trio.current_time()
        status, body = await world.ask(path, PEER_OF_NOBODY)
        assert (status, body["code"]) == (404, 1005)
        assert trio.current_time() - began < 5


@QUERIES
async def test_a_peer_that_has_died(path: str) -> None:
    async with a_world() as world:
        async with open_test_host() as dead:
            await world.here.connect(full_address(dead))
        status, body = await world.ask(path, dead.id)
        assert (status, body["code"]) == (504, 1004)


Answering = Callable[[Stream], Awaitable[None]]


async def die(stream: Stream) -> None:
    await stream.receive_some()
    await stream.send_all(control.encode_answer(control.NODE_INFO, a_node("x"))[:9])
    stream.reset()


async def hang_up(stream: Stream) -> None:
    await stream.receive_some()
    await stream.send_all(b"\x20\x1a")  # and 31 bytes are missing


async def junk(stream: Stream) -> None:
    await stream.send_all(encode_frame(b"\xff\xfe junk \x00"))


async def too_much(stream: Stream) -> None:
    await stream.send_all(encode_frame(bytes(2_000_000))[:64])
    await trio.sleep_forever()


async def too_many(stream: Stream) -> None:
    disks = pb.ControlResponse(host_info=pb.HostInfo(disk=[pb.Disk()] * 5000))
    nodes = pb.ControlResponse(node_info=pb.NodeInfo(protocols=["x"] * 5000))
    asked = await stream.receive_some()
    question, _ = control.decode_request(asked[1:])
    answer = disks if question is control.HOST_INFO else nodes
    await stream.send_all(encode_frame(answer.SerializeToString()))


async def something_else(stream: Stream) -> None:
    await stream.send_all(control.encode_answer(control.PROJECTS, []))


async def busy(stream: Stream) -> None:
    await stream.send_all(control.encode_failure(Busy("come\x1b[2J back", retry_after=3)))


def a_node(name: str) -> NodeInfo:
    return NodeInfo(cast("Any", name), "aicn/0.0.1", "v", (), ())


@QUERIES
@pytest.mark.parametrize(
    ("answering", "expected"),
    [
        (die, Unreachable),
        (hang_up, Unreachable),
        (junk, ProtocolViolation),
        (too_much, ProtocolViolation),
        (too_many, ProtocolViolation),
        (something_else, ProtocolViolation),
        (busy, Busy),
    ],
)
async def test_peers_that_answer_as_they_should_not(path: str, answering: Answering, expected: type[AicnError]) -> None:
    codes = {Unreachable: (504, 1004), ProtocolViolation: (500, 1003), Busy: (503, 1006)}
    async with a_world() as world:
        world.there.serve(control.PROTOCOL, cast("Any", answering))
        status, body = await world.ask(path, world.there.id)
        assert (status, body["code"]) == codes[expected]
        assert world.there.id in body["message"] or expected is Busy
        assert body["message"].isprintable()
        assert "data" not in body


async def test_a_peer_that_says_it_is_another() -> None:
    async with a_world() as world:

        async def impostor(stream: Stream) -> None:
            await stream.send_all(control.encode_answer(control.NODE_INFO, a_node(PEER_OF_NOBODY)))

        world.there.serve(control.PROTOCOL, cast("Any", impostor))
        with pytest.raises(ProtocolViolation, match=f"peer {world.there.id} says that it is {PEER_OF_NOBODY}"):
            await world.asker.info_of(world.there.id)


@QUERIES
async def test_a_peer_that_keeps_silent(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_ASK_S", 0.2)
    async with a_world() as world:

        async def silent(stream: Stream) -> None:
            await trio.sleep_forever()

        world.there.serve(control.PROTOCOL, cast("Any", silent))
        status, body = await world.ask(path, world.there.id)
        assert (status, body["code"]) == (504, 1004)
        assert "has not answered" in body["message"]


async def test_a_peer_that_does_not_speak_the_protocol() -> None:
    async with open_test_host() as here, open_test_host() as there:
        await here.connect(full_address(there))
        asker = nodes_of(here, OWN_HOST)
        with pytest.raises(Unsupported):
            await asker.info_of(there.id)


async def test_questions_in_a_row_go_on_after_one_that_is_not_known() -> None:
    async with a_world() as world:
        stream = await world.here.open_stream(world.there.id, control.PROTOCOL)
        reader = FrameReader(control.RESPONSE_FRAME_BYTES)

        async def ask(frame: bytes) -> bytes:
            await stream.send_all(frame)
            while (answer := reader.next_frame()) is None:
                data = await stream.receive_some()
                assert data
                reader.feed(data)
            return answer

        with trio.fail_after(10):
            for _ in range(3):
                answer = await ask(control.encode_request(control.HOST_INFO, None))
                assert control.decode_answer(control.HOST_INFO, answer) == EXAMPLE
                with pytest.raises(Unsupported):
                    control.decode_answer(control.NODE_INFO, await ask(b"\x02\x7a\x00"))
                answer = await ask(control.encode_request(control.NODE_INFO, None))
                assert control.decode_answer(control.NODE_INFO, answer).peer_id == world.there.id
            with pytest.raises(ProtocolViolation):
                control.decode_answer(control.NODE_INFO, await ask(b"\x02\xff\xff"))
            assert await stream.receive_some() == b""
