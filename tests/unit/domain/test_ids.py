"""Peer ids: what is one."""

from __future__ import annotations

import base58
import pytest

from aicn.domain.ids import parse_peer_id
from aicn.errors import InvalidRequest

SECP256K1 = "16Uiu2HAmS4CErxrmPryJbbEX2HFQbLK8r8xCA5rmzdSU59rHc9AF"


@pytest.mark.parametrize(
    "text",
    [
        SECP256K1,
        "12D3KooWRjzt77yw6dNzRDaEvW2Acthy9nPVchQTn1DUCcsFgyKZ",  # Ed25519
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",  # RSA: hashed
    ],
)
def test_ids_of_each_kind_of_key(text: str) -> None:
    assert parse_peer_id(text) == text


def test_no_part_of_an_id_is_one() -> None:
    for end in range(len(SECP256K1)):
        with pytest.raises(InvalidRequest, match="node_id"):
            parse_peer_id(SECP256K1[:end])


@pytest.mark.parametrize(
    "value",
    [None, 5, [], "", "x" * 65, "0" * 52, SECP256K1 + "1", "é" * 52, f" {SECP256K1}"]
    + [base58.b58encode(bytes([code, size]) + bytes(size)).decode() for code, size in [(0, 0), (0, 35), (0, 43), (18, 31), (18, 33), (17, 36)]],
)  # fmt: skip
def test_what_is_no_id(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"peer_id: (a peer id is needed|not a peer id)"):
        parse_peer_id(value, field="peer_id")
