"""Projects and their models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from aicn.domain.registration import KIND_OF_TYPE, LONGEST_CONTEXT, Endpoint, Project, check_headers
from aicn.errors import InvalidRequest
from aicn.wire.json_body import take
from aicn.wire.v0 import fields

MOST_MODELS = 1000  # of one project: an offer must stay far below pubsub's 1 MiB


class Registered(NamedTuple):
    """`POST /ai/project/register`."""

    project: str
    endpoints: tuple[Endpoint, ...]  # one per entry of `models`
    probe: bool  # ask each of them first (ours)


def decode_register(body: bytes) -> Registered:
    """What is to be registered. Errors name the field and repeat no header, key or URL."""
    members = _any_case(take(body)[0])
    project = fields.name(members, "project")
    models = members.get("models")
    if not isinstance(models, list) or not 0 < len(models) <= MOST_MODELS:
        raise InvalidRequest(f"models: a list of 1 to {MOST_MODELS} models is needed")
    probe = members.get("probe")
    if not isinstance(probe, bool | None):
        raise InvalidRequest("probe: true or false is needed")
    endpoints = tuple(_endpoint(project, item, f"models[{i}]") for i, item in enumerate(models))
    return Registered(project, endpoints, bool(probe))


def decode_unregister(body: bytes) -> tuple[str, str | None]:
    """`POST /ai/project/unregister`: the project, and the one model of it if only that is meant."""
    members = _any_case(take(body)[0])
    project = fields.name(members, "project")
    return project, fields.name(members, "model") if members.get("model") is not None else None


def _endpoint(project: str, item: object, where: str) -> Endpoint:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{where}: an object with model and api is needed")
    item = _any_case(item)
    kind = item.get("type")
    if kind is None:
        kind = 0
    if type(kind) is not int or kind not in KIND_OF_TYPE:  # `type`: True is an int, too
        raise InvalidRequest(
            f"{where}.type: 0 (text), 1 (text to image), 2 (image to image) or 3 (embedding) is needed"
        )
    model = fields.name(item, "model", where + ".")
    url = fields.url(item.get("api"), where + ".api")
    headers, api_key = _headers(item.get("headers"), where), item.get("api_key")
    if api_key is None:
        api_key = ""
    elif not isinstance(api_key, str) or not api_key:
        raise InvalidRequest(f"{where}.api_key: text is needed")
    try:
        check_headers(headers, api_key, url)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}.{error.message}") from None
    return Endpoint(project, model, url, kind, headers, api_key, _context(item.get("context"), where))


def _context(tokens: object, where: str) -> int:
    if tokens is None:
        return 0
    if type(tokens) is not int or not 0 <= tokens <= LONGEST_CONTEXT:
        raise InvalidRequest(f"{where}.context: a number of tokens is needed, at most {LONGEST_CONTEXT}")
    return tokens


def _any_case(members: dict[str, Any]) -> dict[str, Any]:
    """`members` under lower-case names, too. The existing program ignores letter case, and its configuration, which entries of
    projects are copied from, has `Project`, `Models`, `API`."""
    return {name.lower(): value for name, value in members.items()} | members


def _headers(headers: object, where: str) -> tuple[tuple[str, str], ...]:
    if headers is None:
        return ()
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidRequest(f"{where}.headers: an object of header names and texts is needed")
    return tuple(headers.items())


def encode_projects(projects: Iterable[Project]) -> list[dict[str, object]]:
    """`data` of `/ai/project/peer`."""
    return [{"project": project.name, "models": list(project.models)} for project in projects]
