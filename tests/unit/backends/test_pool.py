"""The HTTP client of endpoints, against servers on loopback that do everything a server may and may not do."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from aicn.backends import pool as pool_module
from aicn.backends.pool import Pool, open_pool
from aicn.errors import ModelFailed
from tests.fakes.endpoint import Connection, Script, Scripted, answers, http_chunk, open_scripted, response, stream_head

OK = response(200, b"fine", "text/plain")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def pool_and_server(*scripts: Script, host: str = "127.0.0.1") -> AsyncIterator[tuple[Pool, Scripted]]:
    async with open_scripted(*scripts, host=host) as server, open_pool(connect_s=1) as pool:
        yield pool, server


async def post(pool: Pool, url: str, body: bytes = b"{}", *, within: float = 2) -> bytes:
    answer = await pool.post(url, headers=[(b"X-Test", b"yes")], body=body, within=within)
    return b"%d " % answer.status + await answer.read(2**30, within=within)


async def fails(pool: Pool, url: str, body: bytes = b"{}") -> str:
    with pytest.raises(ModelFailed) as caught:
        await post(pool, url, body)
    return caught.value.message


async def test_the_request_as_it_goes_out() -> None:
    async with pool_and_server(answers(OK)) as (pool, server):
        assert await post(pool, server.url("/v1/x?key=a%20b&z="), b'{"a": 1}') == b"200 fine"
    request = server.requests[0]
    assert (request.method, request.target, request.body) == ("POST", "/v1/x?key=a%20b&z=", b'{"a": 1}')
    assert request.headers == {
        "host": f"127.0.0.1:{server.port}",
        "accept-encoding": "identity",
        "x-test": "yes",
        "content-length": "8",
    }


async def test_user_and_password_become_basic_authentication_and_are_never_shown() -> None:
    async with pool_and_server(answers(OK), answers(b"junk\r\n\r\n")) as (pool, server):
        url = server.url().replace("//", "//ann%40x:s%3Acret@")
        await post(pool, url)
        assert server.requests[0].headers["authorization"] == "Basic YW5uQHg6czpjcmV0"
        pool.close()
        message = await fails(pool, url)
        assert "cret" not in message
        assert "ann" not in message


async def test_a_connection_is_used_again_and_the_last_used_first() -> None:
    async with pool_and_server(answers(OK)) as (pool, server):
        for _ in range(5):
            assert await post(pool, server.url()) == b"200 fine"
        assert server.connections == 1
        held = await pool.post(server.url(), headers=[], body=b"", within=2)
        assert await post(pool, server.url()) == b"200 fine"
        assert server.connections == 2
        held.close()


@pytest.mark.parametrize(
    "raw",
    [
        CHUNKED + b"".join(map(http_chunk, [b"fi", b"ne", b""])),
        CHUNKED + b"2;ext=1\r\nfi\r\n2\r\nne\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
    ],
    ids=["chunked", "extensions and trailers", "informational"],
)
@pytest.mark.parametrize("size", [1, 65536])
async def test_bodies_after_which_the_connection_goes_on(raw: bytes, size: int) -> None:
    pieces = [raw[i : i + size] for i in range(0, len(raw), size)]

    async def script(connection: Connection) -> None:
        while await connection.receive_request() is not None:
            for piece in pieces:
                await connection.send(piece)

    async with pool_and_server(script) as (pool, server):
        assert [await post(pool, server.url()) for _ in range(2)] == [b"200 fine"] * 2
        assert server.connections == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK\r\n\r\nfine",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine",
        b"HTTP/1.1 200 OK\r\n\r\nfine",
        OK + b"HTTP/1.1 200 OK\r\n\r\nunasked",
    ],
    ids=["1.0", "close", "until the end", "surplus"],
)
async def test_bodies_after_which_it_does_not(raw: bytes) -> None:
    async with pool_and_server(answers(raw)) as (pool, server):
        assert [await post(pool, server.url()) for _ in range(2)] == [b"200 fine"] * 2
        assert server.connections == 2


async def test_everything_that_one_read_brought_is_one_piece() -> None:
    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(CHUNKED)
        await connection.send(b"".join(http_chunk(b"%d " % i) for i in range(100)))
        await connection.wait_closed()

    async with pool_and_server(script) as (pool, server):
        answer = await pool.post(server.url(), headers=[], body=b"", within=2)
        await trio.testing.wait_all_tasks_blocked()
        assert (await answer.receive_some(within=2)).count(b" ") == 100
        answer.close()


async def test_a_kept_connection_that_the_server_closed_is_not_used() -> None:
    closed = trio.Event()

    async def once(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(OK)
        await connection.stream.aclose()
        closed.set()

    async with pool_and_server(once) as (pool, server):
        for _ in range(2):
            assert await post(pool, server.url()) == b"200 fine"
            await closed.wait()
        assert len(server.requests) == 2


async def test_a_kept_connection_that_closes_under_a_request_is_replaced_once() -> None:
    async def once(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(OK)
        await connection.receive_request()  # and closes without a byte

    async with pool_and_server(once) as (pool, server):
        assert await post(pool, server.url(), b"1") == b"200 fine"
        assert await post(pool, server.url(), b"2") == b"200 fine"
        assert [request.body for request in server.requests] == [b"1", b"2", b"2"]


@pytest.mark.parametrize("first_byte", [b"", b"H"], ids=["fresh", "after a byte"])
async def test_a_request_is_never_repeated_otherwise(first_byte: bytes) -> None:
    async def script(connection: Connection) -> None:
        if first_byte:
            await connection.receive_request()
            await connection.send(OK)
        await connection.receive_request()
        await connection.send(first_byte)

    async with pool_and_server(script) as (pool, server):
        if first_byte:
            await post(pool, server.url())
        message = await fails(pool, server.url())
        assert message.startswith(f"the model endpoint http://127.0.0.1:{server.port} ")
        assert message.endswith("broke off its answer" if first_byte else "closed the connection without an answer")
        assert len(server.requests) == (2 if first_byte else 1)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "something that is not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "something that is not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 30_000, "something that is not HTTP/1.1"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "something that is not HTTP/1.1"),
        (CHUNKED + b"zz\r\nfine\r\n", "something that is not HTTP/1.1"),
        (CHUNKED + http_chunk(b"fine"), "broke off its answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nfine", "broke off its answer"),
    ],
    ids=["no HTTP", "bad length", "endless head", "101", "bad chunk", "chunks cut off", "length cut off"],
)
async def test_answers_that_are_none(raw: bytes, said: str) -> None:
    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(raw)
        if said.startswith("something"):
            await connection.wait_closed()

    async with pool_and_server(script) as (pool, server):
        message = await fails(pool, server.url())
    assert said in message
    assert "fine" not in message


async def test_what_came_well_is_handed_on_before_the_break_is_told() -> None:
    async with pool_and_server(answers(CHUNKED + http_chunk(b"fine") + b"zz\r\n", then_wait=True)) as (pool, server):
        answer = await pool.post(server.url(), headers=[], body=b"", within=2)
        assert await answer.receive_some(within=2) == b"fine"
        with pytest.raises(ModelFailed, match=r"not HTTP/1\.1"):
            await answer.receive_some(within=2)
        await server.hung_up.wait()


async def test_a_reset_says_so() -> None:
    async def script(connection: Connection) -> None:
        await connection.receive_request()
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, 0 s: close() resets
        connection.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with pool_and_server(script) as (pool, server):
        assert (await fails(pool, server.url())).endswith("broke the connection: connection reset by peer")


async def test_nobody_listens() -> None:
    async with open_scripted(answers(OK)) as server:
        pass
    async with open_pool(connect_s=1) as pool:
        url = server.url().replace("//", "//ann:secret@")
        origin = f"http://127.0.0.1:{server.port}"
        assert await fails(pool, url) == f"cannot connect to the model endpoint {origin}: connection refused"


async def test_a_host_that_does_not_answer(autojump_clock: trio.testing.MockClock) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as one, socket.socket() as two:
        for waiting in (one, two):  # the kernel drops further attempts, as a firewall does
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        async with open_pool(connect_s=7) as pool:
            assert "no answer within 7 s" in await fails(pool, f"http://127.0.0.1:{full.getsockname()[1]}/")
            assert trio.current_time() == pytest.approx(7, abs=0.1)


async def test_the_first_byte_has_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.wait_closed()

    async with pool_and_server(script) as (pool, server):
        with pytest.raises(ModelFailed, match="did not begin its answer within 30 s"):
            await post(pool, server.url(), within=30)
        assert trio.current_time() == pytest.approx(30, abs=0.1)
        await server.hung_up.wait()
        assert len(server.requests) == 1


async def test_a_slow_kept_connection_is_not_asked_twice(autojump_clock: trio.testing.MockClock) -> None:
    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(OK)
        await connection.receive_request()
        await connection.wait_closed()

    async with pool_and_server(script) as (pool, server):
        await post(pool, server.url())
        with pytest.raises(ModelFailed, match="within 3 s"):
            await post(pool, server.url(), within=3)
        assert len(server.requests) == 2


async def test_silence_in_the_middle_has_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with pool_and_server(answers(stream_head(), http_chunk(b"fine"), then_wait=True)) as (pool, server):
        answer = await pool.post(server.url(), headers=[], body=b"", within=2)
        assert await answer.receive_some(within=2) == b"fine"
        with pytest.raises(ModelFailed, match="sent nothing for 9 s in the middle of its answer"):
            await answer.receive_some(within=9)
        await server.hung_up.wait()


async def test_cancelling_a_request_closes_its_connection() -> None:
    async with pool_and_server(answers(b"", then_wait=True)) as (pool, server), trio.open_nursery() as nursery:
        nursery.start_soon(post, pool, server.url())
        with trio.fail_after(1):
            while not server.requests:
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await server.hung_up.wait()


async def test_a_cancelled_read_loses_nothing() -> None:
    go_on = trio.Event()

    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(CHUNKED + b"4\r\nfi")
        await go_on.wait()
        await connection.send(b"ne\r\n0\r\n\r\n")

    async with pool_and_server(script) as (pool, server):
        answer = await pool.post(server.url(), headers=[], body=b"", within=2)
        assert await answer.receive_some(within=2) == b"fi"
        with trio.move_on_after(0.01):
            await answer.receive_some(within=2)
        go_on.set()
        assert await answer.read(100, within=2) == b"ne"


async def test_a_long_body_refused_before_it_is_read() -> None:
    async def script(connection: Connection) -> None:
        await connection.stream.receive_some(100)
        await connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        await connection.stream.send_eof()
        await connection.wait_closed()

    async with pool_and_server(script) as (pool, server):
        assert await post(pool, server.url(), bytes(2**22)) == b"413 no!"


async def test_a_long_body_arrives_whole() -> None:
    body = bytes(range(256)) * 2**14
    async with pool_and_server(answers(OK)) as (pool, server):
        assert await post(pool, server.url(), body) == b"200 fine"
    assert server.requests[0].body == body


async def test_reading_stops_over_the_limit() -> None:
    async with pool_and_server(answers(response(200, bytes(10_000)))) as (pool, server):
        answer = await pool.post(server.url(), headers=[], body=b"", within=2)
        assert 100 < len(await answer.read(100, within=2)) <= 10_000
        answer.close()


def redirect(status: int, location: str) -> bytes:
    return response(status, b"moved", "text/plain", f"Location: {location}")


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_on_the_same_origin_is_followed_with_the_body(status: int) -> None:
    async with pool_and_server(answers(redirect(status, "/new?x=1")), answers(OK)) as (pool, server):
        assert await post(pool, server.url().replace("//", "//u:p@"), b"body") == b"200 fine"
    assert [(request.target, request.body) for request in server.requests][1] == ("/new?x=1", b"body")
    assert "authorization" in server.requests[1].headers


@pytest.mark.parametrize(
    ("status", "location", "said"),
    [
        (301, "/new?key=secret", "redirects (status 301) to {origin}/new: register that"),
        (303, "http://u:secret@other.example/new", "redirects (status 303) to http://other.example/new: register that"),
        (307, "http://other.example/", "redirects to http://other.example, which is not the same host and port"),
        (308, "https://127.0.0.1/", "redirects to https://127.0.0.1, which is not the same host and port"),
        (307, "file:///etc/passwd", "redirects (status 307) to what is no http URL"),
        (307, "http://[::1", "redirects (status 307) to what is no http URL"),
        (307, "/v1/chat/completions", "redirects again and again"),
    ],
)
async def test_redirects_that_are_refused(status: int, location: str, said: str) -> None:
    async with pool_and_server(answers(redirect(status, location))) as (pool, server):
        message = await fails(pool, server.url())
        origin = f"http://127.0.0.1:{server.port}"
        assert message == f"the model endpoint {origin} {said.format(origin=origin)}"


async def test_idle_connections_are_closed_in_time(autojump_clock: trio.testing.MockClock) -> None:
    idle = trio.Event()

    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(OK)
        assert await connection.receive_request() is None
        idle.set()

    async with pool_and_server(script) as (pool, server):
        for _ in range(2):
            await post(pool, server.url())
            await idle.wait()
            idle = trio.Event()
        assert 4 <= trio.current_time() <= 15
        assert server.connections == 2


async def test_idle_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_IDLE_PER_ORIGIN", 3)
    async with pool_and_server(answers(OK)) as (pool, server):
        held = [await pool.post(server.url(), headers=[], body=b"", within=2) for _ in range(8)]
        for answer in held:
            assert await answer.read(100, within=2) == b"fine"
        assert [len(kept) for kept in pool._idle.values()] == [3]
        last = await pool.post(server.url(), headers=[], body=b"", within=2)
    assert await last.read(100, within=2) == b"fine"  # the pool is closed: nothing is kept
    assert not pool._idle


async def test_ip6() -> None:
    try:
        async with pool_and_server(answers(OK), host="::1") as (pool, server):
            assert await post(pool, server.url()) == b"200 fine"
            assert server.requests[0].headers["host"] == f"[::1]:{server.port}"
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with pool_and_server(answers(OK)) as (pool, server):
        assert await post(pool, server.url()) == b"200 fine"
