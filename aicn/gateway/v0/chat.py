"""Chats with a model, of a named node or of whichever node has it."""

from __future__ import annotations

from quart import Response

from aicn.domain.inference import InferenceRequest, Kind
from aicn.gateway.calls import Route, decoded, from_node, json_answer, may_resume, model_request
from aicn.gateway.exchange import current_request
from aicn.gateway.streaming import collect, stream
from aicn.gateway.v0.errors import error_event
from aicn.node import Node
from aicn.services.ports import Answer
from aicn.wire.completion import parse_completion
from aicn.wire.v0 import answers
from aicn.wire.v0 import inference as wire


async def completion(node: Node) -> Response:
    """A chat with a model of any node, plain or streamed."""
    this = current_request()
    node_id, chat = await decoded(node, wire.decode_chat)
    this.streamed = chat.stream
    this.answer = await node.inference.open(node_id, _request(node, chat))
    return await respond(this.answer, most=node.config.limits.answer_bytes)


async def project_completion(node: Node) -> Response:
    """A chat with a model of whichever node has it, plain or streamed."""
    this = current_request()
    chat = await decoded(node, wire.decode_project_chat)
    this.streamed = chat.stream
    this.answer = await node.dispatch.open(_request(node, chat), resume=may_resume(this))
    return await respond(this.answer, most=node.config.limits.answer_bytes)


async def respond(answer: Answer, *, most: int) -> Response:
    """The HTTP answer to a chat: events as they come when the client asked for a stream, else `data` of at most `most` bytes."""
    if current_request().streamed:
        return from_node(await stream(answer, error_event), answer.node)
    body = await collect(answer, most)
    parse_completion(body, Kind.CHAT, source=f"node {answer.node}")
    return from_node(json_answer(answers.wrap_data(body)), answer.node)


def _request(node: Node, chat: wire.Chat) -> InferenceRequest:
    return model_request(node, Kind.CHAT, project=chat.project, model=chat.model, body=chat.body, stream=chat.stream)


ROUTES = (
    Route("POST", "/chat/completion", completion),
    Route("POST", "/chat/completion/proxy", project_completion),
)
