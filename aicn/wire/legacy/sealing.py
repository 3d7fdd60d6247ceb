"""Encryption of bodies: 12-byte random nonce ‖ AES-256-GCM(body), no associated data.

The key is the x coordinate of the ECDH point of both nodes' keys (RFC 5903: x only, not hashed); `p2p.identity` makes it.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aicn.errors import ProtocolViolation

NONCE_BYTES = 12
TAG_BYTES = 16


def seal(secret: bytes, plain: bytes, *, nonce: bytes | None = None) -> bytes:
    """`plain` for whoever has `secret`; `nonce` is for tests."""
    nonce = os.urandom(NONCE_BYTES) if nonce is None else nonce
    return nonce + AESGCM(secret).encrypt(nonce, plain, None)


def unseal(secret: bytes, sealed: bytes) -> bytes:
    """What was sealed. ProtocolViolation: with another secret, or changed since."""
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise ProtocolViolation("legacy: a sealed body is too short")
    try:
        return AESGCM(secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
    except InvalidTag:
        raise ProtocolViolation("legacy: a body cannot be decrypted") from None
