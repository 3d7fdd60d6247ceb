"""Broken HTTP by the thousand: a connection may end, nothing else may happen."""

from __future__ import annotations

import json
import logging
import random

import pytest
import trio

from aicn.domain.inference import Kind
from aicn.domain.offers import OfferedModel, OfferedProject
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.http import Served, serving
from tests.fakes.node import OWN, FakeNode

CHAT = json.dumps({"node_id": OWN, "project": "p", "model": "m", "messages": [{}], "stream": True}).encode()
SEEDS = [
    b"GET /api/v0/id HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"POST /api/v0/chat/completion HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(CHAT) + CHAT,
    b"POST /api/v0/chat/completion HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHAT), CHAT),
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(CHAT) + CHAT,
    b"GET /v1/models/p/%6d HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer x\r\n\r\n",
    b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    b"HEAD /readyz HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\norigin: http://x\r\n\r\n",
    b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
]
CONNECTIONS = 1000


def mutated(chance: random.Random) -> bytes:
    """A few requests in a row, damaged in a few places."""
    raw = bytearray(b"".join(chance.choices(SEEDS, k=chance.randint(1, 4))))
    for _ in range(chance.choice([0, 0, 1, 2, 5])):
        at = chance.randrange(len(raw))
        match chance.randrange(4):
            case 0:
                raw[at] = chance.randrange(256)
            case 1:
                del raw[at + 1 : at + chance.randrange(20)]
            case 2:
                raw[at:at] = chance.randbytes(chance.randrange(5))
            case _:
                del raw[at + 1 :]
    return bytes(raw)


async def annoy(served: Served, chance: random.Random) -> None:
    raw = mutated(chance)
    async with served.client() as client:
        try:
            while raw:
                size = chance.choice([1, 50, 10_000])
                await client.send(raw[:size])
                raw = raw[size:]
            if chance.random() < 0.5:
                await client.stream.send_eof()
            with trio.move_on_after(chance.choice([0, 0.005])):
                while await client.stream.receive_some():
                    pass
        except trio.BrokenResourceError:
            return  # cut by the server: its right


@pytest.mark.parametrize("seed", [1, 2])
async def test_broken_http_breaks_nothing(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    fake = FakeNode()
    fake.inference.script = lambda _: ScriptedAnswer([b"data: 1\n\n"] * 3)
    fake.offer(OfferedProject("p", (OfferedModel("m", Kind.CHAT),)))
    async with serving(fake, within_s=100) as served:
        async with trio.open_nursery() as nursery:

            async def worker(chance: random.Random) -> None:
                for _ in range(CONNECTIONS // 10):
                    await annoy(served, chance)

            for number in range(10):
                nursery.start_soon(worker, random.Random(seed * 1000 + number))
        assert (await served.request("GET", "/healthz")).status == 200
        while served.app.at_work:
            await trio.sleep(0.01)
    assert caplog.text == ""
