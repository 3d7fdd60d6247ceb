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
from aicn.errors import ProtocolViolation, Unsupported
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
_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to a model, as it came over the topic. `body` is the JSON for the endpoint."""

    project: str
    model: str
    body: bytes


def encode_chat(project: str, model: str, body: bytes) -> bytes:
    """The client's JSON as a message. Unsupported: it holds what the topic does not carry."""
    members = parse_object(body) or {}
    for name in _NOT_CARRIED:
        if members.get(name) not in (None, False):
            raise Unsupported(f"{name}: the node speaks only the old protocol, which does not carry it")
    message = pb.ChatCompletionBody()
    req = message.req
    req.project, req.model = project, model
    for one in members.get("messages", ()):
        req.messages.add(role=str(one.get("role", "")), content=_plain_text(one.get("content")).encode())
    _set_wallet(req.wallet, members)
    return message.SerializeToString()


def decode_chat(plain: bytes) -> Asked:
    req = question(Type.CHAT_COMPLETION, plain)
    if len(req.messages) > _MOST_MESSAGES:
        raise ProtocolViolation("legacy: too many messages in a chat")
    messages = [{"role": one.role, "content": one.content.decode("utf-8", "replace")} for one in req.messages]
    body = {"model": req.model, "messages": messages, "stream": False, **_wallet(req.wallet)}
    return Asked(req.project, req.model, _json(body))


def encode_chat_answer(completion: Mapping[str, Any]) -> tuple[bytes, int]:
    """A model's plain answer as a message, and its `created`, which is the timestamp of the message."""
    message = pb.ChatCompletionBody()
    res = message.res
    res.usage.SetInParent()
    created = completion.get("created")
    res.created = created if isinstance(created, int) and abs(created) < 2**62 else 0
    for choice in completion.get("choices") or ():
        said = choice.get("message") if isinstance(choice, dict) else None
        said = said if isinstance(said, dict) else {}
        one = res.choices.add(index=_int32(choice.get("index")) if isinstance(choice, dict) else 0)
        one.message.role = str(said.get("role") or "assistant")
        one.message.content = _plain_text(said.get("content")).encode()
        one.finish_reason = str(choice.get("finish_reason") or "") if isinstance(choice, dict) else ""
    usage = completion.get("usage")
    if isinstance(usage, dict):
        for name in ("completion_tokens", "prompt_tokens", "total_tokens"):
            setattr(res.usage, name, _int32(usage.get(name)))
    return message.SerializeToString(), res.created


def decode_chat_answer(plain: bytes) -> tuple[bytes, str, Usage]:
    """The answer as JSON of spec 1 (`data`), the finish reason of its first choice, and its usage."""
    res = answer(Type.CHAT_COMPLETION, plain)
    if not res.choices:
        raise ProtocolViolation("legacy: a chat's answer without choices")
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
    ends = [{"index": one["index"], "delta": {}, "finish_reason": one["finish_reason"] or "stop"} for one in whole["choices"]]
    events = [head | {"choices": said}, head | {"choices": ends, "usage": whole["usage"]}]
    return b"".join(b"data: " + _json(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def encode_image(project: str, model: str, body: bytes) -> bytes:
    """The client's JSON as a message."""
    members = parse_object(body) or {}
    message = pb.ImageGenerationBody()
    req = message.req
    req.project, req.model = project, model
    req.prompt = str(members.get("prompt") or "")
    req.number = _int32(members.get("n")) or 1
    req.size = str(members.get("size") or "")
    req.width, req.height = _int32(members.get("width")), _int32(members.get("height"))
    req.ipfs_node = str(members.get("ipfs_node") or "")
    _set_wallet(req.wallet, members)
    return message.SerializeToString()


def decode_image(plain: bytes) -> Asked:
    req = question(Type.IMAGE_GENERATION, plain)
    body: dict[str, object] = {"model": req.model, "prompt": req.prompt, "n": req.number}
    for name in ("size", "width", "height", "ipfs_node"):
        if value := getattr(req, name):
            body[name] = value
    return Asked(req.project, req.model, _json(body | _wallet(req.wallet)))


def encode_image_answer(images: Mapping[str, Any]) -> bytes:
    """Our answer (spec 1, `data` of /image/gen) as a message."""
    message = pb.ImageGenerationBody()
    message.res.ipfs_node = str(images.get("ipfs_node") or "")
    for one in images.get("choices") or ():
        message.res.choices.add(cid=str(one.get("cid") or ""), image_name=str(one.get("image_name") or ""))
    return message.SerializeToString()


def decode_image_answer(plain: bytes) -> bytes:
    """The answer as JSON of spec 1 (`data` of /image/gen)."""
    res = answer(Type.IMAGE_GENERATION, plain)
    choices = [{"cid": one.cid, "image_name": one.image_name} for one in res.choices]
    return _json({"ipfs_node": res.ipfs_node, "choices": choices})


def _plain_text(content: object) -> str:
    """The text of a message's content. Unsupported: there is more to it than text."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    raise Unsupported("messages: the node speaks only the old protocol, which carries nothing but text")


def _set_wallet(wallet: pb.Wallet, members: Mapping[str, Any]) -> None:
    wallet.SetInParent()  # nodes of the existing network die when it is absent
    for name in _WALLET:
        if isinstance(value := members.get(name), str):
            setattr(wallet, name, value)


def _wallet(wallet: pb.Wallet) -> dict[str, str]:
    return {name: value for name in _WALLET if (value := getattr(wallet, name))}


def _int32(value: object) -> int:
    return value if type(value) is int and abs(value) <= _INT32 else 0


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
