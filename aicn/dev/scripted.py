"""A model endpoint whose every answer is known beforehand, for trials of what becomes of answers when nodes fail.

The text depends on the conversation before the answer alone, whoever is asked; it has no end but `max_tokens`. A final assistant message is
continued, and only where it is the beginning of that text, cut between two tokens: whoever trims it or cuts it elsewhere is refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any, cast

import trio

from aicn.config.schema import Http
from aicn.dev.endpoint import Receive, Reply, Send, head, json_reply, read, refuse
from aicn.dev.fields import Fields, parse_fields
from aicn.errors import AicnError, InvalidRequest
from aicn.gateway.server import bind
from aicn.gateway.server import serve as serve_app

_WORDS = (
    "so ",
    "das ",
    "Netz ",
    "hält, ",
    "网络 ",
    "🙂 ",
    "bytes\n",
    "and ",
    "answers, ",
    "go ",
    "on. ",
    "été ",
    '"quoted" ',
    "\\ ",
)
_MOST_TOKENS = 100_000
_DEFAULT_TOKENS = 64
_PATH = "/v1/chat/completions"


def script(conversation: str, tokens: int) -> list[str]:
    """The first tokens of the answer to `conversation`, as it is given by `conversation_of`."""
    chance = Random(conversation)  # noqa: S311 - not for secrets: the same words must give the same answer
    return chance.choices(_WORDS, k=tokens)


def conversation_of(messages: list[dict[str, Any]]) -> str:
    """What the answer depends on."""
    return "\n".join(f"{message.get('role')}: {message.get('content')}" for message in messages)


@dataclass(slots=True)
class Talk:
    """One request: what is to be said, and what of it is said already. InvalidRequest."""

    model: str
    pieces: list[str]
    asked: int  # tokens, those of a begun answer included
    stream: bool
    tells_usage: bool
    id: str
    created: int

    @classmethod
    def of(cls, fields: Fields) -> Talk:
        """What `fields` ask for."""
        messages = fields.any("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
            raise InvalidRequest("messages: a list of at least one message is needed")
        begun = ""
        if messages[-1].get("role") == "assistant":
            *messages, last = messages
            begun = str(last.get("content"))
        conversation = conversation_of(messages)
        most = fields.number("max_tokens", _DEFAULT_TOKENS, (1, _MOST_TOKENS))
        said = _count(conversation, begun)
        options = fields.any("stream_options")
        return cls(
            model=fields.text("model", ""),
            pieces=script(conversation, said + most)[said:],
            asked=len(conversation.split()) + said,
            stream=fields.any("stream") is True,
            tells_usage=isinstance(options, dict) and options.get("include_usage") is True,
            id=f"chatcmpl-{sha256(f'{time.time_ns()} {conversation}'.encode()).hexdigest()[:24]}",
            created=int(time.time()),
        )

    def whole(self) -> dict[str, Any]:
        """The plain answer."""
        message = {"role": "assistant", "content": "".join(self.pieces)}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        return self._head("chat.completion") | {"choices": [choice], "usage": self._usage()}

    def event(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        """One event of the streamed answer."""
        return _data(
            self._head("chat.completion.chunk")
            | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
        )

    def end(self) -> bytes:
        """What is left to say behind the last piece."""
        usage = _data(self._head("chat.completion.chunk") | {"choices": [], "usage": self._usage()})
        return self.event({}, "length") + (usage if self.tells_usage else b"") + b"data: [DONE]\n\n"

    def _head(self, what: str) -> dict[str, Any]:
        return {"id": self.id, "object": what, "created": self.created, "model": self.model}

    def _usage(self) -> dict[str, int]:
        said = len(self.pieces)
        return {"prompt_tokens": self.asked, "completion_tokens": said, "total_tokens": self.asked + said}


class ScriptedEndpoint:
    """An ASGI application: one endpoint for each name, `/<name>/v1/chat/completions`, each with a pace of its own."""

    def __init__(self, token_s: float) -> None:
        """`token_s`: seconds before each token."""
        self._token_s = token_s
        self._slowness: dict[str, float] = {}

    def slow(self, name: str, times: float) -> None:
        """Let `name` need so many times as long for each token from now on, also of answers that have begun."""
        self._slowness[name] = times

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        name, _, path = scope["path"].removeprefix("/").partition("/")
        if scope["method"] != "POST" or f"/{path}" != _PATH:
            await _reply(refuse(404, f"POST /<name>{_PATH} is what there is"), send)
            return
        try:
            talk = Talk.of(parse_fields(await read(receive), "application/json"))
        except AicnError as error:
            await _reply(refuse(400, error.message), send)
            return
        if not talk.stream:
            for _ in talk.pieces:
                await trio.sleep(self._pause(name))
            await _reply(json_reply(talk.whole()), send)
            return
        await send(head(200, "text/event-stream"))
        async with aclosing(self._events(name, talk)) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _events(self, name: str, talk: Talk) -> AsyncGenerator[bytes, None]:
        due = trio.current_time()  # by the clock, so that what sending takes does not add up
        role: dict[str, Any] = {"role": "assistant"}
        for piece in talk.pieces:
            due += self._pause(name)
            await trio.sleep_until(due)
            yield talk.event(role | {"content": piece})
            role = {}
        yield talk.end()

    def _pause(self, name: str) -> float:
        return self._token_s * self._slowness.get(name, 1.0)


async def serve(endpoint: ScriptedEndpoint, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve on a free port of loopback until cancelled; started with the address, host and port. StartupError."""
    listener = bind("127.0.0.1:0")
    app = cast("Any", endpoint)
    await serve_app(app, Http(), listener, shutdown=trio.Event(), grace_s=0.0, task_status=task_status)


def _count(conversation: str, begun: str) -> int:
    """How many tokens `begun` is of the answer. InvalidRequest."""
    said, length = 0, 0
    tokens = script(conversation, min(len(begun), _MOST_TOKENS))  # none is empty
    while length < len(begun) and said < len(tokens):
        length += len(tokens[said])
        said += 1
    if "".join(tokens[:said]) != begun:
        raise InvalidRequest("messages: the last one is not the beginning of the answer, cut between two tokens")
    return said


async def _reply(reply: Reply, send: Send) -> None:
    await send(head(reply.status, reply.content_type, len(reply.body)))
    await send({"type": "http.response.body", "body": reply.body})


def _data(event: dict[str, Any]) -> bytes:
    return b"data: %s\n\n" % json.dumps(event, ensure_ascii=False).encode()
