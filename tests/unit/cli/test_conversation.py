"""aicn chat on a terminal (a pty): a conversation, Ctrl-C stops an answer, Ctrl-D leaves."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.fakes.api import ME, FakeApi

WITHIN_S = 20.0


def delta(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


class Terminal:
    """A program on a pty, and what it has printed so far."""

    def __init__(self, *command: str) -> None:
        self.master, slave = pty.openpty()
        environ = {**os.environ, "TERM": "dumb"}
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environ)
        os.close(slave)
        os.set_blocking(self.master, False)
        self.output = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, words: str) -> None:
        """Reads until `words` have come since the last time."""
        deadline = time.monotonic() + WITHIN_S
        while words not in self.output:
            assert time.monotonic() < deadline, f"{words!r} has not come; so far: {self.output!r}"
            try:
                self.output += os.read(self.master, 4096).decode()
            except BlockingIOError:
                time.sleep(0.005)
        self.output = self.output.partition(words)[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(api: FakeApi) -> Iterator[Terminal]:
    api.projects[ME] = [{"project": "P", "models": ["m"]}]
    running = Terminal(sys.executable, "-m", "aicn.cli.main", "chat", "--system", "S", "--api", api.url)
    yield running
    running.close()


def test_a_conversation(api: FakeApi, terminal: Terminal) -> None:
    terminal.expect("Ctrl-D leaves.")
    terminal.expect("> ")
    api.script = [delta("one"), delta("!"), b"data: [DONE]\n\n"]
    terminal.type("first\n")
    terminal.expect("one!")
    terminal.expect("2 tokens")
    terminal.expect("> ")

    hold = threading.Event()

    def slow() -> Iterator[bytes]:
        yield delta("begun")
        hold.wait(WITHIN_S)

    api.script = slow()  # type: ignore[assignment]
    terminal.type("second\n")
    terminal.expect("begun")
    terminal.process.send_signal(signal.SIGINT)
    terminal.expect("stopped")
    hold.set()
    terminal.expect("> ")

    api.script = [b'event: error\ndata: {"code": 1017, "message": "died"}\n\n']
    terminal.type("third\n")
    terminal.expect("died (code 1017)")
    terminal.expect("> ")

    api.script = [delta("four"), b"data: [DONE]\n\n"]
    terminal.type("fourth\n")
    terminal.expect("four\r\n")
    terminal.expect("> ")
    terminal.type("\x04")
    assert terminal.process.wait(WITHIN_S) == 0
    said = [(m["role"], m["content"]) for m in api.requests[-1][1]["messages"]]
    assert said == [
        ("system", "S"),
        ("user", "first"),
        ("assistant", "one!"),
        ("user", "second"),
        ("assistant", "begun"),
        ("user", "fourth"),
    ]
