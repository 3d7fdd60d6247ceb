"""What became of a request (ours: the existing network has no such call)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aicn.domain.inference import Usage
from aicn.domain.routing import Attempt, Trace
from aicn.domain.served import Served
from aicn.errors import InvalidRequest
from aicn.wire.v0.routing import encode_verdict

LONGEST_ID = 256  # characters, as in proto/inference.proto; ours have 32


def decode_trace(query: Mapping[str, str]) -> str:
    """`GET /debug/trace?id=`: the request's id."""
    request_id = query.get("id", "")
    if not request_id or len(request_id) > LONGEST_ID:
        raise InvalidRequest(f"id: the X-Request-Id of an answer is needed, 1 to {LONGEST_ID} characters")
    return request_id


def encode_trace(
    request_id: str, trace: Trace | None, served: Served | None, worked: Iterable[Served]
) -> dict[str, object]:
    """`data` of the answer: what the client got, the way from here, and what models of this node did for it."""
    return {
        "id": request_id,
        "asked": None if served is None else _served(served),
        "way": None if trace is None else _way(trace),
        "worked": [_served(one) for one in worked],
    }


def _served(one: Served) -> dict[str, object]:
    return {
        "surface": one.surface,
        "node_id": one.node,
        "kind": one.kind.name.lower(),
        "project": one.project,
        "model": one.model,
        "stream": one.stream,
        "key": one.key,
        "ended_at": round(one.at, 3),
        "seconds": round(one.seconds, 4),
        "queued_s": round(one.queued_s, 3),
        "first_s": _seconds(one.first_s),
        "usage": _usage(one.usage),
        "finish_reason": one.finish_reason,
        "error": one.code,
    }


def _way(trace: Trace) -> dict[str, object]:
    return {
        "began_at": round(trace.at, 3),
        "seconds": _seconds(trace.ended_s),
        "error": trace.error,
        "candidates": [encode_verdict(one) for one in trace.verdicts],
        "attempts": [_attempt(one, trace.began) for one in trace.attempts],
    }


def _attempt(one: Attempt, began: float) -> dict[str, object]:
    return {
        "node_id": one.node,
        "after_s": round(one.began - began, 4),
        "relayed": one.relayed,
        "hedge": one.hedge,
        "resumed": one.resumed,
        "accepted_s": _seconds(one.accepted_s),
        "queued_ms": one.queued_ms,
        "first_s": _seconds(one.first_s),
        "ended_s": _seconds(one.ended_s),
        "chunks": one.chunks,
        "error": one.error,
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _usage(usage: Usage | None) -> dict[str, int] | None:
    if usage is None:
        return None
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
