"""Whether a model endpoint keeps to the standard (spec 2): one finding after the other."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from aicn.dev.checking import Subject, Tell, open_subject
from aicn.dev.drawing import draw
from aicn.dev.pictures import sides_of
from aicn.domain.images import image_type
from aicn.domain.inference import Kind
from aicn.domain.registration import KIND_OF_TYPE, Endpoint, check_url
from aicn.errors import InvalidRequest, ModelFailed
from aicn.wire.completion import error_message, parse_completion, parse_object
from aicn.wire.images import decode_answer
from aicn.wire.sse import iter_data

_PATH = re.compile(r"/(?:chat/completions|images/generations|images/edits|embeddings)/?$")
_TYPE_OF_PATH = {"/images/generations": 1, "/images/edits": 2, "/embeddings": 3}  # others: 0
_NO_MODEL = "aicn-check-no-such-model"
_TOKENS = 64  # of an answer: enough to see it stream
_HELLO = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": _TOKENS}
_EXTRA = {"wallet": "", "signature": "", "hash": "", "aicn_check": True}  # the first three come from spec 1's clients
_PROMPT = {"prompt": "A cute baby sea otter"}  # spec 2's
_SOURCE_SIDE = 256  # pixels of the image that is to be edited

Check = Callable[[Subject], Awaitable[str]]


async def check_endpoint(
    url: str, *, kind: int | None, model: str, api_key: str, size: str, within_s: float, tell: Tell
) -> bool:
    """Examine the endpoint at `url`; True: a node can use it. InvalidRequest for a `url` that cannot be posted to.

    `kind` is a type of registration, None: what the path of the URL speaks of. Without a `model` the first one that the
    endpoint lists is asked for.
    """
    check_url(url)
    endpoint = Endpoint("check", model, url, _type_of(url) if kind is None else kind, api_key=api_key)
    async with open_subject(endpoint, within_s=within_s, tell=tell) as subject:
        if not await subject.attempt("reachable", _reachable):
            return False
        if not model and not await subject.attempt("models", _find_model):
            return False
        await _CHECKS[KIND_OF_TYPE[endpoint.type]](subject, size)
        await subject.attempt("unknown model", _unknown_model)
        return not subject.failed


def _type_of(url: str) -> int:
    path = url.partition("?")[0].rstrip("/")
    return next((kind for end, kind in _TYPE_OF_PATH.items() if path.endswith(end)), 0)


async def _check_chat(subject: Subject, _size: str) -> None:
    if await subject.attempt("plain chat", _plain_chat):
        await subject.attempt("unknown fields", _extra_chat, required=False)
    await subject.attempt("streamed chat", _streamed_chat)


async def _check_generation(subject: Subject, size: str) -> None:
    if await subject.attempt("one image", partial(_images, asked=_PROMPT, count=1, size=size)):
        await subject.attempt("two images", partial(_images, asked=_PROMPT, count=2, size=size))
        extra = partial(_images, asked=_PROMPT | _EXTRA, count=1, size=size)
        await subject.attempt("unknown fields", extra, required=False)


async def _check_edit(subject: Subject, size: str) -> None:
    source = draw("source", _SOURCE_SIDE, _SOURCE_SIDE)
    asked = _PROMPT | {"image": f"data:image/png;base64,{b64encode(source).decode()}"}
    if await subject.attempt("one image", partial(_images, asked=asked, count=1, size=size)):
        await subject.attempt("two images", partial(_images, asked=asked, count=2, size=size))
    await subject.attempt("form", partial(_form, source=source), required=False)


async def _check_embedding(subject: Subject, _size: str) -> None:
    await subject.attempt("one text", partial(_vectors, given="hello", count=1))
    await subject.attempt("several texts", partial(_vectors, given=["hello", "world"], count=2))


_CHECKS: Mapping[Kind, Callable[[Subject, str], Awaitable[None]]] = MappingProxyType(
    {
        Kind.CHAT: _check_chat,
        Kind.IMAGE_GENERATION: _check_generation,
        Kind.IMAGE_EDIT: _check_edit,
        Kind.EMBEDDING: _check_embedding,
    }
)


# ------------------------------------------------------------------------------------------------ all kinds


async def _reachable(subject: Subject) -> str:
    await subject.endpoints.probe(subject.endpoint)
    return "it answers"


async def _find_model(subject: Subject) -> str:
    """The first model of the endpoint's list, in spec 2's form or OpenAI's; one that is served at this URL before others."""
    url = subject.endpoint.url
    bare = url.partition("?")[0]
    status, body = await subject.get(_PATH.sub("/models", bare), own=True) if _PATH.search(bare) else (404, b"")
    listed = (parse_object(body) or {}).get("data") if status == 200 else None
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    entries.sort(key=lambda entry: entry.get("url") != url)
    names = [name for entry in entries if isinstance(name := entry.get("model") or entry.get("id"), str)]
    if not names:
        raise InvalidRequest("the endpoint lists no models; name one with --model")
    subject.endpoint = replace(subject.endpoint, model=names[0])
    return f"{len(names)} listed; {names[0]} is used"


async def _unknown_model(subject: Subject) -> str:
    asked = {"model": _NO_MODEL, **_HELLO, **_PROMPT, "input": "hello"}
    status, body = await subject.post(json=asked)
    answer = parse_object(body)
    words = error_message(answer or {})
    if status >= 400:
        if not words:
            subject.advise("error text", f"status {status} without a message that callers could be told")
        return f"refused with status {status}{': ' if words else ''}{words}"
    if answer is not None and answer.get("code", 0) not in (0, None):
        return f"refused with code {answer['code']}: {words}"
    if answer is not None and (answer.get("choices") or answer.get("data")):
        subject.advise("model name", f"it answers for model {_NO_MODEL}, too: a wrong name goes unnoticed")
        return "answered"
    raise ModelFailed(
        f"status {status} with neither an answer nor an error: an error has a status of 400 or more, or a code"
    )


# ----------------------------------------------------------------------------------------------------- chat


async def _plain_chat(subject: Subject) -> str:
    asked = await subject.ask(dict(_HELLO))
    answer = parse_completion(asked.body, Kind.CHAT, source="the endpoint")
    match answer["choices"][0]:
        case {"message": {"content": str(text)}} if text:
            said = f"{len(text)} characters"
        case {"message": dict()}:
            said = f"no text within {_TOKENS} tokens"
        case _:
            raise ModelFailed("choices[0].message: an object with role and content is needed")
    if asked.end.usage is None:
        subject.advise("usage", "the answer has no usage: nobody can count tokens")
    if not asked.end.finish_reason:
        subject.advise(
            "finish_reason", "choices[0].finish_reason is missing: nobody can tell whether the answer was cut off"
        )
    return said


async def _extra_chat(subject: Subject) -> str:
    await subject.ask({**_HELLO, **_EXTRA})
    return "ignored"


async def _streamed_chat(subject: Subject) -> str:
    asked = await subject.ask({**_HELLO, "stream": True, "stream_options": {"include_usage": True}}, stream=True)
    events = list(iter_data(asked.body))[:-1]  # the last one is [DONE]: the client saw to it
    texts = [_text_of(event, f"event {number}") for number, event in enumerate(events, 1)]
    if not any(texts):
        raise ModelFailed("no event has a choices[0].delta.content: nothing was said")
    if asked.end.usage is None:
        subject.advise("streamed usage", "no event has a usage, although stream_options.include_usage was set")
    if len(asked.pieces) == 1 and len(events) > 2:
        subject.advise("streaming", "the whole stream came at once: something collects it")
    return f"{len(events)} events and [DONE]"


def _text_of(data: bytes, where: str) -> str:
    """The text of one event. ModelFailed when a client could not read it."""
    event = parse_object(data)
    if event is None:
        raise ModelFailed(f"{where} is no JSON object; is there an empty line behind each event?")
    if "error" in event:
        raise ModelFailed(f"{where} is an error: {error_message(event)}")
    match event.get("choices"):
        case [{"delta": {"content": str(text)}}, *_]:
            return text
        case [] | [{"delta": dict()}, *_]:
            return ""
        case _:
            raise ModelFailed(f"{where} has no choices[0].delta")


# --------------------------------------------------------------------------------------------------- images


async def _images(subject: Subject, *, asked: Mapping[str, Any], count: int, size: str) -> str:
    answer = await subject.ask({**asked, "n": count, "size": size})
    found = decode_answer(answer.body, source="the endpoint").images
    if len(found) != count:
        raise ModelFailed(f"n: {count} asked for, {len(found)} answered")
    return ", ".join([await _picture(subject, image, f"data[{i}]", size) for i, image in enumerate(found)])


async def _picture(subject: Subject, image: bytes | str, where: str, size: str) -> str:
    """An image of an answer, fetched if need be. ModelFailed unless it is one of `size`."""
    if isinstance(image, str):
        if not image.startswith(("http://", "https://")):
            raise ModelFailed(f"{where}.url: no http URL; a node reads no files of the endpoint's machine")
        status, image = await subject.get(image)
        if status != 200:
            raise ModelFailed(f"{where}.url: fetching it is answered with status {status}")
    kind, (width, height) = image_type(image), sides_of(image)
    if kind is None:
        raise ModelFailed(f"{where}: {len(image)} bytes that are no image")
    if width and f"{width}x{height}" != size:
        raise ModelFailed(f"{where}: size {size} asked for, {width}x{height} answered")
    return f"{kind.media_type} of {len(image)} bytes"


async def _form(subject: Subject, *, source: bytes) -> str:
    """OpenAI's edits take a form; spec 2's are JSON. A node sends what its own client has sent."""
    fields = {"model": subject.endpoint.model, "n": "1", **_PROMPT}
    status, body = await subject.post(data=fields, files={"image": ("source.png", source, "image/png")})
    if status >= 300:
        words = error_message(parse_object(body) or {})
        raise ModelFailed(f"status {status} for multipart/form-data, which OpenAI's clients send: {words}")
    decode_answer(body, source="the endpoint")
    return "taken"


# ----------------------------------------------------------------------------------------------- embeddings


async def _vectors(subject: Subject, *, given: str | list[str], count: int) -> str:
    asked = await subject.ask({"input": given, "encoding_format": "float"})
    answer = parse_object(asked.body) or {}
    data = answer.get("data")
    if not isinstance(data, list) or len(data) != count:
        raise ModelFailed(f"data: a list of {count} is needed, one for each input")
    lengths = {_dimensions(item, f"data[{i}]") for i, item in enumerate(data)}
    if len(lengths) != 1:
        raise ModelFailed(f"data: vectors of different lengths: {sorted(lengths)}")
    if not isinstance(answer.get("usage"), dict) and count == 1:
        subject.advise("usage", "the answer has no usage: nobody can count tokens")
    return f"{lengths.pop()} numbers each"


def _dimensions(item: object, where: str) -> int:
    match item:
        case {"embedding": [*numbers]} if numbers and all(type(number) in (int, float) for number in numbers):
            return len(numbers)
        case _:
            raise ModelFailed(f"{where}.embedding: a list of numbers is needed")
