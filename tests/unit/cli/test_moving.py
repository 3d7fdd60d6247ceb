"""`aicn init --from`: a node of the Go program becomes one of ours, whole or not at all."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import Result

from aicn.config.load import load
from aicn.domain.registration import Endpoint
from aicn.p2p.identity import load_key, peer_id_of
from aicn.services.registration import MOST_ENDPOINTS
from aicn.storage.database import open_database
from aicn.storage.registrations import Registrations
from tests.fakes.go_config import IDENTITY, PSK, client, worker, written

Aicn = Callable[..., Result]
OTHER = json.loads((Path(__file__).parents[2] / "vectors/legacy/identity.json").read_text())[1]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def key_file(directory: Path, identity: Any) -> Path:
    """`peer.key` as the Go program writes it."""
    path = directory / "go.key"
    path.touch(0o600)
    path.write_bytes(bytes.fromhex(identity["key_file_hex"]))
    return path


async def registered(data: Path) -> list[Endpoint]:
    async with open_database(data) as database:
        return list(await Registrations(database).load())


@pytest.fixture
def move(aicn: Aicn, tmp_path: Path) -> Callable[..., Result]:
    """`aicn init --from` a file with the given content, into tmp_path/node."""

    def call(document: dict[str, Any], *args: str) -> Result:
        return aicn("init", "--from", str(written(tmp_path, document)), "--dir", str(tmp_path / "node"), *args)

    return call


def test_a_worker_is_moved(move: Callable[..., Result], tmp_path: Path) -> None:
    result = move(worker())
    assert result.exit_code == 0, result.output
    node = tmp_path / "node"
    config = load(node / "config.toml", {})
    assert (config.p2p.psk, config.http.listen) == (PSK, "127.0.0.1:7002")
    assert peer_id_of(load_key(config.identity.key_file)) == IDENTITY["peer_id"]
    assert [mode(node / name) for name in ("config.toml", "peer.key", "data", "data/aicn.db")] == [
        0o600,
        0o600,
        0o700,
        0o600,
    ]
    assert trio.run(registered, config.storage.dir) == [
        Endpoint("DecentralGPT", "Llama3-70B", "http://127.0.0.1:1042/v1/chat/completions", 0),
        Endpoint("DecentralGPT", "Qwen2-72B", "http://127.0.0.1:1043/v1/chat/completions", 0),
        Endpoint("SuperImage", "SuperImageAI", "http://127.0.0.1:1088/models", 1),
    ]


def test_what_is_told(move: Callable[..., Result], tmp_path: Path) -> None:
    result = move(worker(**{"Ex\x1btra\n": 1}))
    lines = result.stdout.splitlines()
    rows = {row.split()[0]: row for row in lines if "  " in row}
    assert 'taken     p2p.topic = "SuperImageAI"' in rows["App.TopicName"]
    assert "left out  " in rows["App.Datastore"]
    assert [line for line in lines if "unknown " in line and "Ex\N{REPLACEMENT CHARACTER}tra " in line]
    assert f"Peer id: {IDENTITY['peer_id']}, as before." in lines
    assert f"  aicn daemon --config {tmp_path / 'node' / 'config.toml'}" in lines
    assert "must not run at the same time" in result.stdout
    assert not result.stderr
    for secret in (PSK, IDENTITY["private_key_base64"]):
        assert secret not in result.output


def test_without_models_there_is_no_database_yet(move: Callable[..., Result], tmp_path: Path) -> None:
    assert move(client()).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "node").iterdir()) == ["config.toml", "peer.key"]


def test_the_key_may_be_in_its_file(move: Callable[..., Result], tmp_path: Path) -> None:
    document = client(Identity={"PeerID": IDENTITY["peer_id"], "PrivKey": ""})
    assert "there is none: give its key file with --key" in move(document).stderr
    result = move(document, "--key", str(key_file(tmp_path, IDENTITY)))
    assert result.exit_code == 0, result.output
    assert peer_id_of(load_key(tmp_path / "node/peer.key")) == IDENTITY["peer_id"]


def test_the_key_file_must_be_that_of_the_node(move: Callable[..., Result], tmp_path: Path) -> None:
    result = move(client(), "--key", str(key_file(tmp_path, OTHER)))
    assert result.exit_code == 2
    assert "Identity.PrivKey: expected the key in " in result.stderr
    assert move(client(), "--key", str(key_file(tmp_path, IDENTITY))).exit_code == 0


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ({"PeerID": OTHER["peer_id"], "PrivKey": IDENTITY["private_key_base64"]}, "Identity.PeerID: expected that of the key"),
        ({"PeerID": "nobody", "PrivKey": IDENTITY["private_key_base64"]}, "Identity.PeerID: expected that of the key"),
        ({"PeerID": IDENTITY["peer_id"], "PrivKey": "CAASpgkw"}, "Identity.PrivKey: not a secp256k1 libp2p private key"),
        ({"PeerID": IDENTITY["peer_id"], "PrivKey": "!"}, "Identity.PrivKey: not base64"),
    ],
)  # fmt: skip
def test_an_identity_that_does_not_fit(move: Callable[..., Result], tmp_path: Path, identity: Any, words: str) -> None:
    result = move(client(Identity=identity))
    assert result.exit_code == 2
    assert words in result.stderr
    assert IDENTITY["private_key_base64"] not in result.output
    assert not (tmp_path / "node").exists()


def test_nothing_is_written_when_something_is_wrong(move: Callable[..., Result], tmp_path: Path) -> None:
    models = [{"Model": "M", "API": f"http://127.0.0.1:1/{i}"} for i in range(MOST_ENDPOINTS + 1)]
    for document, words in (
        (client(Bootstrap=["nowhere"]), "Bootstrap: expected"),
        (client(AIProjects=[{"Project": "P", "Models": models}]), "AIProjects: models: 1001"),
    ):
        result = move(document)
        assert result.exit_code == 2
        assert words in result.stderr
        assert not result.stdout
        assert not (tmp_path / "node").exists()


@pytest.mark.parametrize("there", ["config.toml", "peer.key", "data"])
def test_what_is_there_is_never_overwritten(move: Callable[..., Result], tmp_path: Path, there: str) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / there).write_text("precious")
    result = move(worker())
    assert result.exit_code == 1
    assert f"{tmp_path / 'node' / there} is there already" in result.stderr
    assert [(path.name, path.read_text()) for path in (tmp_path / "node").iterdir()] == [(there, "precious")]


def test_a_file_that_is_too_large_or_not_there(aicn: Aicn, tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (4 * 2**20 + 1))
    for path, words in ((large, "larger than"), (tmp_path / "none.json", "does not exist")):
        result = aicn("init", "--from", str(path), "--dir", str(tmp_path / "node"))
        assert result.exit_code == 2
        assert words in result.stderr


@pytest.mark.parametrize(
    "more", [["--role", "public"], ["--psk", PSK], ["--new-psk"], ["--local-model"], ["--bootstrap", "x"]]
)
def test_other_options_do_not_go_with_it(move: Callable[..., Result], more: list[str]) -> None:
    result = move(client(), *more)
    assert result.exit_code == 2
    assert f"change {more[0][2:]} in config.toml" in result.stderr


def test_a_new_node_with_a_key_that_is_there(aicn: Aicn, tmp_path: Path) -> None:
    node = tmp_path / "node"
    result = aicn("init", "--dir", str(node), "--key", str(key_file(tmp_path, OTHER)))
    assert result.exit_code == 0, result.output
    assert (node / "peer.key").read_text() == OTHER["private_key_base64"] + "\n"
    assert f"Peer id: {OTHER['peer_id']}" in result.stdout
    (tmp_path / "go.key").chmod(0o644)
    result = aicn("init", "--dir", str(tmp_path / "other"), "--key", str(tmp_path / "go.key"))
    assert "chmod 600" in result.stderr
    assert not (tmp_path / "other").exists()
