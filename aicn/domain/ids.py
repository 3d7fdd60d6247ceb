"""Peer ids (libp2p spec, peer-ids): base58btc of a multihash, `16Uiu2HA…` for the secp256k1 keys that nodes have."""

from __future__ import annotations

from functools import lru_cache
from typing import NewType

import base58

from aicn.errors import InvalidRequest

PeerId = NewType("PeerId", str)

# How many bytes follow the two multihash functions that a peer id may use: a whole public key as it is (Ed25519: 36; at most 42, or
# it is hashed), or SHA2-256. So the beginning of an id, which is what people paste by mistake, is none.
_SIZES = {0x00: range(36, 43), 0x12: range(32, 33)}
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
    return len(digest) > 2 and len(digest) - 2 == digest[1] and digest[1] in _SIZES.get(digest[0], ())
