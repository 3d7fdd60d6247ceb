"""Adding images to IPFS nodes: a real kubo, and what stands in its place but is none."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import httpx
import pytest
import trio

from aicn.backends.ipfs import IpfsStore
from aicn.config.schema import Ipfs
from aicn.errors import AicnError, IpfsFailed, ModelFailed
from tests.fakes.endpoint import Connection, Script, answers, http_chunk, open_scripted, response
from tests.fakes.kubo import running_kubo
from tests.fakes.png import draw_png

CID = "QmUsxJhQ13Gifj2iX9kTfzYDD6VsCL7UkdjqumPd9V2vKz"


@pytest.fixture(scope="module")
def kubo() -> Iterator[str]:
    with running_kubo() as url:
        yield url


def store(timeout_s: float = 30.0) -> IpfsStore:
    return IpfsStore(Ipfs(timeout_s=timeout_s))


async def rpc(url: str, call: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        return (await client.post(f"{url}/api/v0/{call}")).raise_for_status()


@pytest.mark.parametrize("size", [0, 3_000_000], ids=["small", "several blocks"])
async def test_what_is_added_is_there_and_pinned(kubo: str, size: int) -> None:
    image = draw_png(1) + os.urandom(size)
    await store().check(kubo)
    cid = await store().add(kubo, image)
    assert (await rpc(kubo, f"cat?arg={cid}")).content == image
    assert cid in (await rpc(kubo, "pin/ls?type=recursive")).json()["Keys"]
    assert await store().add(kubo, image) == cid


async def test_many_at_once(kubo: str) -> None:
    images = [draw_png(number) for number in range(30)]
    cids: dict[int, str] = {}
    one = store()

    async def add(number: int) -> None:
        cids[number] = await one.add(kubo, images[number])

    async with trio.open_nursery() as nursery:
        for number in range(len(images)):
            nursery.start_soon(add, number)
    assert len(set(cids.values())) == 30
    assert (await rpc(kubo, f"cat?arg={cids[17]}")).content == images[17]


async def test_addresses_with_a_name_and_a_path(kubo: str) -> None:
    port = kubo.rpartition(":")[2]
    await store().check(f"http://localhost:{port}/")
    with pytest.raises(IpfsFailed, match="refuses"):
        await store().check(f"http://localhost:{port}/no/such/path")


async def test_nobody_there_is_the_code_of_a_model_that_fails() -> None:
    """1006, as the existing program has it."""
    for call in (store().check("http://127.0.0.1:1"), store().add("http://127.0.0.1:1", b"x")):
        with pytest.raises(ModelFailed, match=r"no IPFS node answers at http://127\.0\.0\.1:1$"):
            await call


async def failure(script: Script, *, timeout_s: float = 0.5, path: str = "", add: bool = True) -> AicnError:
    """What an `add` or `check` at that server comes to."""
    with trio.fail_after(20):
        async with open_scripted(script) as server:
            api = server.url(path).replace("http://", "http://user:secret@")
            try:
                await (store(timeout_s).add(api, draw_png(1) * 1000) if add else store(timeout_s).check(api))
            except AicnError as error:
                assert "secret" not in error.message
                assert len(error.message) < 500
                return error
    raise AssertionError("it did not fail")


async def _endless(connection: Connection) -> None:
    await connection.receive_request()
    await connection.send(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await connection.send(http_chunk(b"{" * 65536))


async def _one_huge_chunk(connection: Connection) -> None:
    await connection.receive_request()
    await connection.send(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n")
    while True:
        await connection.send(b" " * 65536)


async def _dripping_head(connection: Connection) -> None:
    await connection.receive_request()
    for byte in b"HTTP/1.1 200 X\r\nX: " + b"x" * 100_000:
        await connection.send(bytes([byte]))
        await trio.sleep(0.02)


async def _silent(connection: Connection) -> None:
    await connection.receive_request()
    await connection.wait_closed()


async def _takes_nothing(connection: Connection) -> None:
    await trio.sleep_forever()


def _says(text: bytes) -> Script:
    return answers(response(200, text))


@pytest.mark.parametrize(
    ("script", "what"),
    [
        (answers(response(500, b'{"Message": "no space left", "Code": 0, "Type": "error"}')), "refuses: no space left"),
        (answers(response(403, b"403 - Forbidden", "text/plain")), "refuses: status 403"),
        (answers(response(200, b'{"Message": "late", "Code": 0, "Type": "error"}')), "refuses: late"),
        (answers(response(307, b"", "text/plain", "Location: http://127.0.0.1:1/")), "answered what an IPFS node does not"),
        (_says(b'{"Hash": "%s"}' % CID.encode()[:-1]), "no CID"),
        (_says(b'{"Hash": "../../etc/passwd"}'), "no CID"),
        (_says(b'{"Hash": "<script>"}'), "no CID"),
        (_says(b'{"Hash": ["Qm"]}'), "no CID"),
        (_says(b'{"Hash": null}'), "no CID"),
        (_says(b"{}"), "answered what"),
        (_says(b"[]"), "answered what"),
        (_says(b"7"), "answered what"),
        (_says(b'{"Hash": "a"}\n{"Hash": "b"}'), "answered what"),
        (_says(b"[" * 8000), "answered what"),
        (_says(b"{\n" * 4000), "answered what"),
        (_says(b"\xff\xfe"), "answered what"),
        (_says(b""), "answered what"),
        (answers(b"SSH-2.0-OpenSSH\r\n\r\n"), "answered what"),
        (answers(b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n"), "within 0.5 s"),
        (answers(response(500, b"{" * 200_000)), "answered what"),
        (_endless, "answered what"),
        (_one_huge_chunk, "answered what"),
        (_dripping_head, "within 0.5 s"),
        (_silent, "within 0.5 s"),
        (_takes_nothing, "within 0.5 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_a_hostile_node_is_bad_input(script: Script, what: str) -> None:
    error = await failure(script)
    assert isinstance(error, IpfsFailed)
    assert what in error.message


async def test_a_node_that_is_silent_when_checked_is_dead() -> None:
    assert isinstance(await failure(_silent, add=False), ModelFailed)
    assert isinstance(await failure(_says(b'{"Version": 7}'), add=False), IpfsFailed)
    assert isinstance(await failure(_says(b"<html>"), add=False), IpfsFailed)


async def test_a_call_that_is_given_up_leaves_no_thread_behind() -> None:
    one = store(30)
    before = _busy(one)
    async with open_scripted(_dripping_head) as server:
        with trio.move_on_after(0.3):
            await one.add(server.url(""), b"x")
        with trio.fail_after(10):  # far below its own time-out
            while _busy(one) > before:
                await trio.sleep(0.01)


def _busy(one: IpfsStore) -> int:
    return one._threads.borrowed_tokens


async def test_the_event_loop_goes_on_meanwhile(kubo: str) -> None:
    """A large image is added in a thread: the loop's longest pause is far below the time that takes."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        last = trio.current_time()
        while True:
            await trio.sleep(0.002)
            longest, last = max(longest, trio.current_time() - last), trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        began = trio.current_time()
        await store().add(kubo, os.urandom(20_000_000))
        took = trio.current_time() - began
        nursery.cancel_scope.cancel()
    assert longest < max(0.25, took / 2)
    assert threading.active_count() < 50
