"""Chats with a model, of a named node or of whichever node has it."""

from __future__ import annotations

import trio
from quart import Response

from aicn.domain.inference import InferenceRequest, Kind
from aicn.gateway.calls import Route, admitted, decoded, json_answer, may_resume
from aicn.gateway.exchange import current_request
from aicn.gateway.streaming import EVENT_STREAM_HEADERS, EventStream, collect, first_piece
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
    this.answer = await node.inference.open(node_id, admitted(node, _request(node, chat)))
    return await respond(this.answer, most=node.config.limits.answer_bytes)


async def project_completion(node: Node) -> Response:
    """A chat with a model of whichever node has it, plain or streamed."""
    this = current_request()
    chat = await decoded(node, wire.decode_project_chat)
    this.streamed = chat.stream
    this.answer = await node.dispatch.open(admitted(node, _request(node, chat)), resume=may_resume(this))
    return await respond(this.answer, most=node.config.limits.answer_bytes)


async def respond(answer: Answer, *, most: int) -> Response:
    """The HTTP answer to a chat: events as they come when the client asked for a stream, else `data` of at most `most` bytes."""
    this = current_request()
    if this.streamed:
        first = await first_piece(answer)
        events = EventStream(this, answer, first=first, error_event=error_event)
        response = Response(events, headers=EVENT_STREAM_HEADERS)
    else:
        body = await collect(answer, most)
        parse_completion(body, Kind.CHAT, source=f"node {answer.node}")
        response = json_answer(answers.wrap_data(body))
    if answer.node is not None:
        response.headers["X-AICN-Node"] = answer.node
    return response


def _request(node: Node, chat: wire.Chat) -> InferenceRequest:
    return InferenceRequest(
        id=current_request().id,
        kind=Kind.CHAT,
        project=chat.project,
        model=chat.model,
        body=chat.body,
        stream=chat.stream,
        deadline=trio.current_time() + node.config.limits.request_s,
    )


ROUTES = (
    Route("POST", "/chat/completion", completion),
    Route("POST", "/chat/completion/proxy", project_completion),
)
