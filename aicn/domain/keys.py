"""API keys: who may use this node's HTTP API, for which models and how much.

A key's secret is `aicn_<id>_<64 hex digits>`: the id finds the key, the 256 random bits prove it. What is stored is their SHA-256: a
slow hash is for passwords, which people choose and others guess; 256 random bits are beyond guessing at any speed, and each request
would pay for the slowness.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from aicn.domain.names import LONGEST_NAME

PREFIX = "aicn_"
MOST_PATTERNS = 100  # of one key
LONGEST_PATTERN = 2 * LONGEST_NAME + 1  # characters: project/model
ANY = "*"
_ID = re.compile(r"[0-9a-f]{12}", re.ASCII)
_SECRET = re.compile(r"aicn_([0-9a-f]{12})_([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a key may. Numbers: 0 is no limit."""

    models: tuple[str, ...] = ()  # patterns of `project/model`, or of a model's name in any project; none: all models
    requests_per_minute: int = 0  # in any 60 s
    tokens_per_day: int = 0  # of prompts and answers, from midnight UTC on
    concurrency: int = 0  # requests at work at once
    expires_at: float = 0.0  # Unix time; 0: never
    admin: bool = False  # may also do what changes the node

    def allows(self, project: str, model: str) -> bool:
        """Whether it covers this model."""
        full = f"{project}/{model}"
        return not self.models or any(fits(one, full if "/" in one else model) for one in self.models)


@dataclass(frozen=True, slots=True)
class Key:
    """One key, as it is kept."""

    id: str  # 12 hex digits; no secret
    name: str
    digest: bytes  # SHA-256 of the secret's random bits
    scope: Scope
    created_at: float  # Unix time

    def proves(self, random: str) -> bool:
        """Whether `random` is the key's own. Takes as long for a wrong one."""
        return hmac.compare_digest(_digest(random), self.digest)


def new_secret() -> tuple[str, bytes, str]:
    """The id and the digest of a new key, and its secret, which nobody keeps."""
    key_id, random = secrets.token_hex(6), secrets.token_hex(32)
    return key_id, _digest(random), f"{PREFIX}{key_id}_{random}"


def is_key_id(text: str) -> bool:
    """Whether `text` has the form of a key's id; peer ids do not."""
    return _ID.fullmatch(text) is not None


def split_secret(secret: str) -> tuple[str, str] | None:
    """The id and the random bits of a secret; None: it is none."""
    match = _SECRET.fullmatch(secret)
    return (match[1], match[2]) if match is not None else None


def fits(pattern: str, text: str) -> bool:
    """Whether `text` fits `pattern`, where `*` stands for anything, also nothing. Takes linear time for any pattern."""
    first, *rest = pattern.split(ANY)
    if not rest:
        return text == pattern
    *middle, last = rest
    if not text.startswith(first) or len(text) < len(first) + len(last) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _digest(random: str) -> bytes:
    return hashlib.sha256(random.encode()).digest()
