import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from libp2p.crypto.serialization import deserialize_private_key
from libp2p.peer.id import ID

from aicn.domain.ids import parse_peer_id
from aicn.errors import StartupError
from aicn.p2p.identity import Key, generate_key, key_text, load_key, parse_key, peer_id_of

ONE = "CAISIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB"


def test_the_key_one() -> None:
    key = parse_key(ONE)
    assert key.secret == bytes(31) + b"\x01"
    assert peer_id_of(key) == "16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq"


def test_generated_keys_are_the_librarys() -> None:
    texts = {generate_key() for _ in range(10)}
    assert len(texts) == 10
    for text in texts:
        assert text.startswith("CAISI")
        theirs = deserialize_private_key(base64.b64decode(text))
        ours = parse_key(text)
        assert ours.secret == theirs.to_bytes()
        assert ours.public == theirs.get_public_key().serialize()
        assert peer_id_of(ours) == str(ID.from_pubkey(theirs.get_public_key())) == parse_peer_id(peer_id_of(ours))


def test_a_key_is_not_shown() -> None:
    key = parse_key(generate_key())
    assert key.secret.hex() not in repr(key)
    assert repr(key) == f"{Key.__name__}()"


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "peer.key"
    path.write_text(ONE + "\n")
    path.chmod(0o600)
    assert load_key(path) == parse_key(ONE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "peer.key"
    path.write_text(ONE)
    path.chmod(mode)
    with pytest.raises(StartupError, match=f"{path}.*chmod 600"):
        load_key(path)


ZERO = base64.b64encode(base64.b64decode(ONE)[:4] + bytes(32)).decode()
ED25519 = base64.b64encode(b"\x08\x01\x12\x40" + bytes(64)).decode()


@pytest.mark.parametrize(
    "text", ["", "not base64!", "QUFBQUFB", ONE[:-4], ONE + ONE, ZERO, ED25519, "\u00fc", "A" * 10_000]
)
def test_what_is_no_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "peer.key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(StartupError, match=str(path)) as caught:
        load_key(path)
    said = str(caught.value).removeprefix(str(path))
    assert not text or text not in said
    assert "\n" not in str(caught.value)


def test_no_key(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="aicn init"):
        load_key(tmp_path / "none")
    with pytest.raises(StartupError, match="cannot be read"):
        load_key(tmp_path)


def test_keys_do_not_need_the_library() -> None:
    code = "import sys, aicn.p2p.identity; sys.exit('libp2p' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


IDENTITIES = json.loads((Path(__file__).parents[2] / "vectors/legacy/identity.json").read_text())


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda identity: identity["peer_id"][-6:])
def test_identities_of_the_existing_network(identity: dict[str, str], tmp_path: Path) -> None:
    key = parse_key(identity["private_key_base64"])
    assert peer_id_of(key) == identity["peer_id"]
    assert base64.b64encode(key.public).decode() == identity["public_key_base64"]
    assert key_text(key) == identity["private_key_base64"]
    path = tmp_path / "peer.key"
    path.touch(0o600)
    path.write_bytes(bytes.fromhex(identity["key_file_hex"]))  # the Go program's own form
    assert load_key(path) == key
    path.chmod(0o644)
    with pytest.raises(StartupError, match="chmod 600"):
        load_key(path)


@pytest.mark.parametrize(
    "data", [bytes.fromhex("08021220"), bytes.fromhex("08021220") + bytes(32), bytes.fromhex("08021220") + b"\x01" * 33]
)
def test_a_key_file_that_only_begins_like_the_go_programs(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "peer.key"
    path.touch(0o600)
    path.write_bytes(data)
    with pytest.raises(StartupError, match=f"{path}: not a"):
        load_key(path)
