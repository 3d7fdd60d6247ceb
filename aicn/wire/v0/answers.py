"""The envelope of answers, and errors."""

from __future__ import annotations

import json


def encode_json(value: object) -> bytes:
    """Compact UTF-8 JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def encode_ok(message: str = "ok") -> bytes:
    """The answer of a call that has nothing to tell."""
    return encode_json({"code": 0, "message": message})


def encode_data(data: object) -> bytes:
    """The success envelope around a value."""
    return wrap_data(encode_json(data))


def wrap_data(data: bytes) -> bytes:
    """The success envelope around JSON text, which is not touched."""
    return b'{"code":0,"message":"ok","data":' + data + b"}"


def encode_error(code: int, message: str) -> bytes:
    """The body of a failure; `code` is a number of spec 1."""
    return encode_json({"code": code, "message": message})


def encode_error_event(code: int, message: str, usage: tuple[int, int] | None = None) -> bytes:
    """The SSE event that ends a broken answer; `error` is where OpenAI clients look for it. `usage`: tokens of what was told."""
    error: dict[str, object] = {"message": message, "code": code}
    if usage is not None:
        error["usage"] = encode_usage(usage)
    return b"event: error\ndata: " + encode_json({"code": code, "message": message, "error": error}) + b"\n\n"


def encode_usage(usage: tuple[int, int]) -> dict[str, int]:
    """OpenAI's `usage` of tokens asked and answered."""
    asked, answered = usage
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
