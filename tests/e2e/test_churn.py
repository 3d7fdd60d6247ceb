"""`aicn bench churn`, as a user runs it: kills that no client notices, and nothing left behind after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
WITHIN_S = 120.0
CHURN = (sys.executable, "-m", "aicn.cli.main", "bench", "churn", "--workers", "3")


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with a temporary directory of its own, which marks every process of the bench; none may be left."""
    yield {**os.environ, "TMPDIR": str(tmp_path)}
    left = [process for process in psutil.process_iter() if _is_of(process, tmp_path)]
    for process in left:
        process.kill()
    assert left == []


def _is_of(process: psutil.Process, directory: Path) -> bool:
    try:
        return process.environ().get("TMPDIR") == str(directory)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def test_kills_of_workers_are_no_errors_of_clients(environ: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [*CHURN, "--streams", "40", "--clients", "12", "--every", "1", "--json"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    disturbed = {figure["name"]: figure["disturbed"] for figure in report["figures"]}
    assert report["wrong"] == []
    assert (disturbed["client errors"], disturbed["texts, usage or ids that differ"]) == (0, 0)
    assert disturbed["streams"] == 40
    assert disturbed["faults"] >= 2
    assert disturbed["streams that were resumed"] >= 1
    assert done.returncode == (0 if report["good"] else 1)  # a gap beyond what is promised is the machine's matter here
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_bench_leaves_no_process_and_no_file(environ: dict[str, str], tmp_path: Path) -> None:
    command = [*CHURN, "--mode", "freeze", "--every", "0.5", "--streams", "150"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as bench:
        assert bench.stderr is not None
        for line in bench.stderr:
            if "faults" in line and " 0 faults" not in line:  # somebody is frozen
                break
        bench.send_signal(signal.SIGINT)
        rest = bench.stderr.read()
        assert bench.wait(WITHIN_S) == 1, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
