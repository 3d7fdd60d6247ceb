"""The API keys of this node: made, found by what a client shows, revoked. Kept in memory, written through."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from aicn.domain.keys import Key, Scope, new_secret, split_secret
from aicn.errors import InvalidRequest, Unauthorized
from aicn.services.ports import KeyStore

MOST_KEYS = 10_000


class Keys:
    """Every key of the node."""

    def __init__(self, store: KeyStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._keys: dict[str, Key] = {}

    async def load(self) -> None:
        """Take what is stored. StorageError."""
        self._keys = {key.id: key for key in await self._store.load()}

    async def create(self, name: str, scope: Scope) -> tuple[Key, str]:
        """A new key and its secret, which can never be told again. InvalidRequest: too many, or expired already; StorageError."""
        now = self._clock()
        if len(self._keys) >= MOST_KEYS:
            raise InvalidRequest(f"there are {MOST_KEYS} keys already; revoke some")
        if scope.expires_at and scope.expires_at <= now:
            raise InvalidRequest("expires_at: has passed already")
        key_id, digest, secret = new_secret()
        key = Key(key_id, name, digest, scope, now)
        await self._store.add(key)
        self._keys[key_id] = key
        return key, secret

    async def revoke(self, key_id: str) -> bool:
        """Refuse the key from now on; False: there is none. StorageError: it is refused until the next start only."""
        if self._keys.pop(key_id, None) is None:
            return False
        await self._store.remove(key_id)
        return True

    def listed(self) -> Sequence[Key]:
        """All keys, the oldest first, expired ones included."""
        return list(self._keys.values())

    def check(self, secret: str) -> Key:
        """The key that `secret` is of. Unauthorized: none, or expired; the message does not repeat it."""
        parts = split_secret(secret)
        key = self._keys.get(parts[0]) if parts is not None else None
        if key is None or parts is None or not key.proves(parts[1]):
            raise Unauthorized("the API key is not one of this node's, or was revoked")
        if key.scope.expires_at and key.scope.expires_at <= self._clock():
            raise Unauthorized(f"API key {key.id} has expired")
        return key
