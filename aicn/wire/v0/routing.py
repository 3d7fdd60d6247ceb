"""Who would be asked for a model, and why (ours: the existing network has no such call)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aicn.domain.inference import Kind
from aicn.domain.names import LONGEST_NAME
from aicn.domain.registration import KIND_OF_TYPE
from aicn.domain.routing import Verdict
from aicn.errors import InvalidRequest
from aicn.wire.v0 import fields

LONGEST_MODEL = 2 * LONGEST_NAME + 1  # characters: project/model


def decode_route(query: Mapping[str, str]) -> tuple[str | None, str, Kind]:
    """`GET /debug/route?model=&project=&type=`: the project, None when `model` may name it, too; the model; what it is asked for."""
    project = fields.name({"project": query["project"]}, "project") if query.get("project") else None
    model = query.get("model", "")
    if not model or len(model) > LONGEST_MODEL:
        raise InvalidRequest(f"model: a name of 1 to {LONGEST_MODEL} characters is needed")
    number = query.get("type") or "0"
    kinds = {str(one): kind for one, kind in KIND_OF_TYPE.items()}
    if number not in kinds:
        raise InvalidRequest(f"type: one of {', '.join(kinds)} is needed")
    return project, model, kinds[number]


def encode_route(project: str, model: str, verdicts: Iterable[Verdict]) -> dict[str, object]:
    """`data` of the answer: the candidates, the one that would be asked first at the head; `rank` null: not asked at all."""
    return {
        "project": project,
        "model": model,
        "nodes": [encode_verdict(one) for one in verdicts],
    }


def encode_verdict(one: Verdict) -> dict[str, object]:
    """What was thought of one candidate."""
    return {"node_id": one.node, "rank": one.rank, "seconds": round(one.score, 4), "reason": one.reason}
