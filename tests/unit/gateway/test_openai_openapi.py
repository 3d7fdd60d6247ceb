"""What /openapi.json says of `/v1`, against the routes, the decoders and itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from aicn.domain.inference import Kind
from aicn.errors import InvalidRequest
from aicn.gateway.openai import openapi
from aicn.gateway.openai.routes import PREFIX, ROUTES
from aicn.gateway.openapi import document
from aicn.gateway.v0 import openapi as v0
from aicn.wire.openai import requests
from aicn.wire.openai.requests import Asked

DOCUMENT = document()
DECODERS: dict[str, Callable[[bytes], Asked]] = {
    "/chat/completions": requests.decode_chat,
    "/completions": requests.decode_completion,
    "/embeddings": requests.decode_embedding,
    "/images/generations": partial(requests.decode_image, kind=Kind.IMAGE_GENERATION),
    "/images/edits": partial(requests.decode_image, kind=Kind.IMAGE_EDIT),
}


def test_both_facades_are_in_the_document_and_share_no_name() -> None:
    told = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    served = {(route.method, PREFIX + route.path.replace("<path:id>", "{id}")) for route in ROUTES}
    assert served == {(method, path) for method, path in told if path.startswith(PREFIX)}
    assert {(one.method, one.path) for one in v0.OPERATIONS} <= told
    assert not openapi.SCHEMAS.keys() & v0.document()["components"]["schemas"].keys()
    operations = [one for methods in DOCUMENT["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(one["summary"] for one in operations)
    for name in openapi.SCHEMAS:
        Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][name])
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize("path", openapi.REQUESTS)
def test_what_is_needed_is_what_the_decoder_needs(path: str) -> None:
    content = DOCUMENT["paths"][PREFIX + path]["post"]["requestBody"]["content"]["application/json"]
    example: dict[str, Any] = content["example"]
    Draft202012Validator(content["schema"]).validate(example)
    assert DECODERS[path](json.dumps(example).encode()).model == example["model"]
    for name in content["schema"]["required"]:
        less = {other: value for other, value in example.items() if other != name}
        with pytest.raises(InvalidRequest, match=f"^{name}: "):
            DECODERS[path](json.dumps(less).encode())
