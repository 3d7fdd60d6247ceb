"""Chat and image requests and their answers: between the JSON of OpenAI's and our APIs and the messages of the topic.

The topic carries roles and texts, no parameters: what a request has beyond that is lost, as between nodes of the existing network;
a request that would mean something else without it is refused. Peers with `/chat-proxy/0.0.1` get the JSON itself (chat_proxy.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aicn.domain.inference import Usage
from aicn.errors import InvalidRequest, ModelFailed, ProtocolViolation, Unsupported
from aicn.wire.completion import parse_object
from aicn.wire.legacy.bodies import answer, question
from aicn.wire.legacy.envelope import Type
from aicn.wire.pb import legacy_pb2 as pb

_WALLET = ("wallet", "signature", "hash")
_NOT_CARRIED = (
    "tools",
    "tool_choice",
    "functions",
    "response_format",
    "logprobs",
)  # whose loss would change the answer's form
_MOST_MESSAGES = 10_000
_MOST_CHOICES = 1000  # of an answer; a request asks for one
_INT32, _INT64 = 2**31 - 1, 2**63


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to a model, as it came over the topic. `body` is the JSON for the endpoint."""

    project: str
    model: str
    body: bytes


def encode_chat(project: str, model: str, body: bytes) -> bytes:
    """The client's JSON as a message. Unsupported: it holds what the topic does not carry. InvalidRequest: it is no chat."""
    members = parse_object(body) or {}
    for name in _NOT_CARRIED:
        if members.get(name):
            raise Unsupported(f"{name}: the node speaks only the old protocol, which does not carry it")
    message = pb.ChatCompletionBody()
    req = message.req
    req.project, req.model = project, model
    messages = members.get("messages")
    for one in messages if isinstance(messages, list) else ():
        role = one.get("role", "") if isinstance(one, dict) else None
        if not isinstance(role, str):
            raise InvalidRequest("messages: each is an object with a role and a content")
        text = _plain_text(one.get("content"))
        if text is None or one.get("tool_calls"):
            raise Unsupported("messages: the node speaks only the old protocol, which carries nothing but text")
        req.messages.add(role=_utf8(role).decode(), content=_utf8(text))
    _set_wallet(req.wallet, members)
    return message.SerializeToString()


def decode_chat(plain: bytes) -> Asked:
    """A question. Contents are texts; those of later nodes may be lists of parts as well, which the endpoint gets as they are."""
    req = question(Type.CHAT_COMPLETION, plain)
    if len(req.messages) > _MOST_MESSAGES:
        raise ProtocolViolation("legacy: too many messages in a chat")
    messages = [{"role": one.role, "content": text} for one, text in zip(req.messages, _contents(req), strict=True)]
    body = {"model": req.model, "messages": messages, "stream": False, **_wallet(req.wallet)}
    return Asked(req.project, req.model, _json(body))


def encode_chat_answer(completion: Mapping[str, Any]) -> tuple[bytes, int]:
    """A model's plain answer as a message, and its `created`, which is the timestamp of the message. ModelFailed: it is more than text."""
    message = pb.ChatCompletionBody()
    res = message.res
    res.usage.SetInParent()
    created = completion.get("created")
    res.created = created if type(created) is int and abs(created) < _INT64 else 0
    for choice in _listed(completion, "choices"):
        said = choice.get("message")
        said = said if isinstance(said, dict) else {}
        if (text := _plain_text(said.get("content"))) is None:
            raise ModelFailed("the model answered more than text; ask for a stream")
        one = res.choices.add(index=_int32(choice.get("index")))
        one.message.role = _text(said, "role") or "assistant"
        one.message.content = _utf8(text)
        one.finish_reason = _text(choice, "finish_reason")
    usage = completion.get("usage")
    if isinstance(usage, dict):
        for name in ("completion_tokens", "prompt_tokens", "total_tokens"):
            setattr(res.usage, name, _int32(usage.get(name)))
    return message.SerializeToString(), res.created


def decode_chat_answer(plain: bytes) -> tuple[bytes, str, Usage]:
    """The answer as JSON of spec 1 (`data`), the finish reason of its first choice, and its usage."""
    res = answer(Type.CHAT_COMPLETION, plain)
    if not 0 < len(res.choices) <= _MOST_CHOICES:
        raise ProtocolViolation("legacy: a chat's answer without choices, or with too many")
    usage = {name: getattr(res.usage, name) for name in ("completion_tokens", "prompt_tokens", "total_tokens")}
    choices = [
        {
            "index": one.index,
            "message": {"role": one.message.role, "content": one.message.content.decode("utf-8", "replace")},
            "finish_reason": one.finish_reason,
        }
        for one in res.choices
    ]
    body = _json({"created": res.created, "choices": choices, "usage": usage})
    return body, res.choices[0].finish_reason, Usage(**{name: max(0, number) for name, number in usage.items()})


def encode_events(completion: bytes, model: str, name: str) -> bytes:
    """A whole answer (as `decode_chat_answer` gives it) as the events of a stream: the text of each choice, how it ended, usage, [DONE].

    `name` is the id that all events of a stream share.
    """
    whole = json.loads(completion)
    head = {"id": f"chatcmpl-{name}", "object": "chat.completion.chunk", "created": whole["created"], "model": model}
    said = [{"index": one["index"], "delta": one["message"], "finish_reason": None} for one in whole["choices"]]
    ends = [
        {"index": one["index"], "delta": {}, "finish_reason": one["finish_reason"] or "stop"}
        for one in whole["choices"]
    ]
    events = [head | {"choices": said}, head | {"choices": ends, "usage": whole["usage"]}]
    return b"".join(b"data: " + _json(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def encode_image(project: str, model: str, body: bytes) -> bytes:
    """The client's JSON as a message."""
    members = parse_object(body) or {}
    message = pb.ImageGenerationBody()
    req = message.req
    req.project, req.model = project, model
    req.prompt = _text(members, "prompt")
    req.number = _int32(members.get("n")) or 1
    req.size = _text(members, "size")
    req.width, req.height = _int32(members.get("width")), _int32(members.get("height"))
    req.ipfs_node = _text(members, "ipfs_node")
    _set_wallet(req.wallet, members)
    return message.SerializeToString()


def decode_image(plain: bytes) -> Asked:
    req = question(Type.IMAGE_GENERATION, plain)
    if not req.ipfs_node.isprintable():
        raise ProtocolViolation(
            "legacy: a question for images of v0.2, whose wallet is in place of the node, and whose answers are others"
        )
    body: dict[str, object] = {"model": req.model, "prompt": req.prompt, "n": req.number}
    for name in ("size", "width", "height", "ipfs_node"):
        if value := getattr(req, name):
            body[name] = value
    return Asked(req.project, req.model, _json(body | _wallet(req.wallet)))


def encode_image_answer(images: Mapping[str, Any]) -> bytes:
    """Our answer (spec 1, `data` of /image/gen) as a message."""
    message = pb.ImageGenerationBody()
    message.res.ipfs_node = _text(images, "ipfs_node")
    for one in _listed(images, "choices"):
        message.res.choices.add(cid=_text(one, "cid"), image_name=_text(one, "image_name"))
    return message.SerializeToString()


def decode_image_answer(plain: bytes) -> bytes:
    """The answer as JSON of spec 1 (`data` of /image/gen)."""
    res = answer(Type.IMAGE_GENERATION, plain)
    if len(res.choices) > _MOST_CHOICES:
        raise ProtocolViolation("legacy: too many images in an answer")
    choices = [{"cid": one.cid, "image_name": one.image_name} for one in res.choices]
    return _json({"ipfs_node": res.ipfs_node, "choices": choices})


def _contents(req: Any) -> list[object]:
    """The contents of a question's messages.

    Later nodes (v0.2.x) send them as JSON, which a text may happen to be. So they are read as JSON only when all are and something else
    gives the version away: its own fields, or a list with a picture in it, which nobody writes as a text to a model.
    """
    texts: list[object] = [one.content.decode("utf-8", "replace") for one in req.messages]
    read = [_content_of_json(str(text)) for text in texts]
    told = req.cid or req.temperature or req.top_p or any(map(_shows, read))
    return read if told and None not in read else texts


def _content_of_json(text: str) -> object:
    """The string, or the list of parts, that a text is as JSON; None: it is neither."""
    if text[:1] + text[-1:] not in ('""', "[]"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and (not value or not all(map(_is_part, value))):
        return None
    return value


def _shows(content: object) -> bool:
    """Whether there is more to it than text."""
    return isinstance(content, list) and any(part["type"] != "text" for part in content)


def _is_part(part: object) -> bool:
    """A text, or a picture by its URL: an object of texts, or of objects of texts, with a type."""
    return (
        isinstance(part, dict)
        and isinstance(part.get("type"), str)
        and part.get(part["type"]) is not None
        and all(
            isinstance(value, str) or (isinstance(value, dict) and all(isinstance(v, str) for v in value.values()))
            for value in part.values()
        )
    )


def _plain_text(content: object) -> str | None:
    """The text of a message's content; None: there is more to it than text."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, list) and all(_is_part(part) and part["type"] == "text" for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    return None


def _listed(members: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list."""
    value = members.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(members: Mapping[str, Any], name: str) -> str:
    """A text, fit to be written; "" for anything else."""
    value = members.get(name)
    return _utf8(value).decode() if isinstance(value, str) else ""


def _utf8(text: str) -> bytes:
    """JSON can name halves of characters, which messages cannot carry."""
    return text.encode(errors="replace")


def _set_wallet(wallet: pb.Wallet, members: Mapping[str, Any]) -> None:
    wallet.SetInParent()  # nodes of the existing network die when it is absent
    for name in _WALLET:
        setattr(wallet, name, _text(members, name))


def _wallet(wallet: pb.Wallet) -> dict[str, str]:
    return {name: value for name in _WALLET if (value := getattr(wallet, name))}


def _int32(value: object) -> int:
    return value if type(value) is int and abs(value) <= _INT32 else 0


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
