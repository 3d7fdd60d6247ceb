"""The OpenAPI 3.1 document of the whole HTTP API. Imported when it is first asked for: see `aicn/gateway/docs.py`."""

from __future__ import annotations

from typing import Any

from aicn.gateway.openai import openapi as openai
from aicn.gateway.v0 import openapi as v0

METRICS = {
    "get": {
        "summary": "What the node counts, for Prometheus.",
        "operationId": "metrics",
        "tags": ["Health"],
        "responses": {
            "200": {
                "description": "Prometheus' text format.",
                "content": {"text/plain": {"schema": {"type": "string"}, "example": "aicn_peers 4.0\n"}},
            }
        },
    }
}


def document() -> dict[str, Any]:
    """The document: that of the v0 API, with the calls of `/v1` before its own."""
    made = v0.document()
    made["tags"] = [{"name": openai.TAG, "description": openai.ABOUT}, *made["tags"]]
    made["paths"] = openai.paths() | made["paths"] | {"/metrics": METRICS}
    made["components"]["schemas"] |= openai.SCHEMAS
    return made
