"""What a model endpoint answers to a plain request: OpenAI's objects, which spec 2 is a part of.

Looked at twice, by the worker for its endpoint and by the gateway for the worker, since both hear strangers. An answer is passed
on as the bytes it is; what does not parse to the letter would break the client's JSON around it.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from aicn.domain.inference import Kind
from aicn.errors import ModelFailed

_LONGEST_MESSAGE = 300  # characters of an endpoint's own words that are passed on
_RESULTS = {  # the list that a good answer has, with something in it
    Kind.CHAT: "choices",
    Kind.COMPLETION: "choices",
    Kind.EMBEDDING: "data",
}


def parse_completion(body: bytes | bytearray, kind: Kind, *, source: str) -> dict[str, Any]:
    """The good answer that `body` is; ModelFailed naming `source` otherwise. Errors do not quote it: it may hold an answer."""
    answer = parse_object(body)
    if answer is None:
        raise ModelFailed(f"{source} answered something that is no JSON object")
    if answer.get("code", 0) not in (0, None):  # spec 2: "code: 0 is success"
        raise ModelFailed(f"{source} failed with code {one_line(answer['code'])}: {error_message(answer)}")
    if (member := _RESULTS.get(kind)) is not None:
        results = answer.get(member)
        if not isinstance(results, list) or not results:
            why = f": {error_message(answer)}" if "error" in answer else ""
            raise ModelFailed(f"{source} answered without {member}{why}")
    return answer


def parse_object(body: bytes | bytearray) -> dict[str, Any] | None:
    """The JSON object that `body` is, to the letter (UTF-8, no NaN); None when it is none."""
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def error_message(answer: dict[str, Any]) -> str:
    """The words of an error body: OpenAI's `error.message`, spec 2's `message`, or FastAPI's `detail`; empty for none."""
    error = answer.get("error")
    texts = [error.get("message") if isinstance(error, dict) else error, answer.get("message"), answer.get("detail")]
    return one_line(next((text for text in texts if isinstance(text, str)), ""))


def one_line(value: object) -> str:
    """Text of a stranger made fit for one line of a message: short, without control characters."""
    text = "".join(char if char.isprintable() else " " for char in str(value)[: 2 * _LONGEST_MESSAGE])
    return " ".join(text.split())[:_LONGEST_MESSAGE].rstrip()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
