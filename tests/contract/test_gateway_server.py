"""The HTTP server itself: what it does with junk, slowness, crowds, and the end."""

from __future__ import annotations

import json
import socket

import pytest
import trio
from trio.testing import MockClock

from aicn.config.schema import Config, Http
from aicn.errors import StartupError
from aicn.gateway import server
from aicn.gateway.connection import HEAD_BYTES, HEADERS, PIPELINED_BYTES, Deadlines
from aicn.gateway.exchange import BODY_S
from aicn.gateway.server import address_of, bind
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.http import Client, serving
from tests.fakes.node import OWN, FakeNode

GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
CHAT = json.dumps({"node_id": OWN, "project": "p", "model": "m", "messages": [{"role": "user"}]}).encode()
GOOD = b'{"choices":[{}]}'


def holding(hold: trio.Event) -> FakeNode:
    fake = FakeNode()
    fake.inference.script = lambda _: ScriptedAnswer([hold, GOOD])
    return fake


def test_bind() -> None:
    with bind("127.0.0.1:0") as listener:
        taken = address_of(listener)
        with pytest.raises(
            StartupError, match=f"^{taken} is in use by another process; change http.listen or stop it$"
        ):
            bind(taken)
    with bind(taken) as listener:  # free again at once
        assert address_of(listener) == taken


@pytest.mark.parametrize("listen", ["192.0.2.1:6000", "127.0.0.1:99999", "127.0.0.1", "no.such.host.invalid:1", ":"])
def test_bind_to_what_cannot_be(listen: str) -> None:
    with pytest.raises(StartupError, match=r"change http\.listen"):
        bind(listen)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_bind_ipv6() -> None:
    with bind("[::1]:0") as listener:
        assert address_of(listener).startswith("[::1]:")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        (b"GET /h\xc3\xa9 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * HEAD_BYTES, 431),
        (b"GET /" + b"x" * HEAD_BYTES, 431),
        (b"POST /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST /healthz HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        (b"POST /api/v0/swarm/connect HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n" + b"x:y\r\n" * HEADERS + b"\r\n", 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),  # HTTP/2 is not spoken
        (b"GET /healthz HTTP/0.9\r\nhost: localhost\r\n\r\n", 505),
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n" + b"x:y\r\n" * (HEADERS - 1) + b"\r\n", 200),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nupgrade: h2c\r\nconnection: upgrade\r\nhttp2-settings: \r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", 200),
    ],
)  # fmt: skip
async def test_raw_requests(raw: bytes, status: int) -> None:
    async with serving() as served:
        async with served.client() as client:
            await client.send(raw)
            reply = await client.reply()
            assert reply.status == status
            if status >= 400:
                assert await client.at_end()
        assert (await served.request("GET", "/healthz")).status == 200


async def test_keep_alive_and_pipelining() -> None:
    async with serving() as served, served.client() as client:
        await client.send(GET * 50 + GET[:20])
        for _ in range(50):
            assert (await client.reply()).status == 200
        await client.send(GET[20:])
        assert (await client.reply()).status == 200
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert (await client.reply()).headers["connection"] == "close"
        assert await client.at_end()


async def test_requests_in_single_bytes() -> None:
    async with serving() as served, served.client() as client:
        body = b'{"node_addr":"/p2p/x"}'
        raw = b"POST /api/v0/swarm/connect HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        raw += b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        for at in range(len(raw)):
            await client.send(raw[at : at + 1])
        assert (await client.reply()).status == 200
        assert served.fake.peers.dialled == ["/p2p/x"]


async def test_too_much_sent_ahead_ends_the_connection() -> None:
    fake = holding(trio.Event())
    async with serving(fake) as served, served.client() as client:
        await client.ask("POST", "/api/v0/chat/completion", CHAT)
        await client.send(b"x" * (PIPELINED_BYTES + 70_000))
        assert await client.at_end()


async def test_five_hundred_connections_at_once() -> None:
    hold = trio.Event()
    fake = holding(hold)
    statuses = []
    async with serving(fake) as served, trio.open_nursery() as nursery:

        async def ask() -> None:
            statuses.append((await served.request("POST", "/api/v0/chat/completion", CHAT)).status)

        for _ in range(500):
            nursery.start_soon(ask)
        while len(fake.inference.requests) < 500:
            await trio.sleep(0.01)
        hold.set()
    assert statuses == [200] * 500


async def test_a_full_server_gives_up_what_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SPARE", 2)
    hold = trio.Event()
    async with serving(FakeNode(Config(http=Http(requests=1)))) as served:
        served.fake.inference.script = lambda _: ScriptedAnswer([hold, GOOD])
        async with served.client() as busy, served.client() as old, served.client() as young:
            assert (await old.request("GET", "/healthz")).status == 200
            assert (await young.request("GET", "/healthz")).status == 200
            await busy.ask("POST", "/api/v0/chat/completion", CHAT)
            while not served.fake.inference.requests:
                await trio.sleep(0.001)
            assert (await served.request("GET", "/healthz")).status == 200
            assert await old.at_end()
            assert (await young.request("GET", "/healthz")).status == 200
            hold.set()
            assert (await busy.reply()).status == 200


class TestDeadlines:
    """On a mock clock that gives the sockets a moment of real time before it jumps."""

    @pytest.fixture
    def clock(self) -> MockClock:
        return MockClock(autojump_threshold=0.02)

    async def ends_after(self, client: Client) -> float:
        began = trio.current_time()
        assert await client.at_end()
        return trio.current_time() - began

    @pytest.mark.parametrize("sent", [b"", GET[:10]])
    async def test_a_head_that_does_not_come(self, clock: MockClock, sent: bytes) -> None:
        async with serving(within_s=1000) as served, served.client() as client:
            await client.send(sent)
            assert await self.ends_after(client) == pytest.approx(Deadlines().head_s, abs=1)

    async def test_a_head_that_trickles(self, clock: MockClock) -> None:
        async with serving(within_s=1000) as served, served.client() as client:
            assert (await client.request("GET", "/healthz")).status == 200
            began = trio.current_time()
            with pytest.raises(trio.BrokenResourceError):
                for byte in b"GET /" + b"x" * 1000:
                    await trio.sleep(5)
                    await client.send(bytes([byte]))
            assert trio.current_time() - began < 5 + Deadlines().head_s + 11

    async def test_an_idle_connection(self, clock: MockClock) -> None:
        async with serving(within_s=1000) as served, served.client() as client:
            assert (await client.request("GET", "/healthz")).status == 200
            assert await self.ends_after(client) == pytest.approx(Deadlines().idle_s, abs=1)

    @pytest.mark.parametrize("interval_s", [1, 1000])
    async def test_a_body_that_trickles(self, clock: MockClock, interval_s: float) -> None:
        async with serving(within_s=1000) as served, served.client() as client, trio.open_nursery() as nursery:
            await client.ask("POST", "/api/v0/swarm/connect", b"{", {"content-length": "1000"})

            async def trickle() -> None:
                while True:
                    await trio.sleep(interval_s)
                    await client.send(b" ")

            nursery.start_soon(trickle)
            began = trio.current_time()
            reply = await client.reply()
            assert (reply.status, reply.json["code"], reply.headers["connection"]) == (408, 1004, "close")
            assert trio.current_time() - began == pytest.approx(BODY_S, abs=2)
            nursery.cancel_scope.cancel()

    async def test_a_large_body_on_a_slow_line(self, clock: MockClock) -> None:
        async with serving(within_s=1000) as served, served.client() as client:
            body = b'{"node_addr":"/p2p/x","pad":"' + b"x" * 10_000_000 + b'"}'
            await client.ask("POST", "/api/v0/swarm/connect", headers={"content-length": str(len(body))})
            for at in range(0, len(body), 100_000):  # 100 seconds
                await client.send(body[at : at + 100_000])
                await trio.sleep(1)
            assert (await client.reply()).status == 200

    async def test_a_long_answer_is_not_cut(self, clock: MockClock) -> None:
        fake = FakeNode()

        class Slow(ScriptedAnswer):
            async def receive(self):  # type: ignore[no-untyped-def]
                await trio.sleep(600)
                return await super().receive()

        fake.inference.script = lambda _: Slow([b"data: 1\n\n"] * 5)
        async with serving(fake, within_s=10_000) as served, served.client() as client:
            await client.ask("POST", "/api/v0/chat/completion", CHAT[:-1] + b',"stream":true}')
            reply = await client.reply()
            assert (reply.complete, reply.body) == (True, b"data: 1\n\n" * 5)


class TestShutdown:
    async def test_running_requests_finish_and_idle_connections_end_at_once(self) -> None:
        hold = trio.Event()
        async with serving(holding(hold)) as served:
            async with served.client() as idle, served.client() as fresh, served.client() as running:
                assert (await idle.request("GET", "/healthz")).status == 200
                await fresh.send(GET[:10])
                await running.ask("POST", "/api/v0/chat/completion", CHAT)
                while not served.fake.inference.requests:
                    await trio.sleep(0.001)
                served.shutdown.set()
                with trio.fail_after(1):
                    assert await idle.at_end()
                    assert await fresh.at_end()
                with pytest.raises(OSError, match="connect"):
                    await Client.connect(served.address)
                assert not served.ended.is_set()
                hold.set()
                reply = await running.reply()
                assert (reply.status, reply.headers["connection"]) == (200, "close")
                assert await running.at_end()
            with trio.fail_after(1):
                await served.ended.wait()

    async def test_what_does_not_finish_is_cut_and_says_nothing_of_an_end(self) -> None:
        answer = ScriptedAnswer([b"data: 1\n\n", trio.Event()])
        fake = FakeNode()
        fake.inference.script = lambda _: answer
        async with serving(fake, grace_s=0.2) as served, served.client() as client:
            await client.ask("POST", "/api/v0/chat/completion", CHAT[:-1] + b',"stream":true}')
            await client.head()
            await client.piece()
            began = trio.current_time()
            served.shutdown.set()
            with pytest.raises(EOFError):
                await client.piece()
            await served.ended.wait()
            assert 0.15 < trio.current_time() - began < 1
            assert answer.closed

    async def test_nothing_to_finish(self) -> None:
        async with serving(grace_s=60) as served:
            assert (await served.request("GET", "/healthz")).status == 200
            served.shutdown.set()
            with trio.fail_after(1):
                await served.ended.wait()
