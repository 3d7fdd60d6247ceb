"""What one client, or a crowd of slow ones, may take from the others."""

from __future__ import annotations

import json

import pytest
import trio

from aicn.config.schema import Config, Http
from aicn.gateway import clients, exchange, server
from aicn.gateway.connection import Deadlines
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.http import Client, Reply, Served, serving
from tests.fakes.node import OWN, FakeNode

CHAT = {"node_id": OWN, "project": "p", "model": "m", "messages": [{"role": "user"}]}
PATH = "/api/v0/chat/completion"
GOOD = b'{"choices":[{}]}'
HEADS_THAT_TRICKLE = 200
BODIES_THAT_TRICKLE = 200


def holding(hold: trio.Event, **http: int) -> FakeNode:
    fake = FakeNode(Config(http=Http(**http)))
    fake.inference.script = lambda _: ScriptedAnswer([hold, GOOD])
    return fake


@pytest.fixture
def loopback_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients on loopback are clients like any other: there is nowhere else to connect from in a test."""
    for module in (exchange, server):
        monkeypatch.setattr(module, "client_of", lambda host: f"client {host}")


async def until_at_work(served: Served, requests: int) -> None:
    while len(served.fake.inference.requests) < requests:
        await trio.sleep(0.001)


def is_busy(reply: Reply, code: int, says: str) -> bool:
    return (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, code, "1") and says in reply.json[
        "message"
    ]


@pytest.mark.usefixtures("loopback_counts")
async def test_one_client_does_not_take_all_requests() -> None:
    hold = trio.Event()
    async with serving(holding(hold, requests_per_client=2)) as served:
        async with served.client() as one, served.client() as two:
            await one.ask("POST", PATH, json.dumps(CHAT).encode())
            await two.ask("POST", PATH, json.dumps(CHAT).encode())
            await until_at_work(served, 2)
            assert is_busy(await served.request("POST", PATH, CHAT), 1006, "http.requests_per_client")
            assert (await served.request("GET", "/healthz")).status == 200
            assert (await another_client(served)).status == 200
            hold.set()
            assert (await one.reply()).status == (await two.reply()).status == 200
            assert (await one.request("GET", "/api/v0/id")).status == 200


async def another_client(served: Served) -> Reply:
    """What a client with another address is answered."""
    port = int(served.address.rpartition(":")[2])
    client = Client(await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.2"))
    try:
        return await client.request("GET", "/api/v0/id")
    finally:
        await client.aclose()


async def test_loopback_may_take_all_requests() -> None:
    hold = trio.Event()
    async with serving(holding(hold, requests=3, requests_per_client=1)) as served, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(served.request, "POST", PATH, CHAT)
        await until_at_work(served, 3)
        assert is_busy(await served.request("POST", PATH, CHAT), 1006, "http.requests allows")
        hold.set()


@pytest.mark.usefixtures("loopback_counts")
async def test_one_client_does_not_take_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SPARE_PER_CLIENT", 0)
    hold = trio.Event()
    async with serving(holding(hold, requests_per_client=2)) as served:
        async with served.client() as idle, served.client() as busy:
            assert (await idle.request("GET", "/healthz")).status == 200
            await busy.ask("POST", PATH, json.dumps(CHAT).encode())
            await until_at_work(served, 1)
            async with served.client() as third:
                assert (await third.request("GET", "/healthz")).status == 200
                assert await idle.at_end()  # it was idle for longest
                await third.ask("POST", "/api/v0/swarm/connect", b"{", {"content-length": "10"})
                while served.app.at_work < 2:
                    await trio.sleep(0.001)
                async with served.client() as fourth:
                    assert await fourth.at_end()  # none of its own is idle
                assert (await another_client(served)).status == 200
            hold.set()
            assert (await busy.reply()).status == 200


async def test_large_bodies_share_a_room() -> None:
    hold = trio.Event()
    fake = holding(hold, body_bytes=2**20, bodies_bytes=2**20)
    large = json.dumps(CHAT | {"pad": "x" * 700_000}).encode()
    async with serving(fake) as served, served.client() as first:
        await first.ask("POST", PATH, large)
        await until_at_work(served, 1)
        assert served.app.bodies.held == len(large)
        refused = await served.request("POST", PATH, large)
        assert is_busy(refused, 1006, "large requests")
        small = json.dumps(CHAT | {"pad": "x" * (clients.LITTLE - 1000)}).encode()
        async with served.client() as second:
            await second.ask("POST", PATH, small)
            await until_at_work(served, 2)
            hold.set()
            assert (await second.reply()).status == (await first.reply()).status == 200
        while served.app.bodies.held:
            await trio.sleep(0.001)
        assert (await served.request("POST", PATH, large)).status == 200


async def test_the_room_is_given_back_by_clients_that_leave_and_bodies_that_are_refused() -> None:
    async with serving(FakeNode(Config(http=Http(body_bytes=2**20)))) as served:
        async with served.client() as leaving:
            await leaving.ask("POST", PATH, b"x" * 100_000, {"content-length": "500000"})
            while served.app.bodies.held < 100_000:
                await trio.sleep(0.001)
        chunked = b"POST %s HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n" % PATH.encode()
        reply = await served.raw(chunked + b"110000\r\n" + b"x" * 0x110000)
        assert (reply.status, reply.json["code"]) == (413, 1001)
        while served.app.bodies.held or served.app.at_work:
            await trio.sleep(0.001)


@pytest.mark.parametrize("path", ["/ai/project/register", "/ai/project/peer", "/swarm/connect", "/chat/completion"])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("levels", [64, 900, 300_000])
async def test_deep_bodies(path: str, opening: bytes, levels: int) -> None:
    async with serving() as served:
        reply = await served.request("POST", f"/api/v0{path}", b'{"a":' + opening * levels + b"1")
        assert (reply.status, reply.json["code"]) == (400, 1002)
        closing = b"]" if opening == b"[" else b"}"
        reply = await served.request("POST", f"/api/v0{path}", b'{"a":%s1%s}' % (opening * levels, closing * levels))
        assert (reply.status, reply.json["code"]) == (400, 1002)
        assert "64 levels" in reply.json["message"]


class Crowd:
    """Clients that send one byte at a time, far too slowly."""

    def __init__(self, served: Served, every_s: float) -> None:
        self.cut = 0
        self.longest_s = 0.0
        self._served = served
        self._every_s = every_s

    async def trickle(self, begin: bytes, more: bytes) -> None:
        """Send `begin`, then bytes of `more` until the server has had enough."""
        async with self._served.client() as client, trio.open_nursery() as nursery:
            began = trio.current_time()

            async def send() -> None:
                try:
                    await client.send(begin)
                    while True:
                        await client.send(more)
                        await trio.sleep(self._every_s)
                except trio.BrokenResourceError:
                    return

            nursery.start_soon(send)
            try:
                while await client.stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
            self.cut += 1
            self.longest_s = max(self.longest_s, trio.current_time() - began)
            nursery.cancel_scope.cancel()


async def test_400_slow_clients_are_cut_while_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """With deadlines of 2 s instead of 20: the same code, a tenth of the time."""
    monkeypatch.setattr(exchange, "BODY_S", 2.0)
    fake = FakeNode()
    fake.inference.script = lambda _: ScriptedAnswer([GOOD])
    head = b"POST /api/v0/swarm/connect HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n"
    served_meanwhile = 0
    async with serving(fake, deadlines=Deadlines(head_s=2.0)) as served, trio.open_nursery() as nursery:
        crowd = Crowd(served, every_s=0.1)
        for _ in range(HEADS_THAT_TRICKLE):
            nursery.start_soon(crowd.trickle, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: ", b"x")
        for _ in range(BODIES_THAT_TRICKLE):
            nursery.start_soon(crowd.trickle, head, b"{")
        while served.app.at_work < BODIES_THAT_TRICKLE:
            await trio.sleep(0.01)
        while crowd.cut < HEADS_THAT_TRICKLE + BODIES_THAT_TRICKLE:
            with trio.fail_after(2):
                assert (await served.request("POST", PATH, CHAT)).status == 200
            served_meanwhile += 1
    assert served_meanwhile > 10
    assert crowd.longest_s < 8  # 2 s, 2 s to read the refusal, and a loaded machine
    assert served.app.at_work == 0
