"""`AIProjects` of AIComputingNode's configuration file → endpoints, as `POST /ai/project/register` would take them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from aicn.config.legacy_keys import Verdict
from aicn.domain.names import LONGEST_NAME, is_name
from aicn.domain.registration import Endpoint, check_url
from aicn.errors import InvalidRequest

TYPES = {0: "text", 1: "text to image", 2: "image to image"}
_PROJECT, _MODEL = ("Project", "Models"), ("Model", "API", "Type", "CID")

Judged = tuple[str, Verdict]  # where, and what becomes of it; the verdict's value is an Endpoint where it is taken


class WrongType(ValueError):
    """A member is not of the type that the Go program writes."""

    def __init__(self, where: str, expected: str, got: object) -> None:
        super().__init__(expected)
        self.where, self.expected, self.got = where, expected, got


def judge_projects(projects: object) -> Iterator[Judged]:
    """One verdict per model, and one per member that nobody knows. WrongType."""
    for i, project in enumerate(_typed("AIProjects", projects, list, "a list of projects")):
        where = f"AIProjects[{i}]"
        members, unknown = _members(where, project, _PROJECT)
        yield from unknown
        name = _typed(f"{where}.Project", members.get("Project", ""), str, "text")
        models = _typed(f"{where}.Models", members.get("Models", []), list, "a list of models")
        if not models:
            yield where, Verdict("left out", None, f"project {name!r} has no models")
        for j, model in enumerate(models):
            yield from _model(f"{where}.Models[{j}]", name, model)


def _model(where: str, project: str, model: object) -> Iterator[Judged]:
    members, unknown = _members(where, model, _MODEL)
    yield from unknown
    name = _typed(f"{where}.Model", members.get("Model", ""), str, "text")
    url = _typed(f"{where}.API", members.get("API", ""), str, "text", secret=True)
    kind = _typed(f"{where}.Type", members.get("Type", 0), int, "a whole number")
    _typed(f"{where}.CID", members.get("CID", ""), str, "text")  # a container's id: we look after no containers
    what = f"model {name!r} of project {project!r}"
    if not is_name(project) or not is_name(name):
        why = f"{what}: a name has 1 to {LONGEST_NAME} printable characters; register it under another"
    elif kind not in TYPES:
        why = f"{what}: type {kind} is none of 0, 1, 2; register it with the right one"
    elif fault := _fault(url):
        why = f"{what}: {fault}; register it with the right one"
    else:
        parts = urlsplit(url)  # no user, path or query: they may hold a secret
        at = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        yield where, Verdict("taken", Endpoint(project, name, url, kind), f"{what} at {at}, {TYPES[kind]}")
        return
    yield where, Verdict("left out", None, why)


def _fault(url: str) -> str:
    """What is wrong with it, without a part of it; empty: nothing."""
    try:
        check_url(url)
    except InvalidRequest as error:
        return error.message
    return ""


def _members(where: str, item: object, names: tuple[str, ...]) -> tuple[dict[str, Any], list[Judged]]:
    """The known members, letter case ignored and null as if absent, as Go reads them; and verdicts of the unknown."""
    known = {name.lower(): name for name in names}
    table = _typed(where, item, dict, "an object")
    unknown = [name for name in table if name.lower() not in known]
    members = {known[name.lower()]: value for name, value in table.items() if name not in unknown and value is not None}
    return members, [(f"{where}.{name}", Verdict("unknown")) for name in unknown]


def _typed(where: str, value: Any, kind: type, expected: str, *, secret: bool = False) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise WrongType(where, expected, "something else (not shown)" if secret else value)
    return value
