"""`aicn dev endpoint` as a process, and `aicn dev check` against it and against nobody."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aicn.cli.main import cli

AICN = [sys.executable, "-m", "aicn.cli.main"]


@pytest.fixture
def urls() -> Iterator[dict[str, str]]:
    """What the process says of itself: model → URL. It must end well when it is told to."""
    command = [*AICN, "dev", "endpoint", "--port", "0", "--token-delay", "0", "--model", "my model"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            while said.count("curl") < 2:
                line = process.stdout.readline()
                assert line, "it has ended"
                said += line
            yield {name.strip("'"): url for name, url in re.findall(r"--model ('[^']+'|\S+) (http\S+)", said)}
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
            assert (process.returncode, errors) == (0, "")
        finally:
            process.kill()


def aicn(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


def test_an_endpoint_and_its_check(urls: dict[str, str], tmp_path: Path) -> None:
    assert list(urls) == ["my model", "demo-image", "demo-edit", "demo-embedding"]
    key = tmp_path / "key"
    key.write_text("sk-s3cret\n")
    for model, url in urls.items():
        shown = aicn("dev", "check", url, "--size", "32x16", "--api-key-file", str(key))
        assert shown.exit_code == 0, shown.output
        assert f"ok      models: 4 listed; {model} is used\n" in shown.stdout
        assert "FAILED" not in shown.stdout
        assert "sk-s3cret" not in shown.output
    other = aicn("dev", "check", urls["my model"], "--model", "other", "--json")
    assert other.exit_code == 1
    told = json.loads(other.stdout)
    assert told["good"] is False
    assert {one["name"] for one in told["findings"] if one["verdict"] == "FAILED"} == {"plain chat", "streamed chat"}
    taken = aicn("dev", "endpoint", "--port", re.findall(r":(\d+)/", urls["my model"])[0])
    assert taken.exit_code == 1
    assert "--port" in taken.stderr


def test_nobody_there_and_urls_that_are_none() -> None:
    gone = aicn("dev", "check", "http://me:p4ss@127.0.0.1:1/v1/chat/completions", "--model", "m")
    assert gone.exit_code == 1
    assert gone.stdout.startswith("FAILED  reachable: cannot connect")
    assert "p4ss" not in gone.output
    wrong = aicn("dev", "check", "file:///etc/passwd", "--model", "m")
    assert wrong.exit_code == 1
    assert "only http:// and https://" in wrong.stderr
