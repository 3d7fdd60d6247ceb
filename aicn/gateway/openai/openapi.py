"""The calls of `/v1` for /openapi.json, in short: what their bodies hold is OpenAI's to say, and passes through.

Described is what this node reads of a request or says itself.
"""

from __future__ import annotations

from typing import Any

from aicn.gateway.openai.errors import TABLE
from aicn.gateway.openai.routes import PREFIX, ROUTES

TAG = "OpenAI"
ABOUT = (
    'OpenAI\'s API: a model is named, and whichever node has it answers. Errors are `{"error": {…}, "request_id": …}`.'
)
SEE = {"description": "OpenAI's API reference", "url": "https://platform.openai.com/docs/api-reference"}
TEXT = {"type": "string"}
MODEL = TEXT | {"description": "A name that `GET /v1/models` lists: `model`, or `project/model`."}
STREAM = {"type": "boolean", "default": False, "description": "Answer by server-sent events, the last `[DONE]`."}
TEXTS = {"description": "A text, or a list of texts or of tokens."}
MESSAGES = {"type": "array", "minItems": 1, "items": {"type": "object"}}
IMAGE = TEXT | {"description": "URL of the image; a file in a form."}
FORMAT = {"type": "string", "enum": ["b64_json", "url"], "default": "b64_json"}
REQUESTS: dict[str, dict[str, Any]] = {  # members that are read, those that are needed first and with an example
    "/chat/completions": {"model": MODEL, "messages": MESSAGES, "stream": STREAM},
    "/completions": {"model": MODEL, "prompt": TEXTS, "stream": STREAM},
    "/embeddings": {"model": MODEL, "input": TEXTS},
    "/images/generations": {"model": MODEL, "prompt": TEXT, "response_format": FORMAT},
    "/images/edits": {"model": MODEL, "prompt": TEXT, "image": IMAGE, "response_format": FORMAT},
}
EXAMPLES: dict[str, Any] = {
    "model": "Llama3-8B",
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    "prompt": "A blue sky",
    "input": "Why is the sky blue?",
    "image": "https://example.com/sky.png",
}
USED = {"type": "object", "description": "Tokens."}
ITEMS = {"type": "array", "minItems": 1, "items": {"type": "object"}}
ANSWERS: dict[str, dict[str, Any]] = {
    "/chat/completions": {"choices": ITEMS, "usage": USED},
    "/completions": {"choices": ITEMS, "usage": USED},
    "/embeddings": {"data": ITEMS, "usage": USED},
    "/images/generations": {"created": {"type": "integer"}, "data": ITEMS},
    "/images/edits": {"created": {"type": "integer"}, "data": ITEMS},
    "/models": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
    },
}
BODY_ERRORS = ("invalid_request", "malformed_body", "unsupported_media_type", "too_large", "slow_body")
ERRORS = (*BODY_ERRORS, "rate_limited", "unknown_model", "no_node", "model_failed", "deadline_exceeded")
EVERYWHERE = ("unauthorized", "forbidden", "busy", "internal")
NUMBER = {"type": "integer", "minimum": 0}
SCHEMAS: dict[str, dict[str, Any]] = {
    "Model": {
        "type": "object",
        "description": "A model of the network, over all nodes that offer it.",
        "properties": {
            "id": TEXT,
            "object": {"const": "model"},
            "created": NUMBER | {"description": "Unix time from which on this node could know of it."},
            "owned_by": TEXT | {"description": "Its project."},
            "kinds": {"type": "array", "items": TEXT, "description": "chat, embedding, image_generation, image_edit"},
            "nodes": NUMBER | {"description": "How many offer it."},
            "slots": NUMBER | {"description": "Requests that run at once."},
            "in_flight": NUMBER | {"description": "Requests that ran or waited when the nodes last said so."},
            "context_length": {"type": ["integer", "null"], "description": "Tokens; null: nobody said."},
            "aliases": {"type": "array", "items": TEXT},
        },
    },
    "OpenAIError": {
        "type": "object",
        "required": ["error", "request_id"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": TEXT,
                    "type": TEXT,
                    "param": {"type": ["string", "null"], "description": "The member of the request that is wrong."},
                    "code": TEXT,
                },
            },
            "request_id": TEXT | {"description": "The request in the node's log."},
        },
    },
}


def paths() -> dict[str, dict[str, Any]]:
    """Path items of all calls."""
    made: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        path = route.path.replace("<path:id>", "{id}")
        operation: dict[str, Any] = {
            "tags": [TAG],
            "summary": (route.handler.__doc__ or "").strip(),
            "operationId": f"openai_{route.handler.__name__}",
            "externalDocs": SEE,
            "responses": {"200": _answer(path), **_failures(path)},
        }
        if path in REQUESTS:
            operation["requestBody"] = {"required": True, "content": _content(path)}
        if "{id}" in path:
            operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": MODEL}]
        made.setdefault(PREFIX + path, {})[route.method.lower()] = operation
    return made


def _content(path: str) -> dict[str, Any]:
    members = REQUESTS[path]
    needed = [name for name in members if name in EXAMPLES]
    of = {"type": "object", "required": needed, "properties": members, "additionalProperties": True}
    content = {"application/json": {"schema": of, "example": {name: EXAMPLES[name] for name in needed}}}
    if path == "/images/edits":
        with_file = members | {"image": TEXT | {"format": "binary"}}
        content["multipart/form-data"] = {"schema": of | {"properties": with_file}}
    return content


def _answer(path: str) -> dict[str, Any]:
    of = {"type": "object", "properties": ANSWERS[path]} if path in ANSWERS else {"$ref": "#/components/schemas/Model"}
    content: dict[str, Any] = {"application/json": {"schema": of}}
    if "stream" in REQUESTS.get(path, ()):
        content["text/event-stream"] = {"schema": TEXT | {"description": "The model's events as they come."}}
    return {
        "description": "What the model answered." if path in REQUESTS else "What the network has.",
        "content": content,
    }


def _failures(path: str) -> dict[str, Any]:
    kinds = [
        *EVERYWHERE,
        *(ERRORS if path in REQUESTS else ("unknown_model", "invalid_request") if "{" in path else ()),
    ]
    rows = [TABLE[kind] for kind in kinds]
    of = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}
    return {
        str(status): {
            "description": ", ".join(f"`{row.code}`" for row in rows if row.status == status),
            "content": of,
        }
        for status in sorted({row.status for row in rows})
    }
