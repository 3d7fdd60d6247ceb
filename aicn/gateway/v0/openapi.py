"""The OpenAPI 3.1 document of the whole HTTP API, made by quart-schema from the models in `schema`.

Imported when the document is first asked for, and then in a thread: see `aicn/gateway/docs.py`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from importlib import resources
from typing import Any

from quart import Quart
from quart_schema import (
    Info,
    QuartSchema,
    Tag,
    deprecate,
    document_querystring,
    document_request,
    document_response,
    operation_id,
    tag,
)

from aicn import __version__
from aicn.errors import AicnError, AnswerBroken
from aicn.gateway.v0 import schema as described
from aicn.gateway.v0.errors import TABLE, error_event
from aicn.gateway.v0.routes import PREFIX, ROUTES
from aicn.gateway.v0.schema import chat, debug, embedding, health, images, keys, nodes, projects, swarm
from aicn.gateway.v0.schema.shapes import Failure, Operation

OPERATIONS: tuple[Operation, ...] = (
    *nodes.OPERATIONS,
    *chat.OPERATIONS,
    *images.OPERATIONS,
    *embedding.OPERATIONS,
    *debug.OPERATIONS,
    *keys.OPERATIONS,
    *projects.OPERATIONS,
    *swarm.OPERATIONS,
    *health.OPERATIONS,
)
ABOUT = """The HTTP API of a node. Calls below `/api/v0` take and give the bodies of the AIComputingNode v0 API.

Errors are `{"code": …, "message": "…"}` with a true HTTP status. Every answer has `X-Request-Id`, which the node's log repeats."""
TAGS = {
    "Nodes": "This node and others.",
    "Models": "Asking models.",
    "Projects": "Who offers what.",
    "Keys": "Who may use the API, and what was used.",
    "Connections": "Connections of this node.",
    "Health": "For supervisors.",
}
EVERYWHERE = ("unauthorized", "forbidden", "busy", "internal")  # errors that every call can have
JSON, EVENTS, FORM = "application/json", "text/event-stream", "multipart/form-data"
TEXT = {"type": "string"}
REQUEST_ID = {"X-Request-Id": {"description": "The request in the node's log.", "schema": TEXT}}
ANSWERER = {"X-AICN-Node": {"description": "Peer id of the node whose model answered.", "schema": TEXT}}
RETRY_AFTER = {"description": "Seconds until it is worth trying again.", "schema": {"type": "integer", "minimum": 1}}


def document() -> dict[str, Any]:
    """The document."""
    about = {PREFIX + route.path: route.handler.__doc__ for route in ROUTES}
    about |= {one.path: one.answer.__doc__ for one in health.OPERATIONS}
    app = Quart(__name__, static_folder=None)  # serves nothing: quart-schema describes the routes of an application
    extension = QuartSchema(
        app,
        openapi_path=None,
        info=Info("aicn", __version__, description=ABOUT),
        tags=[Tag(name, description) for name, description in TAGS.items()],
        conversion_preference="pydantic",
    )
    for one in OPERATIONS:
        app.add_url_rule(one.path, one.name, _view(one, about[one.path]), methods=[one.method])
    made: dict[str, Any] = extension.openapi_provider.schema()
    made["components"]["schemas"]["Failure"] = Failure.model_json_schema()
    for one in OPERATIONS:
        _complete(made["paths"][one.path][one.method.lower()], one)
    return made


def _view(one: Operation, about: str | None) -> Callable[[], Awaitable[str]]:
    """A stand-in for the call, with everything that quart-schema can say about it."""

    async def view() -> str:
        raise NotImplementedError  # never served

    view.__doc__ = about
    operation_id(one.name)(view)
    tag([one.tag])(view)
    document_response(one.answer)(view)
    if one.request is not None:
        document_request(one.request)(view)
    if one.query is not None:
        document_querystring(one.query)(view)
    if one.deprecated:
        deprecate(view)
    return view


def _complete(operation: dict[str, Any], one: Operation) -> None:
    """Add what quart-schema does not know: examples, event streams, and how the call fails."""
    example = one.example or _example(one.name)
    good = operation["responses"].pop(200)
    good["content"][JSON]["example"] = example["answer"]
    good["headers"] = REQUEST_ID | (ANSWERER if one.tag == "Models" else {})
    if one.request is not None:
        operation["requestBody"]["required"] = True
        operation["requestBody"]["content"][JSON]["example"] = example["request"]
    if one.form:
        operation["requestBody"]["content"][FORM] = {"schema": _with_files(operation["requestBody"]["content"][JSON])}
    if one.event:
        good["content"][EVENTS] = {
            "schema": TEXT | {"description": "The model's events as they come."},
            "examples": {"whole": {"value": one.event}, "broken": {"value": _broken_stream()}},
        }
    operation["responses"] = {"200": good} | dict(_failures(one))


def _with_files(content: dict[str, Any]) -> dict[str, Any]:
    """The schema of a request whose image is a file of a form."""
    schema: dict[str, Any] = content["schema"]
    return schema | {"properties": schema["properties"] | {"image": TEXT | {"format": "binary"}}}


def _example(name: str) -> dict[str, Any]:
    text = resources.files(described).joinpath("examples", f"{name}.json").read_text("utf-8")
    example: dict[str, Any] = json.loads(text)
    return example


def _failures(one: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    """The statuses of the errors that the call can have, each with what they mean."""
    kinds = {*one.errors, *EVERYWHERE}
    for status in sorted({TABLE[kind].status for kind in kinds}):
        rows = {kind: row for kind, row in TABLE.items() if kind in kinds and row.status == status}
        first = next(iter(rows))
        answer: dict[str, Any] = {
            "description": "\n".join(f"* {_numbers(one, kind)}: {_meaning(kind)}" for kind in rows),
            "content": {
                JSON: {
                    "schema": {"$ref": "#/components/schemas/Failure"},
                    "example": {"code": rows[first].plain, "message": _meaning(first)},
                }
            },
        }
        if status in (429, 503):
            answer["headers"] = {"Retry-After": RETRY_AFTER}
        yield str(status), answer


def _numbers(one: Operation, kind: str) -> str:
    row = TABLE[kind]
    both = one.event and row.streamed != row.plain
    return f"{row.plain} ({row.streamed} when streamed)" if both else str(row.plain)


def _meaning(kind: str) -> str:
    cls = next(cls for cls in AicnError.__subclasses__() if cls.code == kind)
    return " ".join((cls.__doc__ or "").split())


def _broken_stream() -> str:
    return (
        'data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
        + error_event(AnswerBroken(_meaning(AnswerBroken.code))).decode()
    )
