"""API keys and usage (ours: the existing network has neither)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aicn.domain.keys import LONGEST_PATTERN, MOST_PATTERNS, Key, Scope
from aicn.domain.usage import DAY_S, Counts, Row
from aicn.errors import InvalidRequest
from aicn.wire.json_body import take
from aicn.wire.v0 import fields

MOST = 2**53 - 1  # of any number: what every JSON reader has exactly
MOST_RATE = 100_000  # requests per minute: the time of each is kept for that minute
MOST_DAYS = 92


def decode_create(body: bytes) -> tuple[str, Scope]:
    """`POST /keys/create`: the key's name and what it may."""
    members = take(body)[0]
    admin = members.get("admin")
    if not isinstance(admin, bool | None):
        raise InvalidRequest("admin: true or false is needed")
    scope = Scope(
        models=_patterns(members.get("models")),
        requests_per_minute=_number(members, "requests_per_minute", MOST_RATE),
        tokens_per_day=_number(members, "tokens_per_day", MOST),
        concurrency=_number(members, "concurrency", MOST_RATE),
        expires_at=float(_number(members, "expires_at", MOST)),
        admin=bool(admin),
    )
    return fields.name(members, "name"), scope


def decode_revoke(body: bytes) -> str:
    """`POST /keys/revoke`: the key's id."""
    return fields.name(take(body)[0], "id")


def decode_usage(query: Mapping[str, str]) -> tuple[int, bool, str | None]:
    """`GET /usage?days=&by=&key=`: how many days, whether by the hour, and of which key alone."""
    days = query.get("days") or "1"
    if not (days.isascii() and days.isdecimal() and len(days) <= 3 and 1 <= int(days) <= MOST_DAYS):
        raise InvalidRequest(f"days: a number from 1 to {MOST_DAYS} is needed")
    by = query.get("by") or "total"
    if by not in ("total", "hour"):
        raise InvalidRequest("by: total or hour is needed")
    return int(days) * DAY_S, by == "hour", query.get("key")


def encode_key(key: Key) -> dict[str, object]:
    """A key without its secret."""
    scope = key.scope
    return {
        "id": key.id,
        "name": key.name,
        "models": list(scope.models),
        "requests_per_minute": scope.requests_per_minute,
        "tokens_per_day": scope.tokens_per_day,
        "concurrency": scope.concurrency,
        "expires_at": int(scope.expires_at),
        "admin": scope.admin,
        "created_at": int(key.created_at),
    }


def encode_usage(rows: Iterable[tuple[Row, Counts]]) -> list[dict[str, object]]:
    """Usage, one object per row."""
    return [
        {
            "hour": row.hour,
            "key": row.key,
            "project": row.project,
            "model": row.model,
            "node_id": row.peer,
            "requests": counts.requests,
            "failed": counts.failed,
            "prompt_tokens": counts.prompt_tokens,
            "completion_tokens": counts.completion_tokens,
            "estimated_tokens": counts.estimated_tokens,
            "bytes_in": counts.bytes_in,
            "bytes_out": counts.bytes_out,
        }
        for row, counts in rows
    ]


def _patterns(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MOST_PATTERNS:
        raise InvalidRequest(f"models: a list of at most {MOST_PATTERNS} patterns is needed")
    for place, one in enumerate(value):
        if not isinstance(one, str) or not 0 < len(one) <= LONGEST_PATTERN or not one.isprintable():
            raise InvalidRequest(f"models[{place}]: a pattern of 1 to {LONGEST_PATTERN} characters is needed")
    return tuple(value)


def _number(members: dict[str, Any], name: str, most: int) -> int:
    value = members.get(name)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= most:  # `type`: True is an int, too
        raise InvalidRequest(f"{name}: a whole number from 0 to {most} is needed")
    return value
