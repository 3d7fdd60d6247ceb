"""aicn demo, as a user runs it: an answer of a real model across two nodes, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
WITHIN_S = 120.0
DEMO = (sys.executable, "-m", "aicn.cli.main", "demo")


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with a temporary directory of its own, which marks every process of the demo; none may be left."""
    yield {**os.environ, "TMPDIR": str(tmp_path)}
    left = processes_of(tmp_path)
    for process in left:
        process.kill()
    assert left == []


def processes_of(directory: Path) -> list[psutil.Process]:
    """The demo, its daemons and their children: all that have `directory` for temporary files."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(directory):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_the_demo_shows_an_answer_who_served_it_and_how_fast(environ: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--prompt", "Say hello."], env=environ, capture_output=True, text=True, timeout=WITHIN_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ready = re.findall(
        r"^  (\w+) +ready in [\d.]+ s +http://127\.0\.0\.1:\d+ +(16Uiu2HA\w+)$", done.stdout, re.MULTILINE
    )
    assert [name for name, _ in ready] == ["public", "worker", "input"]
    answer = done.stdout.partition("> Say hello.\n")[2].partition("\n\nServed by ")[0]
    assert len(answer.split()) >= 2
    assert f"Served by worker {dict(ready)['worker']}, local / SmolLM2-135M\n" in done.stdout
    assert re.search(r"^Path +direct, /ip4/127\.0\.0\.1/tcp/\d+ \((in|out)bound", done.stdout, re.MULTILINE)
    assert re.search(r"^Speed +\d+ tokens, first after \d+ ms, [\d.]+ tokens/s", done.stdout, re.MULTILINE)
    assert re.search(r"^Stopped public, worker, input in [\d.]+ s, exit code 0 each\.$", done.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_no_file(
    environ: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(DEMO, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "worker" in line and "ready in" in line:
                demo.send_signal(number)
                break
        rest = demo.stdout.read()
        assert demo.wait(WITHIN_S) == 1, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_dies_is_named_with_the_end_of_its_log(environ: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(DEMO, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "public" in line and "ready in" in line:
                break
        deadline = time.monotonic() + WITHIN_S
        while not (input_node := [p for p in processes_of(tmp_path) if "/input/" in " ".join(p.cmdline())]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        input_node[0].kill()
        rest = demo.stdout.read()
        assert demo.wait(WITHIN_S) == 1, rest
    assert f"input ended with exit code {-signal.SIGKILL}." in rest
    assert list(tmp_path.iterdir()) == []
