"""Answers that are not a model's own words: lists of models, images, errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aicn.domain.offers import ListedModel
from aicn.errors import ModelFailed
from aicn.wire import sse
from aicn.wire.completion import parse_object
from aicn.wire.v0.answers import encode_json, encode_usage

_IMAGE_MEMBERS = ("b64_json", "url", "revised_prompt")


def encode_models(models: Sequence[ListedModel]) -> bytes:
    """`GET /v1/models`."""
    return b'{"object":"list","data":[' + b",".join(map(encode_model, models)) + b"]}"


def encode_model(model: ListedModel) -> bytes:
    """`GET /v1/models/{id}`."""
    return encode_json(_model(model))


def encode_images(body: bytes, *, source: str) -> bytes:
    """OpenAI's answer to an image request, from what the worker `source` answers to it. ModelFailed."""
    match parse_object(body):
        case {"choices": [_, *_] as choices, **more} if all(isinstance(one, dict) for one in choices):
            data = [{name: one[name] for name in _IMAGE_MEMBERS if isinstance(one.get(name), str)} for one in choices]
            if all(data):
                created = more.get("created")
                return encode_json({"created": created if type(created) is int else 0, "data": data})
    raise ModelFailed(f"{source} answered without images")


def encode_error(message: str, *, kind: str, param: str | None, code: str, request_id: str) -> bytes:
    """The body of a failure."""
    return encode_json({"error": _error(message, kind, param, code), "request_id": request_id})


def encode_error_event(
    message: str,
    *,
    kind: str,
    param: str | None,
    code: str,
    request_id: str,
    usage: tuple[int, int] | None = None,
) -> bytes:
    """The event that ends a broken stream: no `[DONE]` follows. `usage`: tokens asked and answered of what was told."""
    told = {} if usage is None else {"usage": encode_usage(usage)}
    return sse.encode_error_event({**_error(message, kind, param, code), "request_id": request_id, **told})


def _error(message: str, kind: str, param: str | None, code: str) -> dict[str, object]:
    return {"message": message, "type": kind, "param": param, "code": code}


def _model(model: ListedModel) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.since,
        "owned_by": model.project,
        "kinds": [kind.name.lower() for kind in model.kinds],
        "nodes": model.nodes,
        "slots": model.slots,
        "in_flight": model.in_flight,
        "context_length": model.context or None,
        "aliases": list(model.aliases),
    }
