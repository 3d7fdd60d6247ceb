"""Image requests and the answers to them, between gateway, worker and model endpoint (spec 1, spec 2, OpenAI's images API).

A request's JSON travels to the worker as the client sent it; there it is read once more, since it comes from a stranger, and
becomes what the endpoint is asked. What the endpoint answers are `Found` images: bytes, or where to fetch them.
"""

from __future__ import annotations

import binascii
import json
import re
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from aicn.domain.inference import Kind, Part
from aicn.errors import InvalidRequest, ModelFailed
from aicn.wire.completion import error_message, one_line, parse_object
from aicn.wire.json_body import take

Inline = Literal["", "url", "b64_json"]  # `response_format`; "": the images go to IPFS

MOST_IMAGES = 10  # per request: OpenAI's bound of `n`
_NUMBERS = frozenset({"n", "width", "height"})  # whole numbers, which a form has as text
_LONGEST_SIDE = 16_384  # pixels; no model draws more
_LONGEST_NODE = 2048  # characters of `ipfs_node`, as of every URL
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_LONGEST_LOCATION = 8192  # characters of a `url` that is no data: URL; signed ones have a thousand
_DATA_URL = re.compile(r"data:[^,;]*(?:;[^,;]*)*?(;base64)?,", re.IGNORECASE)
_HEAD = 512  # characters in which the head of a data: URL must end


@dataclass(frozen=True, slots=True)
class Task:
    """What a client wants."""

    body: bytes  # JSON for the endpoint: as sent, with `n`, `size`, `width` and `height` made whole, less what is ours
    ipfs_node: str  # where the client wants the images; empty: where the worker stores them
    inline: Inline


@dataclass(frozen=True, slots=True)
class Answered:
    """What an endpoint answered."""

    images: tuple[bytes | str, ...]  # the image, or its location (a URL or a path)
    created: int  # Unix time, seconds


def parse_task(body: bytes, kind: Kind, parts: Sequence[Part] = ()) -> Task:
    """The task in an image request's body. MalformedBody; InvalidRequest naming the field."""
    ours = ("n", "size", "width", "height", "ipfs_node", "response_format")
    members, rest = take(body, *ours)
    prompt = members.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise InvalidRequest("prompt: a description of the image is needed")
    if kind is Kind.IMAGE_EDIT and not members.get("image") and not any(_is_image(part) for part in parts):
        raise InvalidRequest("image: the image to edit is needed, as a URL or as a file of a form")
    asked = {"n": _count(members.get("n")), **_size(members)}
    return Task(
        body=_with(rest, asked),
        ipfs_node=_text(members, "ipfs_node", _LONGEST_NODE),
        inline=_inline(members.get("response_format")),
    )


def form_members(texts: Mapping[str, str]) -> dict[str, object]:
    """The text fields of a form as the members of a JSON body: whole numbers are numbers there."""
    return {
        name: int(text) if name in _NUMBERS and text.isascii() and text.isdigit() and len(text) < 16 else text
        for name, text in texts.items()
    }


def decode_answer(body: bytes | bytearray, *, source: str) -> Answered:
    """What the endpoint `source` answered, in either dialect: items with `url` or with `b64_json`. ModelFailed."""
    answer = parse_object(body)
    if answer is None:
        raise ModelFailed(f"{source} answered something that is no JSON object")
    if answer.get("code", 0) not in (0, None):  # spec 2: "code: 0 is success"
        raise ModelFailed(f"{source} failed with code {one_line(answer['code'])}: {error_message(answer)}")
    items = answer.get("data")
    if not isinstance(items, list) or not items:
        why = f": {error_message(answer)}" if "error" in answer else ""
        raise ModelFailed(f"{source} answered without images{why}")
    if len(items) > MOST_IMAGES:
        raise ModelFailed(f"{source} answered {len(items)} images; at most {MOST_IMAGES} are taken")
    created = answer.get("created")
    return Answered(
        tuple(_found(item, f"{source}: data[{i}]") for i, item in enumerate(items)),
        created if isinstance(created, int) and 0 < created < 2**53 else int(time.time()),
    )


def encode_stored(ipfs_node: str, stored: Sequence[tuple[str, str]]) -> bytes:
    """`data` of spec 1 for images on `ipfs_node`: CID and file name of each."""
    choices = [{"cid": cid, "image_name": name} for cid, name in stored]
    return json.dumps({"ipfs_node": ipfs_node, "choices": choices}, separators=(",", ":")).encode()


def encode_inline(images: Sequence[tuple[bytes, str]], inline: Inline, created: int) -> bytes:
    """`data` with the images in it: bytes and media type of each."""
    pieces = [
        b'{"b64_json":"%s"}' % b64encode(data)
        if inline == "b64_json"
        else b'{"url":"data:%s;base64,%s"}' % (media_type.encode(), b64encode(data))
        for data, media_type in images
    ]
    return b'{"created":%d,"choices":[%s]}' % (created, b",".join(pieces))


def check_answer(body: bytes, *, source: str) -> None:
    """ModelFailed unless `body` is what a worker answers to an image request."""
    answer = parse_object(body)
    choices = answer.get("choices") if answer is not None else None
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise ModelFailed(f"{source} answered without images")


def _is_image(part: Part) -> bool:
    return part.name in ("image", "image[]")


def _count(value: object) -> int:
    if value is None:
        return 1
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_IMAGES:
        raise InvalidRequest(f"n: a whole number of 1 to {MOST_IMAGES} is needed")
    return value


def _size(members: dict[str, Any]) -> dict[str, object]:
    """The size in both dialects; `width` and `height` win over `size`, which is deprecated. 0 and "" are as good as absent."""
    width, height = _side(members, "width"), _side(members, "height")
    size = _text(members, "size", 64)
    if width and height:
        return {"size": f"{width}x{height}", "width": width, "height": height}
    if width or height:
        raise InvalidRequest(f"{'height' if width else 'width'}: needed beside {'width' if width else 'height'}")
    if not size:
        return {}
    match = _SIZE.fullmatch(size)
    if match is None:
        return {"size": size}  # "auto", "1:1", …: the model's business
    width, height = int(match[1]), int(match[2])
    if max(width, height) > _LONGEST_SIDE:
        raise InvalidRequest(f"size: at most {_LONGEST_SIDE}x{_LONGEST_SIDE} is allowed")
    return {"size": size, "width": width, "height": height}


def _side(members: dict[str, Any], name: str) -> int:
    value = members.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LONGEST_SIDE:
        raise InvalidRequest(f"{name}: a whole number of 1 to {_LONGEST_SIDE} is needed")
    return value


def _text(members: dict[str, Any], name: str, longest: int) -> str:
    value = members.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidRequest(f"{name}: a text of at most {longest} characters is needed")
    return value


def _inline(value: object) -> Inline:
    if value is None or value == "":
        return ""
    if value not in ("url", "b64_json"):
        raise InvalidRequest('response_format: "url" or "b64_json" is needed; without it images go to IPFS')
    return value


def _with(body: bytes, members: dict[str, object]) -> bytes:
    """`body`, a JSON object that is not empty, with `members` at its end."""
    return body.rstrip()[:-1] + b"," + json.dumps(members).encode()[1:]


def _found(item: object, where: str) -> bytes | str:
    if isinstance(item, dict):
        for name in ("b64_json", "url"):
            text = item.get(name)
            if isinstance(text, str) and text:
                if text[:5].lower() == "data:":
                    return _data_url(text, where)
                if name == "b64_json":
                    return _base64(text, where)
                if len(text) > _LONGEST_LOCATION:
                    raise ModelFailed(f"{where}: a url of {len(text)} characters")
                return text
    raise ModelFailed(f"{where}: neither url nor b64_json")


def _data_url(text: str, where: str) -> bytes:
    """The bytes of a data: URL (RFC 2397)."""
    head = _DATA_URL.match(text[:_HEAD])
    if head is None:
        raise ModelFailed(f"{where}: a data: URL that does not parse")
    if head[1]:
        return _base64(text[head.end() :], where)
    return unquote_to_bytes(text[head.end() :])


def _base64(text: str, where: str) -> bytes:
    """Base64 as it is found: with or without line breaks and padding."""
    text = "".join(text.split())
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:  # binascii.Error is one; so is a character that is not ASCII
        raise ModelFailed(f"{where}: not base64") from None
