"""What the demo endpoint says: spec 2's objects, with OpenAI's fields in them."""

from __future__ import annotations

import json
import re
import struct
import time
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256, shake_256
from math import sqrt
from typing import Any

from aicn.dev.fields import Fields
from aicn.errors import InvalidRequest

_GREETING = "This is aicn's demo endpoint: no model runs here, it repeats what it hears. You said: "
_HEARD = 4000  # characters that are repeated
_TOKEN = re.compile(r"\S+\s*|\s+")  # a word counts as one
_MOST_TOKENS = 1_000_000
_DIMENSIONS = 64
_MOST_DIMENSIONS = 4096
_MOST_INPUTS = 2048  # OpenAI's bound

Json = dict[str, Any]


class ChatReply:
    """The answer to one chat request. InvalidRequest."""

    def __init__(self, fields: Fields, model: str) -> None:
        messages = fields.any("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
            raise InvalidRequest("messages: a list of at least one message is needed")
        texts = [_text_of(message.get("content")) for message in messages]
        most = fields.number("max_completion_tokens", _MOST_TOKENS, (1, _MOST_TOKENS))
        most = fields.number("max_tokens", most, (1, _MOST_TOKENS))
        tokens = _TOKEN.findall(_GREETING + (texts[-1] if len(texts[-1]) <= _HEARD else f"{texts[-1][:_HEARD]}…"))
        options = fields.any("stream_options")
        self.stream = fields.any("stream") is True
        self.pieces = tokens[:most]
        self._tells_usage = isinstance(options, dict) and options.get("include_usage") is True
        self._finish_reason = "length" if len(tokens) > most else "stop"
        self._model = model
        self._asked = sum(len(_TOKEN.findall(text)) for text in texts)
        self._created = int(time.time())
        self._id = f"chatcmpl-{sha256(''.join(texts).encode(errors='replace')).hexdigest()[:24]}"

    def whole(self) -> Json:
        """The plain answer."""
        message = {"role": "assistant", "content": "".join(self.pieces)}
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        return success() | self._head("chat.completion") | {"choices": [choice], "usage": self._usage()}

    def events(self) -> Iterator[bytes]:
        """The streamed answer: a first event with the role, one for each of `pieces`, then what is left to say and [DONE]."""
        yield self._event({"role": "assistant", "content": ""})
        for piece in self.pieces:
            yield self._event({"content": piece})
        end = self._event({}, self._finish_reason)
        if self._tells_usage:
            end += _data(self._head("chat.completion.chunk") | {"choices": [], "usage": self._usage()})
        yield end + b"data: [DONE]\n\n"

    def _event(self, delta: Json, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _data(self._head("chat.completion.chunk") | {"choices": [choice]})

    def _head(self, what: str) -> Json:
        return {"id": self._id, "object": what, "created": self._created, "model": self._model}

    def _usage(self) -> Json:
        said = len(self.pieces)
        return {"prompt_tokens": self._asked, "completion_tokens": said, "total_tokens": self._asked + said}


def embeddings(fields: Fields, model: str) -> Json:
    """A vector for each input: random ones of length 1, the same for the same text. InvalidRequest."""
    given = fields.any("input")
    inputs = given if isinstance(given, list) and not _is_tokens(given) else [given]
    if not inputs or len(inputs) > _MOST_INPUTS or not all(isinstance(one, str) or _is_tokens(one) for one in inputs):
        raise InvalidRequest(f"input: a text, or a list of at most {_MOST_INPUTS}, is needed")
    dimensions = fields.number("dimensions", _DIMENSIONS, (1, _MOST_DIMENSIONS))
    packed = fields.text("encoding_format", "float") == "base64"
    data = [
        {"object": "embedding", "index": i, "embedding": _vector(str(one), dimensions, packed=packed)}
        for i, one in enumerate(inputs)
    ]
    count = sum(len(_TOKEN.findall(one)) if isinstance(one, str) else len(one) for one in inputs)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return success() | {"object": "list", "model": model, "data": data, "usage": usage}


def refusal(code: int, message: str) -> Json:
    """An error as both dialects have it."""
    return {
        "code": code,
        "message": message,
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": code},
    }


def success() -> Json:
    """What spec 2 has in every good answer."""
    return {"code": 0, "message": "success"}


def _text_of(content: object) -> str:
    """The text of a message, whose content may be a list of parts."""
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return " ".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _is_tokens(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(token, int) for token in value)


def _vector(text: str, dimensions: int, *, packed: bool) -> list[float] | str:
    """Numbers out of a hash of the text; packed: as little-endian float32 in base64, which OpenAI's own client asks for."""
    raw = shake_256(text.encode(errors="replace")).digest(2 * dimensions)
    numbers = [value / 2**15 + 2**-16 for value in struct.unpack(f"<{dimensions}h", raw)]  # never all 0
    length = sqrt(sum(number * number for number in numbers))
    numbers = [number / length for number in numbers]
    return b64encode(struct.pack(f"<{dimensions}f", *numbers)).decode() if packed else numbers


def _data(event: Json) -> bytes:
    return b"data: %s\n\n" % json.dumps(event, ensure_ascii=False).encode(errors="replace")
