"""Peer ids (libp2p spec, peer-ids): base58btc of a multihash, `16Uiu2HA…` for the secp256k1 keys that nodes have."""

from __future__ import annotations

from functools import lru_cache
from typing import NewType

import base58

from aicn.errors import InvalidRequest

PeerId = NewType("PeerId", str)

_IDENTITY, _SHA2_256 = 0x00, 0x12  # the two multihash functions that a peer id may use
_LONGEST = 64  # an identity id holds a key of at most 42 bytes: 60 characters of base58


def parse_peer_id(text: object, *, field: str = "node_id") -> PeerId:
    """`text` as a peer id; InvalidRequest naming `field` when it is none."""
    if not isinstance(text, str) or not text:
        raise InvalidRequest(f"{field}: a peer id is needed, such as 16Uiu2HAm…")
    if len(text) > _LONGEST or not _is_peer_id(text):
        raise InvalidRequest(f"{field}: not a peer id: {text[:_LONGEST]!r}")
    return PeerId(text)


@lru_cache(1024)  # every request names a peer, mostly one of a few; base58 is 20 µs of big-number arithmetic
def _is_peer_id(text: str) -> bool:
    try:
        digest = base58.b58decode(text)
    except ValueError:
        return False
    return len(digest) >= 2 and digest[0] in (_IDENTITY, _SHA2_256) and digest[1] == len(digest) - 2
