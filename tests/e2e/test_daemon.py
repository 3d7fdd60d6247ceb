"""`aicn daemon` as its operator meets it: start, errors at start, signals, restart."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest
import trio

from tests.e2e.nodes import AICN, Daemon, chat, environment, events, running, write_node
from tests.fakes.endpoint import open_fake_endpoint

pytestmark = pytest.mark.e2e


async def fails_to_start(config: Path) -> tuple[int, str]:
    """Exit code and the one line on standard error of a daemon that cannot start."""
    with trio.fail_after(30):
        result = await trio.run_process(
            [*AICN, "daemon", "--config", str(config)],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environment(),
        )
    assert result.stdout == b""
    lines = result.stderr.decode().strip().splitlines()
    assert len(lines) == 1, lines
    return result.returncode, lines[0]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_start_answer_and_stop(tmp_path: Path) -> None:
    config = write_node(tmp_path / "node")
    for number in (signal.SIGTERM, signal.SIGINT):
        async with running(config) as node:
            identity = (await node.client.get("/api/v0/id")).json()
            assert identity["peer_id"] == node.peer_id
            assert identity["protocol_version"] == "aicn/0.0.1"
            assert any(node.address.startswith(address) for address in identity["addresses"])
            assert {"/aicn/inference/1.0.0", "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0"} <= set(identity["protocols"])
            assert (await node.client.get("/healthz")).status_code == 200
            assert (await node.client.get("/readyz")).json()["ready"] is True
            assert await node.stop(number) == 0
            assert not [line for line in node.log if "ERROR" in line or "Traceback" in line]
    assert stat.S_IMODE((tmp_path / "node" / "data").stat().st_mode) == 0o700


@pytest.mark.parametrize("which", ["http", "p2p"])
async def test_a_port_in_use(tmp_path: Path, which: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        listen = {"http": {"listen": f"127.0.0.1:{port}"}, "p2p": {"listen": [f"/ip4/127.0.0.1/tcp/{port}"]}}
        code, line = await fails_to_start(write_node(tmp_path, **{which: listen[which]}))
    assert code == 1
    assert str(port) in line
    assert "in use" in line


async def test_a_key_that_is_none(tmp_path: Path) -> None:
    config = write_node(tmp_path)
    (tmp_path / "peer.key").write_text("nonsense")
    code, line = await fails_to_start(config)
    assert code == 1
    assert "peer.key" in line


async def test_a_key_that_others_may_read(tmp_path: Path) -> None:
    config = write_node(tmp_path)
    (tmp_path / "peer.key").chmod(0o644)
    code, line = await fails_to_start(config)
    assert code == 1
    assert "chmod 600" in line


async def test_a_key_that_is_missing(tmp_path: Path) -> None:
    config = write_node(tmp_path)
    (tmp_path / "peer.key").unlink()
    code, line = await fails_to_start(config)
    assert code == 1
    assert "peer.key" in line


async def test_a_misspelt_key_of_the_configuration(tmp_path: Path) -> None:
    code, line = await fails_to_start(write_node(tmp_path, p2p={"listne": []}))
    assert code == 2
    assert "config.toml" in line
    assert "p2p.listne" in line
    assert "p2p.listen" in line.replace("p2p.listne", "")


async def test_two_daemons_never_share_a_data_directory(tmp_path: Path) -> None:
    config = write_node(tmp_path)
    async with running(config) as node:
        code, line = await fails_to_start(config)
        assert code == 1
        assert "data" in line
        assert str(node.process.pid) in line
        assert (await node.client.get("/healthz")).status_code == 200


async def test_nothing_is_left_of_a_failed_start(tmp_path: Path) -> None:
    config = write_node(tmp_path)
    (tmp_path / "peer.key").write_text("nonsense")
    await fails_to_start(config)
    assert {path.name for path in tmp_path.iterdir()} == {"peer.key", "config.toml"}


async def test_registrations_survive_kill_9(tmp_path: Path) -> None:
    config = write_node(tmp_path)
    async with running(config) as node:
        await node.register("http://127.0.0.1:1/v1/chat/completions?key=1")
        node.process.kill()
    async with running(config) as node:
        assert await node.data("/ai/project/peer", {"node_id": node.peer_id}) == [{"project": "P", "models": ["M"]}]


async def test_a_running_stream_ends_well_within_the_grace(tmp_path: Path) -> None:
    async with open_fake_endpoint(tokens=20, delay_s=0.05) as endpoint, running(write_node(tmp_path)) as node:
        await node.register(endpoint.url)
        got: list[str] = []
        async with node.client.stream(
            "POST", "/api/v0/chat/completion", json=chat(node.peer_id, stream=True)
        ) as response:
            async for event in events(response):
                got.append(event)
                if len(got) == 2:
                    node.process.send_signal(signal.SIGTERM)
        assert got[-1] == "[DONE]"
        with trio.fail_after(5):
            assert await node.process.wait() == 0


async def test_a_stream_beyond_the_grace_is_broken_off_and_the_exit_is_clean(tmp_path: Path) -> None:
    config = write_node(tmp_path, limits={"shutdown_grace_s": 0.5})
    async with open_fake_endpoint(tokens=10_000, delay_s=0.02) as endpoint, running(config) as node:
        await node.register(endpoint.url)
        body = chat(node.peer_id, stream=True)
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                async with node.client.stream("POST", "/api/v0/chat/completion", json=body) as response:
                    try:
                        assert "[DONE]" not in [event async for event in events(response)]
                    except Exception as error:
                        assert "incomplete" in str(error) or "peer closed" in str(error)

            nursery.start_soon(read)
            await trio.sleep(0.3)
            node.process.send_signal(signal.SIGTERM)
            with trio.fail_after(4):
                assert await node.process.wait() == 0
        assert not [line for line in node.log if "Traceback" in line]


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with open_fake_endpoint(tokens=10_000, delay_s=0.02) as endpoint:
        async with running(write_node(tmp_path, limits={"shutdown_grace_s": 60})) as node:
            await node.register(endpoint.url)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_hold_a_stream, node)
                await trio.sleep(0.3)
                node.process.send_signal(signal.SIGTERM)
                await trio.sleep(0.3)
                assert node.process.poll() is None
                node.process.send_signal(signal.SIGINT)
                with trio.fail_after(2):
                    assert await node.process.wait() == 128 + signal.SIGINT


async def _hold_a_stream(node: Daemon) -> None:
    body = chat(node.peer_id, stream=True)
    try:
        async with node.client.stream("POST", "/api/v0/chat/completion", json=body) as response:
            await response.aread()
    except Exception as error:
        assert "peer closed" in str(error) or "incomplete" in str(error) or "disconnected" in str(error)


async def test_systemd_is_told(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(address)
        notify.settimeout(10)
        async with running(write_node(tmp_path / "node"), env={"NOTIFY_SOCKET": address}) as node:
            assert await trio.to_thread.run_sync(notify.recv, 100) == b"READY=1"
            assert await node.stop() == 0
        assert notify.recv(100) == b"STOPPING=1"


async def test_logs_are_json_when_asked_and_never_hold_prompts(tmp_path: Path) -> None:
    config = write_node(tmp_path, logging={"format": "json", "level": "debug"})
    async with open_fake_endpoint(tokens=3) as endpoint, running(config) as node:
        await node.register(endpoint.url)
        body = chat(node.peer_id)
        body["messages"][0]["content"] = "my secret prompt"
        answer = (await node.post("/chat/completion", body)).json()
        assert await node.stop() == 0
    assert node.log
    for line in node.log:
        entry = json.loads(line)
        assert {"time", "level", "logger", "message"} <= set(entry)
        assert "secret prompt" not in line
        assert answer["data"]["choices"][0]["message"]["content"] not in line


def test_ctrl_c_before_it_is_ready(tmp_path: Path) -> None:
    command = [*AICN, "daemon", "--config", str(write_node(tmp_path))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.4)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    # 1: click said "Aborted!"; -SIGINT: before Python had taken over the signal
    assert process.returncode in (0, 1, 130, -signal.SIGINT)
    assert b"Traceback" not in said
