"""Secrets between nodes: the captured ones are in tests/unit/wire/legacy."""

from __future__ import annotations

import base58
import pytest

from aicn.domain.ids import PeerId
from aicn.errors import ProtocolViolation
from aicn.p2p.identity import generate_key, parse_key, peer_id_of
from aicn.p2p.keyring import Keyring


def test_both_sides_have_the_same_secret() -> None:
    a, b = parse_key(generate_key()), parse_key(generate_key())
    theirs = Keyring(a).public_key_of(peer_id_of(b))
    assert theirs == b.public
    assert Keyring(a).shared_with(b.public) == Keyring(b).shared_with(a.public)


@pytest.mark.parametrize(
    "digest",
    [
        bytes((0x12, 32)) + bytes(32),  # a hash of a key
        bytes((0, 36, 8, 1, 18, 32)) + bytes(32),  # ed25519
        bytes((0, 37, 8, 2, 18, 33, 2)) + b"\xff" * 32,  # no point of the curve
    ],
)
def test_peers_with_other_keys_have_none(digest: bytes) -> None:
    assert Keyring(parse_key(generate_key())).public_key_of(PeerId(base58.b58encode(digest).decode())) is None


@pytest.mark.parametrize("public", [b"", bytes(37), bytes((8, 2, 18, 33, 2)) + b"\xff" * 32])
def test_what_is_no_key(public: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        Keyring(parse_key(generate_key())).shared_with(public)
