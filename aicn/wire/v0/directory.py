"""Who offers what, all over the network."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aicn.domain.offers import Provider
from aicn.errors import InvalidRequest
from aicn.wire.json_body import take
from aicn.wire.v0 import fields

MOST_NODES = 100  # of one answer; who asks for more gets as many
_NODES = 20  # when it is not said how many
_DIGITS = re.compile(r"0*([0-9]{1,3})", re.ASCII)
_MANY_DIGITS = re.compile(r"[0-9]+", re.ASCII)


def decode_project(body: bytes) -> str:
    """`POST /ai/projects/models`: the project."""
    return fields.name(take(body)[0], "project")


def decode_peers(body: bytes) -> tuple[str, str | None]:
    """`POST /ai/projects/peers`: the project, and the model if only nodes that have it are meant."""
    members, _ = take(body)
    project = fields.name(members, "project")
    return project, fields.name(members, "model") if members.get("model") not in (None, "") else None


def decode_number(text: str | None) -> int:
    """`?number=`: how many nodes at most, 1 to MOST_NODES."""
    if text is None:
        return _NODES
    number = 0
    if match := _DIGITS.fullmatch(text):
        number = int(match[1])
    elif _MANY_DIGITS.fullmatch(text):
        number = MOST_NODES
    if not number:
        raise InvalidRequest(f"number: a whole number from 1 is needed, of which {MOST_NODES} is the most")
    return min(number, MOST_NODES)


def encode_providers(providers: Iterable[Provider]) -> list[dict[str, object]]:
    """`data` of `/ai/projects/peers`; latency in microseconds, 0 when it is not known."""
    return [
        {
            "node_id": one.node,
            "connectivity": int(one.link.connectivity),
            "latency": round(one.link.rtt * 1e6),
        }
        for one in providers
    ]
