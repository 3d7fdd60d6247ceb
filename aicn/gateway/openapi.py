"""The OpenAPI 3.1 document of the whole HTTP API. Imported when it is first asked for: see `aicn/gateway/docs.py`."""

from __future__ import annotations

from typing import Any

from aicn.gateway.openai import openapi as openai
from aicn.gateway.v0 import openapi as v0


def document() -> dict[str, Any]:
    """The document: that of the v0 API, with the calls of `/v1` before its own."""
    made = v0.document()
    made["tags"] = [{"name": openai.TAG, "description": openai.ABOUT}, *made["tags"]]
    made["paths"] = openai.paths() | made["paths"]
    made["components"]["schemas"] |= openai.SCHEMAS
    return made
