"""Answers over a real socket: order, hang-up at every stage, back-pressure."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from aicn.domain.ids import PeerId
from aicn.domain.inference import Chunk, InferenceRequest
from aicn.gateway.connection import Deadlines
from aicn.services.ports import Answer
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.http import Client, Served, serving
from tests.fakes.node import OWN, FakeNode

CHAT = {"node_id": OWN, "project": "p", "model": "m", "messages": [{"role": "user"}]}
STREAM = CHAT | {"stream": True}
GOOD = b'{"choices":[{}]}'


def answering(answer: Answer) -> FakeNode:
    fake = FakeNode()
    fake.inference.script = lambda _: answer
    return fake


async def ask(client: Client, body: dict[str, object] = STREAM) -> None:
    await client.ask("POST", "/api/v0/chat/completion", json.dumps(body).encode())


async def closed(answer: ScriptedAnswer, within_s: float = 1.0) -> bool:
    with trio.move_on_after(within_s):
        while not answer.closed:
            await trio.sleep(0.005)
    return answer.closed


async def test_each_piece_leaves_at_once_as_it_is() -> None:
    gates = [trio.Event() for _ in range(3)]
    pieces = [b"data: 1\n\n", "data: é\n\ndata: 3\n\n".encode(), b"data: [DONE]\n\n"]
    answer = ScriptedAnswer([pieces[0], gates[0], pieces[1], gates[1], pieces[2], gates[2]])
    async with serving(answering(answer)) as served, served.client() as client:
        await ask(client)
        head = await client.head()
        assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
        assert (head.headers["cache-control"], head.headers["x-accel-buffering"]) == ("no-cache", "no")
        assert head.headers["x-aicn-node"] == OWN
        for gate, piece in zip(gates, pieces, strict=True):
            assert await client.piece() == piece  # the next one exists only when this one has been read
            gate.set()
        assert await client.piece() == b""
        assert await closed(answer)
        assert (await client.request("GET", "/healthz")).status == 200  # on the same connection


async def test_the_head_waits_for_the_first_piece() -> None:
    gate = trio.Event()
    async with serving(answering(ScriptedAnswer([gate, b"data: 1\n\n"]))) as served, served.client() as client:
        await ask(client)
        with trio.move_on_after(0.1) as early:
            await client.head()
        assert early.cancelled_caught
        gate.set()
        assert (await client.head()).status == 200


async def test_a_stream_without_an_event_is_an_error() -> None:
    async with serving(answering(ScriptedAnswer([]))) as served:
        reply = await served.request("POST", "/api/v0/chat/completion", STREAM)
        assert (reply.status, reply.json["code"]) == (502, 1017)


class Opening:
    """An inference that stays in `open` until it is cancelled."""

    def __init__(self) -> None:
        self.began, self.cancelled = trio.Event(), trio.Event()

    async def open(self, peer_id: PeerId, request: InferenceRequest) -> Answer:
        self.began.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()


@asynccontextmanager
async def opening() -> AsyncIterator[tuple[Served, Opening]]:
    fake, inference = FakeNode(), Opening()
    fake.inference = inference  # type: ignore[assignment]
    async with serving(fake) as served:
        yield served, inference


@pytest.mark.parametrize("goodbye", ["close", "reset", "half"])
@pytest.mark.parametrize(
    "more", [b"", b"\r\n", b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"], ids=["", "crlf", "pipelined"]
)
async def test_a_hang_up_while_the_node_is_asked(goodbye: str, more: bytes) -> None:
    async with opening() as (served, inference), served.client() as client:
        await ask(client)
        await inference.began.wait()
        await client.send(more or b"\r\n"[:0])
        if goodbye == "half":
            await client.stream.send_eof()
        else:
            if goodbye == "reset":
                client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await client.aclose()
        with trio.fail_after(1):
            await inference.cancelled.wait()
        assert (await served.request("GET", "/healthz")).status == 200


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "streamed"])
@pytest.mark.parametrize("before", [0, 1, 3])
async def test_a_hang_up_between_pieces(before: int, body: dict[str, object]) -> None:
    answer, reached = ScriptedAnswer([b"data: 1\n\n"] * before + [trio.Event()]), trio.Event()
    fake = answering(answer)
    async with serving(fake) as served, served.client() as client:
        await ask(client, body)
        if body is STREAM and before:
            await client.head()
            for _ in range(before):
                await client.piece()
        while not fake.inference.requests:
            await trio.sleep(0.001)
        assert not answer.closed
        await client.aclose()
        assert await closed(answer)
        reached.set()
        while served.app.at_work:
            await trio.sleep(0.001)


@pytest.mark.parametrize("size", [1, 20, 60, 100])
async def test_a_hang_up_inside_the_request(size: int) -> None:
    async with serving() as served:
        async with served.client() as client:
            raw = b"POST /api/v0/chat/completion HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n" + b"x" * 40
            await client.send(raw[:size])
            await trio.sleep(0.02)
        while served.app.at_work:
            await trio.sleep(0.001)
        assert not served.fake.inference.requests
        assert (await served.request("GET", "/healthz")).status == 200


class Endless(Answer):
    """As many events as anyone takes."""

    def __init__(self, event: bytes) -> None:
        self._event = Chunk(event)
        self.taken = 0
        self.closed = False

    async def receive(self) -> Chunk:
        await trio.lowlevel.checkpoint()
        self.taken += 1
        return self._event

    async def aclose(self) -> None:
        self.closed = True


@asynccontextmanager
async def deaf_client(served: Served) -> AsyncIterator[Client]:
    """A client with a small window that reads nothing by itself."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    host, port = served.address.split(":")
    await sock.connect((host, int(port)))
    client = Client(trio.SocketStream(sock))
    try:
        yield client
    finally:
        await client.aclose()


async def settled(answer: Endless) -> int:
    """How much was taken, once no more is."""
    before = -1
    while before != answer.taken:
        before = answer.taken
        await trio.sleep(0.1)
    return before


async def test_a_client_that_does_not_read_stops_the_model() -> None:
    answer = Endless(b"data: " + b"x" * 10_000 + b"\n\n")
    async with serving(answering(answer)) as served, deaf_client(served) as client:
        await ask(client)
        stopped_at = await settled(answer)
        assert 0 < stopped_at < 600  # 6 MB: what the kernel's buffers on both sides hold at most
        assert (await served.request("GET", "/healthz")).status == 200
        await client.head()
        for _ in range(stopped_at * 2):
            await client.piece()
        assert answer.taken > stopped_at  # and it goes on when the client does
        assert not answer.closed


async def test_a_client_that_never_reads_is_given_up() -> None:
    answer = Endless(b"data: " + b"x" * 10_000 + b"\n\n")
    async with serving(answering(answer), deadlines=Deadlines(stall_s=0.2)) as served, deaf_client(served) as client:
        await ask(client)
        with trio.fail_after(5):
            while not answer.closed:
                await trio.sleep(0.01)


async def test_a_deaf_client_that_leaves_is_noticed() -> None:
    answer = Endless(b"data: " + b"x" * 10_000 + b"\n\n")
    async with serving(answering(answer)) as served:
        async with deaf_client(served) as client:
            await ask(client)
            await settled(answer)
        with trio.fail_after(1):
            while not answer.closed:
                await trio.sleep(0.005)


async def test_a_large_plain_answer_to_a_slow_client() -> None:
    big = b'{"choices":["' + b"x" * 5_000_000 + b'"]}'
    async with serving(answering(ScriptedAnswer([big]))) as served, deaf_client(served) as client:
        await ask(client, CHAT)
        await trio.sleep(0.05)
        reply = await client.reply()
        assert (reply.complete, reply.json["data"]["choices"][0][:3], len(reply.body)) == (True, "xxx", len(big) + 33)
