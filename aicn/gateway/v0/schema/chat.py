"""Chats."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from aicn.gateway.v0.schema.shapes import BODY_ERRORS, MODEL_ERRORS, Name, Ok, Operation, Passed, PeerId


class ChatMessage(Passed):
    """A message as the OpenAI chat API has it: also content parts, tool calls, names."""

    role: str = Field(examples=["system", "user", "assistant", "tool"])
    content: Any = Field(default=None, description="Text, or a list of parts.")


class Signed(Passed):
    """Who asks, for nodes and models that want to know."""

    wallet: str = Field(default="", description="Ethereum address of the user.")
    signature: str = Field(default="", description="`personal_sign` of `hash` by that wallet.")
    hash: str = Field(default="", description="What was signed.")


class ChatByProject(Signed):
    """A chat with whichever node offers the model. All other members of the OpenAI chat API go on to the model."""

    project: Name
    model: Name
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = Field(default=False, description="Answer by server-sent events.")


class Chat(ChatByProject):
    """A chat with a model of a named node. All other members of the OpenAI chat API go on to the model."""

    node_id: PeerId


class Choice(Passed):
    """One answer."""

    index: int = 0
    message: dict[str, Any] = Field(default={}, description="`role`, `content`, tool calls …")
    finish_reason: str | None = None


class Completion(Passed):
    """What the model's endpoint answered, byte for byte."""

    created: int | float | None = Field(default=None, description="Unix time.")
    choices: list[Choice] = Field(min_length=1)
    usage: dict[str, Any] | None = None


class ChatAnswer(Ok):
    """The whole answer; server-sent events when `stream` was asked for."""

    data: Completion


EVENT = 'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\ndata: [DONE]\n\n'
_ERRORS = (*BODY_ERRORS, *MODEL_ERRORS, "forbidden")
OPERATIONS = (
    Operation("POST", "/api/v0/chat/completion", "Models", ChatAnswer, Chat, _ERRORS, event=EVENT),
    Operation(
        "POST",
        "/api/v0/chat/completion/proxy",
        "Models",
        ChatAnswer,
        ChatByProject,
        (*BODY_ERRORS, "no_node", "deadline_exceeded"),
        event=EVENT,
        deprecated=True,
    ),
)
