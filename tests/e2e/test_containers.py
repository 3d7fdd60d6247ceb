"""The compose testnet, built and run: an answer streams across containers, a killed worker is an error and no more than that.

Skipped where no container engine with the base image is (tests/containers/setup.sh makes one); in CI that is a failure.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
BASE_IMAGE = "python:3.11-slim-bookworm"
NODES = ("public", "worker-1", "worker-2", "input")
BUILD_S, UP_S, READY_S, CHAT_S = 300, 120, 90, 60

pytestmark = [pytest.mark.e2e, pytest.mark.containers, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Engine:
    """A container engine and the compose that goes with it."""

    program: str  # podman or docker
    compose: tuple[str, ...]

    def run(self, *arguments: str, deadline_s: float = 60) -> str:
        """What the engine prints; a failure shows what it said."""
        return _run((self.program, *arguments), deadline_s=deadline_s)


@dataclass(frozen=True)
class Testnet:
    """The running compose project, under a name and a port of its own."""

    __test__ = False

    engine: Engine
    image: str
    project: str = field(default_factory=lambda: f"aicn-test-{secrets.token_hex(4)}")
    port: int = field(default_factory=lambda: _free_port())

    def compose(self, *arguments: str, deadline_s: float = 60) -> str:
        environment = os.environ | {"TESTNET_IMAGE": self.image, "TESTNET_API_PORT": str(self.port)}
        return _run(
            (*self.engine.compose, "-p", self.project, *arguments), deadline_s=deadline_s, environment=environment
        )

    def container(self, service: str) -> str:
        labels = {"com.docker.compose.project": self.project, "com.docker.compose.service": service}
        filters = [f"--filter=label={key}={value}" for key, value in labels.items()]
        return self.engine.run("ps", "--all", "--quiet", *filters).strip()

    def wait_healthy(self, service: str) -> None:
        """Until the container's own health check says so; podman has nobody who runs it without systemd, so we do."""
        deadline = time.monotonic() + READY_S
        while not self._healthy(container := self.container(service)):
            if time.monotonic() > deadline:
                pytest.fail(f"{service} is not healthy:\n{self.engine.run('logs', container)}")
            time.sleep(0.5)

    def _healthy(self, container: str) -> bool:
        if self.engine.program == "podman":
            done = subprocess.run(
                ["podman", "healthcheck", "run", container], check=False, capture_output=True, timeout=30
            )
            return done.returncode == 0
        return self.engine.run("inspect", "--format={{.State.Health.Status}}", container).strip() == "healthy"

    def execute(self, service: str, *command: str) -> str:
        return self.engine.run("exec", self.container(service), *command)

    def peer_id(self, service: str) -> str:
        answer = json.loads(self.execute(service, "aicn", "id", "--json"))
        return str(answer["peer_id"])

    def wait_offered(self, node_id: str) -> None:
        """Until the input node sees a model on the node: the embedded one is ready a little after its node."""
        deadline = time.monotonic() + READY_S
        url = f"http://127.0.0.1:{self.port}/api/v0/ai/project/peer"
        while not httpx.post(url, json={"node_id": node_id}, timeout=CHAT_S).raise_for_status().json()["data"]:
            if time.monotonic() > deadline:
                pytest.fail(f"{node_id} offers nothing")
            time.sleep(0.5)

    def chat(self, node_id: str, project: str, model: str) -> list[str]:
        """The data of all events of a streamed answer, asked from outside the containers; httpx.HTTPStatusError."""
        question = {
            "node_id": node_id,
            "project": project,
            "model": model,
            "stream": True,
            "max_tokens": 16,
            "messages": [{"role": "user", "content": "Say hello."}],
        }
        url = f"http://127.0.0.1:{self.port}/api/v0/chat/completion"
        with httpx.stream("POST", url, json=question, timeout=CHAT_S) as response:
            if response.is_error:
                response.read()
                response.raise_for_status()
            return [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]


@pytest.fixture(scope="module")
def engine() -> Engine:
    found = _find_engine()
    if isinstance(found, Engine):
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{found}; run tests/containers/setup.sh first")
    pytest.skip(found)


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    tag = "localhost/aicn:test"
    extra = (
        ["--format=docker", "--pull=never"] if engine.program == "podman" else []
    )  # its OCI images have no HEALTHCHECK
    if "PIP_INDEX_URL" in os.environ:
        extra.append("--build-arg=PIP_INDEX_URL")
    engine.run("build", "--network=host", *extra, f"--tag={tag}", str(ROOT), deadline_s=BUILD_S)
    return tag


@pytest.fixture
def testnet(engine: Engine, image: str) -> Iterator[Testnet]:
    net = Testnet(engine, image)
    try:
        net.compose("up", "--detach", "--no-build", deadline_s=UP_S)
        for node in NODES:
            net.wait_healthy(node)
        yield net
    finally:
        net.compose("down", "--volumes", "--timeout=10", deadline_s=UP_S)


def test_image_is_not_root_and_has_no_compiler(engine: Engine, image: str) -> None:
    script = "id -u; command -v gcc cc make pip || true; test -w /opt/aicn || echo read-only"
    assert engine.run("run", "--rm", "--entrypoint=sh", image, "-c", script).split() == ["10001", "read-only"]


def test_daemon_without_configuration_says_what_to_do(engine: Engine, image: str) -> None:
    done = subprocess.run(
        [engine.program, "run", "--rm", image], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "/data/config.toml" in done.stderr
    assert "aicn init --dir /data" in done.stderr


def test_testnet_answers_and_survives_a_dead_worker(testnet: Testnet) -> None:
    model_worker, other_worker = testnet.peer_id("worker-1"), testnet.peer_id("worker-2")
    _serve_demo_model(testnet, "worker-2")

    testnet.wait_offered(model_worker)
    real = _contents(testnet.chat(model_worker, "local", "SmolLM2-135M"))
    assert len(real) > 1, "the embedded model's answer came in one piece"
    assert "".join(real).strip()
    assert "demo endpoint" in "".join(_contents(testnet.chat(other_worker, "test", "demo-chat")))

    testnet.engine.run("stop", "--time=0", testnet.container("worker-2"))  # SIGKILL, and no restart
    before = time.monotonic()
    with pytest.raises(httpx.HTTPStatusError) as failure:
        testnet.chat(other_worker, "test", "demo-chat")
    assert time.monotonic() - before < 30
    assert failure.value.response.status_code in (404, 502, 504)
    assert failure.value.response.json()["code"] in (1004, 1005, 1017)
    assert _contents(testnet.chat(model_worker, "local", "SmolLM2-135M"))


def test_nodes_stop_cleanly_and_keep_their_identity(testnet: Testnet) -> None:
    before = testnet.peer_id("worker-1")
    container = testnet.container("worker-1")
    testnet.engine.run("stop", "--time=15", container)
    assert testnet.engine.run("inspect", "--format={{.State.ExitCode}}", container).strip() == "0"
    testnet.engine.run("start", container)
    testnet.wait_healthy("worker-1")
    assert testnet.peer_id("worker-1") == before


def _serve_demo_model(testnet: Testnet, service: str) -> None:
    """The demo endpoint beside the node, in its container, and its registration."""
    testnet.engine.run("exec", "--detach", testnet.container(service), "aicn", "dev", "endpoint", "--port=8000")
    listens = "import socket; socket.create_connection(('127.0.0.1', 8000), 1)"
    testnet.execute(service, "sh", "-c", f'until python -c "{listens}" 2> /dev/null; do sleep 0.2; done')
    url = "http://127.0.0.1:8000/v1/chat/completions"
    testnet.execute(service, "aicn", "register", "test", "--model", "demo-chat", url)


def _contents(events: list[str]) -> list[str]:
    """The text pieces of a whole answer."""
    assert events[-1] == "[DONE]"
    parsed: list[dict[str, Any]] = [json.loads(event) for event in events[:-1]]
    deltas = [choice["delta"].get("content") for event in parsed for choice in event["choices"]]
    return [content for content in deltas if content]


def _find_engine() -> Engine | str:
    """An engine that can build and run the testnet, or why there is none."""
    podman_compose = shutil.which("podman-compose") or shutil.which(str(ROOT / ".venv-containers/bin/podman-compose"))
    if shutil.which("podman") and podman_compose:
        if subprocess.run(["podman", "image", "exists", BASE_IMAGE], check=False, capture_output=True).returncode != 0:
            return f"podman has no image {BASE_IMAGE}"
        return Engine("podman", (podman_compose,))
    if shutil.which("docker"):
        done = subprocess.run(["docker", "compose", "version"], check=False, capture_output=True)
        running = subprocess.run(["docker", "info"], check=False, capture_output=True)
        if done.returncode == 0 and running.returncode == 0:
            return Engine("docker", ("docker", "compose"))
    return "no container engine with compose"


def _run(command: tuple[str, ...], *, deadline_s: float, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=deadline_s
    )
    if done.returncode != 0:
        pytest.fail(
            f"{' '.join(command[:6])} … ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return done.stdout


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
