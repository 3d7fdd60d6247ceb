"""Secrets between this node and others: fits `services.ports.Keyring`."""

from __future__ import annotations

from functools import lru_cache

from aicn.domain.ids import PeerId
from aicn.errors import ProtocolViolation
from aicn.p2p.identity import Key, public_key_in


class Keyring:
    """The ECDH secrets of one key; those used last are remembered, since a point multiplication takes 60 µs."""

    def __init__(self, key: Key) -> None:
        self.public = key.public
        self._shared_with = lru_cache(maxsize=4096)(key.shared_with)

    def public_key_of(self, peer: PeerId) -> bytes | None:
        public = public_key_in(peer)
        try:
            self.shared_with(public or b"")
        except ProtocolViolation:  # a hash, another kind of key, or no point of the curve
            return None
        return public

    def shared_with(self, public: bytes) -> bytes:
        try:
            return self._shared_with(public)
        except ValueError as error:
            raise ProtocolViolation(f"a key: {error}") from None
