"""What a router wants to know of a request's body, without parsing it: a body may have megabytes, a route takes microseconds."""

from __future__ import annotations

import re

_HASHED = 4096  # bytes of a conversation's beginning that tell it from others
_BYTES_PER_TOKEN = (
    6  # more than any text has in the mean: it is better to ask a node that then refuses than not to ask one that fits
)
_ESCAPED = 5  # bytes that a character costs more in JSON as \uXXXX
_MOST_TOKENS = re.compile(rb'"max_(?:completion_)?tokens"\s*:\s*([0-9]{1,9})\b')


def beginning(body: bytes) -> int:
    """A hash that all turns of one conversation share, and others hardly: of the messages up to the first of the user. 0: none.

    The next turn repeats the messages before it as they were, so what counts is only that the cut falls at the same place.
    """
    start = body.find(b'"messages"')
    if start < 0:
        return 0
    user = body.find(b'"user"', start, start + _HASHED)
    end = body.find(b'"}', user + 5, start + _HASHED) if user >= 0 else -1
    return hash(body[start : end if end >= 0 else start + _HASHED])


def answer_tokens(body: bytes) -> int | None:
    """Most tokens that the client wants as an answer; None: it has not said."""
    asked = None
    for name in (b'"max_tokens"', b'"max_completion_tokens"'):
        if (at := body.rfind(name)) >= 0 and (match := _MOST_TOKENS.match(body, at)):
            asked = max(asked or 0, int(match[1]))
    return asked


def prompt_tokens(body: bytes) -> int:
    """Tokens of the prompt, rather too few; 0 where there are images, of which bytes say nothing."""
    if b";base64," in body or b'"image_url"' in body:
        return 0
    return (len(body) - _ESCAPED * body.count(b"\\u")) // _BYTES_PER_TOKEN
