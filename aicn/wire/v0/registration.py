"""Projects and their models."""

from __future__ import annotations

from collections.abc import Iterable

from aicn.domain.registration import KIND_OF_TYPE, Endpoint, Project
from aicn.errors import InvalidRequest
from aicn.wire.json_body import take
from aicn.wire.v0 import fields

MOST_MODELS = 1000  # of one project: an offer must stay far below pubsub's 1 MiB


def decode_register(body: bytes) -> tuple[str, tuple[Endpoint, ...]]:
    """`POST /ai/project/register`: the project and its endpoints, the same one given twice only once."""
    members, _ = take(body)
    project = fields.name(members, "project")
    models = members.get("models")
    if not isinstance(models, list) or not 0 < len(models) <= MOST_MODELS:
        raise InvalidRequest(f"models: a list of 1 to {MOST_MODELS} models is needed")
    return project, tuple(dict.fromkeys(_endpoint(project, item, f"models[{i}]") for i, item in enumerate(models)))


def decode_unregister(body: bytes) -> tuple[str, str | None]:
    """`POST /ai/project/unregister`: the project, and the one model of it if only that is meant."""
    members, _ = take(body)
    project = fields.name(members, "project")
    return project, fields.name(members, "model") if members.get("model") is not None else None


def _endpoint(project: str, item: object, where: str) -> Endpoint:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{where}: an object with model and api is needed")
    kind = item.get("type")
    if kind is None:
        kind = 0
    if type(kind) is not int or kind not in KIND_OF_TYPE:  # `type`: True is an int, too
        raise InvalidRequest(
            f"{where}.type: 0 (text), 1 (text to image), 2 (image to image) or 3 (embedding) is needed"
        )
    return Endpoint(
        project=project,
        model=fields.name(item, "model", where + "."),
        url=fields.url(item.get("api"), where + ".api"),
        type=kind,
    )


def encode_projects(projects: Iterable[Project]) -> list[dict[str, object]]:
    """`data` of `/ai/project/peer`."""
    return [{"project": project.name, "models": list(project.models)} for project in projects]
