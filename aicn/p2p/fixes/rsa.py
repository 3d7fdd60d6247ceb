"""An RSA key is looked at only if it is no larger than it can be, and is taken only with a small exponent.

crypto/rsa.py:66 `from_bytes` parses whatever a stranger sends in its handshake, up to 64 KiB, before it checks the size: an exponent of
480,000 bits costs 4 s of CPU, in which the node does nothing else. Checking a signature takes a thousand times as long with
an exponent as large as the modulus. Test: tests/unit/p2p/test_fixes.py::test_an_rsa_key_costs_little.
"""

from __future__ import annotations

from typing import cast

from libp2p.crypto import serialization
from libp2p.crypto.exceptions import CryptographyError
from libp2p.crypto.keys import KeyType
from libp2p.crypto.rsa import RSAPublicKey

from aicn.p2p.fixes.patch import replace

_LONGEST = 1024  # bytes: DER of 4096 bits, the most that the library takes, has some 550
_LARGEST_EXPONENT = 1 << 32  # everybody has 65537

_upstream = vars(RSAPublicKey)["from_bytes"].__func__


def from_bytes(cls: type[RSAPublicKey], key_bytes: bytes) -> RSAPublicKey:
    """The key in `key_bytes`, DER. CryptographyError, ValueError."""
    if len(key_bytes) > _LONGEST:
        raise CryptographyError(f"an RSA key of {len(key_bytes)} bytes")
    key = cast(RSAPublicKey, _upstream(cls, key_bytes))
    if key.impl.e > _LARGEST_EXPONENT:
        raise CryptographyError("an RSA key with a large exponent")
    return key


def apply() -> None:
    replace(RSAPublicKey, "from_bytes", classmethod(from_bytes))
    # which has taken the method into a table when it was imported
    serialization.key_type_to_public_key_deserializer[KeyType.RSA.value] = RSAPublicKey.from_bytes
