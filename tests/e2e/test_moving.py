"""Nodes of the Go program, moved over by `aicn init --from`, run: the same peer ids, network and models as before."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.nodes import AICN, Daemon, chat, environment, running
from tests.fakes import go_config
from tests.fakes.endpoint import open_fake_endpoint

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
IDENTITIES = json.loads((Path(__file__).parents[1] / "vectors/legacy/identity.json").read_text())
MODEL = {"Model": "M", "Type": 0}


def moved(directory: Path, identity: dict[str, str], config: dict[str, Any]) -> Path:
    """config.toml of the node that `config`, on loopback with `identity`, becomes."""
    directory.mkdir()
    port = free_port()
    config["Addresses"] = [f"/ip4/127.0.0.1/tcp/{port}", *([f"/ip6/::1/tcp/{port}"] if has_ipv6() else [])]
    config["API"] = {"Addr": "127.0.0.1:0"}
    config["Identity"] = {"PeerID": identity["peer_id"], "PrivKey": identity["private_key_base64"]}
    config["Swarm"]["DisableNatPortMap"] = True  # no router is asked by a test
    run("init", "--from", str(go_config.written(directory, config)), "--dir", str(directory / "aicn"))
    path = directory / "aicn/config.toml"
    assert run("config", "check", "--config", str(path)) == f"{path}: good\n"
    return path


def run(*args: str) -> str:
    done = subprocess.run([*AICN, *args], env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def test_a_server_and_a_client_with_models_are_moved(tmp_path: Path) -> None:
    of_server, of_client, of_input = IDENTITIES
    async with (
        open_fake_endpoint() as endpoint,
        running(moved(tmp_path / "server", of_server, go_config.server())) as server,
    ):
        assert server.peer_id == of_server["peer_id"]
        projects = [{"Project": "P", "Models": [MODEL | {"API": endpoint.url}]}]
        worker_file = go_config.client(Bootstrap=[server.address], AIProjects=projects)
        input_file = go_config.client(Bootstrap=[server.address])
        async with (
            running(moved(tmp_path / "client", of_client, worker_file)) as worker,
            running(moved(tmp_path / "input", of_input, input_file)) as asker,
        ):
            assert (worker.peer_id, asker.peer_id) == (of_client["peer_id"], of_input["peer_id"])
            await they_work(server, worker, asker)
            assert [await node.stop() for node in (asker, worker)] == [0, 0]
        assert await server.stop() == 0


async def they_work(server: Daemon, worker: Daemon, asker: Daemon) -> None:
    told = await asker.data("/peer", {"node_id": server.peer_id})
    assert {"/DeepBrainChain/kad/1.0.0", "/libp2p/circuit/relay/0.2.0/hop", "/floodsub/1.0.0"} <= set(told["protocols"])
    told = await asker.data("/peer", {"node_id": worker.peer_id})
    assert not {"/DeepBrainChain/kad/1.0.0", "/libp2p/circuit/relay/0.2.0/hop"} & set(told["protocols"])
    assert await asker.data("/ai/project/peer", {"node_id": worker.peer_id}) == [{"project": "P", "models": ["M"]}]
    answer = await asker.post("/chat/completion", chat(worker.peer_id))
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["choices"]
