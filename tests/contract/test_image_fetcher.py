"""The fetcher of images against real servers on loopback: where it goes, and where it stops."""

from __future__ import annotations

import os
from pathlib import Path
from socket import SOCK_STREAM
from typing import Any

import pytest
import trio

from aicn.backends.fetcher import ImageFetcher, is_public
from aicn.config.schema import Images
from aicn.errors import ModelFailed
from tests.fakes.endpoint import Connection, Script, answers, http_chunk, open_scripted, response
from tests.fakes.png import draw_png

PNG = draw_png(7)
IMAGE = response(200, PNG, "image/png")
HERE = "http://127.0.0.1:9/v1/images/generations"  # an endpoint on this machine
ELSEWHERE = "http://192.0.2.1/v1/images/generations"  # an endpoint that is not
MOST = 100_000


def fetcher(**images: Any) -> ImageFetcher:
    return ImageFetcher(Images(**images), connect_s=5)


async def fetch(script: Script, *, endpoint: str = HERE, most: int = MOST, **images: Any) -> bytes:
    failure: ModelFailed
    with trio.fail_after(20):
        async with open_scripted(script) as server:
            try:
                return await fetcher(**images).fetch(server.url("/a.png?signed"), endpoint=endpoint, most=most)
            except ModelFailed as error:
                failure = error  # raised where no nursery wraps it
    raise failure


async def test_an_image_at_the_endpoints_own_host() -> None:
    async with open_scripted(answers(IMAGE)) as server:
        assert await fetcher().fetch(server.url("/a.png?x=1"), endpoint=HERE, most=MOST) == PNG
    request = server.requests[0]
    assert (request.method, request.target, request.body) == ("GET", "/a.png?x=1", b"")
    assert set(request.headers) == {"host", "accept", "accept-encoding"}


async def test_the_endpoints_host_may_have_a_name() -> None:
    async with open_scripted(answers(IMAGE)) as server:
        url = server.url("/a.png").replace("127.0.0.1", "localhost")
        assert await fetcher().fetch(url, endpoint=HERE, most=MOST) == PNG
        assert await fetcher().fetch(server.url("/"), endpoint="http://localhost:9/", most=MOST) == PNG


async def test_bodies_of_every_framing_are_read() -> None:
    chunked = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + http_chunk(PNG[:9]) + http_chunk(PNG[9:])
    assert await fetch(answers(chunked + http_chunk(b""))) == PNG

    async def to_the_end(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(b"HTTP/1.0 200 X\r\n\r\n" + PNG)

    assert await fetch(to_the_end) == PNG


@pytest.mark.parametrize("endpoint", [ELSEWHERE, "https://192.0.2.1/"])
async def test_a_private_address_is_not_asked(endpoint: str) -> None:
    async with open_scripted(answers(IMAGE)) as server:
        with pytest.raises(ModelFailed, match="private address"):
            await fetcher().fetch(server.url("/"), endpoint=endpoint, most=MOST)
        assert server.connections == 0
        assert await fetcher(private_hosts=("127.0.0.1",)).fetch(server.url("/"), endpoint=endpoint, most=MOST) == PNG


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"])
async def test_loopback_in_other_words_is_loopback(host: str) -> None:
    with pytest.raises(ModelFailed, match="private address"):
        await fetcher().fetch(f"http://{host}:9/", endpoint=ELSEWHERE, most=MOST)


async def test_the_checked_address_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to something else the second time (DNS rebinding) is resolved once."""
    asked: list[str] = []
    real = trio.socket.getaddrinfo

    async def rebinding(host: Any, port: Any, *rest: Any, **kwargs: Any) -> Any:
        if host == "rebinding.example":
            asked.append(host)
            address = "198.51.100.1" if len(asked) > 1 else "127.0.0.1"
            return [(2, SOCK_STREAM, 6, "", (address, port))]
        return await real(host, port, *rest, **kwargs)

    monkeypatch.setattr(trio.socket, "getaddrinfo", rebinding)
    async with open_scripted(answers(IMAGE)) as server:
        url = server.url("/").replace("127.0.0.1", "rebinding.example")
        assert await fetcher().fetch(url, endpoint=HERE, most=MOST) == PNG
        assert asked == ["rebinding.example"]
        assert server.requests[0].headers["host"] == f"rebinding.example:{server.port}"


async def test_redirects_are_followed_and_checked() -> None:
    async with open_scripted(answers(IMAGE)) as there:
        moved = response(302, b"", "text/plain", f"Location: {there.url('/b.png')}")
        assert await fetch(answers(moved)) == PNG
        async with open_scripted(answers(IMAGE), host="127.0.0.2") as other:
            moved = response(302, b"", "text/plain", f"Location: {other.url('/b.png')}")
            with pytest.raises(ModelFailed, match=r"127\.0\.0\.2:.* private address"):
                await fetch(answers(moved))
            assert other.connections == 0


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://127.0.0.1/", "http://[x", "ftp://a/b"])
async def test_redirects_out_of_http_are_refused(location: str) -> None:
    with pytest.raises(ModelFailed):
        await fetch(answers(response(302, b"", "text/plain", f"Location: {location}")))


async def test_redirects_in_a_circle_end() -> None:
    async with open_scripted(answers(response(302, b"", "text/plain", "Location: /again"))) as server:
        with pytest.raises(ModelFailed, match="again and again"):
            await fetcher().fetch(server.url("/"), endpoint=HERE, most=MOST)
        assert server.connections == 4


async def _endless(connection: Connection) -> None:
    await connection.receive_request()
    await connection.send(b"HTTP/1.1 200 X\r\n\r\n")
    while True:
        await connection.send(bytes(65536))


async def _silent(connection: Connection) -> None:
    await connection.receive_request()
    await connection.wait_closed()


async def _dripping(connection: Connection) -> None:
    await connection.receive_request()
    await connection.send(b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await connection.send(b"x")
        await trio.sleep(0.01)


async def _closing(connection: Connection) -> None:
    await connection.receive_request()


@pytest.mark.parametrize(
    ("script", "what"),
    [
        (_endless, "larger than"),
        (answers(b"HTTP/1.1 200 X\r\nContent-Length: 99999999999\r\n\r\n", then_wait=True), "larger than"),
        (_silent, "within 0.5 s"),
        (_dripping, "within 0.5 s"),
        (_closing, "closed the connection"),
        (answers(response(404, b"no")), "status 404"),
        (answers(response(206, PNG)), "status 206"),
        (answers(response(200, b"x", "image/png", "Content-Encoding: gzip")), "compressed"),
        (answers(b"SSH-2.0-OpenSSH\r\n\r\n"), "not HTTP"),
        (answers(b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\nshort"), "within 0.5 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_servers_may_do(script: Script, what: str) -> None:
    with pytest.raises(ModelFailed, match=what) as caught:
        await fetch(script, fetch_s=0.5)
    assert "signed" not in caught.value.message


async def test_nobody_there() -> None:
    with pytest.raises(ModelFailed, match="cannot connect: connection refused"):
        await fetcher().fetch("http://127.0.0.1:1/x", endpoint=HERE, most=MOST)
    with pytest.raises(ModelFailed, match=r"nowhere\.invalid"):
        await fetcher().fetch("http://nowhere.invalid/x", endpoint=HERE, most=MOST)


async def test_a_hang_up_closes_the_connection() -> None:
    async with open_scripted(_silent) as server:
        with trio.move_on_after(0.2):
            await fetcher().fetch(server.url("/"), endpoint=HERE, most=MOST)
        with trio.fail_after(5):
            await server.hung_up.wait()


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/a", "javascript:alert(1)", "a.png", "", "unix:/x", "httpx://a"])
async def test_other_schemes_are_refused(location: str) -> None:
    with pytest.raises(ModelFailed, match="neither"):
        await fetcher().fetch(location, endpoint=HERE, most=MOST)


async def test_local_paths_only_below_the_configured_folder(tmp_path: Path) -> None:
    drawn, secret = tmp_path / "drawn", tmp_path / "secret.png"
    drawn.mkdir()
    secret.write_bytes(PNG)
    (drawn / "a b.png").write_bytes(PNG)
    (drawn / "in.png").symlink_to(drawn / "a b.png")
    (drawn / "out.png").symlink_to(secret)
    (drawn / "round.png").symlink_to(drawn / "round.png")
    os.mkfifo(drawn / "pipe.png")

    async def read(location: str, most: int = MOST) -> bytes:
        with trio.fail_after(5):
            return await fetcher(local_paths=str(drawn)).fetch(location, endpoint=HERE, most=most)

    for good in (f"{drawn}/a b.png", f"file://{drawn}/a%20b.png", f"{drawn}/in.png", f"{drawn}/../drawn/a b.png"):
        assert await read(good) == PNG
    for bad in ("out.png", "../secret.png", "round.png", "pipe.png", "none.png", "", "a\0b"):
        with pytest.raises(ModelFailed) as caught:
            await read(f"{drawn}/{bad}")
        assert str(tmp_path) not in caught.value.message
    with pytest.raises(ModelFailed, match="larger"):
        await read(f"{drawn}/a b.png", most=10)
    with pytest.raises(ModelFailed, match=r"set images\.local_paths"):
        await fetcher().fetch(f"{drawn}/a b.png", endpoint=HERE, most=MOST)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("192.168.0.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%lo", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(address) is public
