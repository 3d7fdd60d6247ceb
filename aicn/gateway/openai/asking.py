"""One model request of `/v1`, whatever its kind: whom its model's name means, and what the answer's head tells."""

from __future__ import annotations

from functools import partial

from quart import Response

from aicn.domain.routing import Attempt
from aicn.gateway.calls import from_node, json_answer, may_resume, model_request
from aicn.gateway.exchange import current_request
from aicn.gateway.openai.errors import error_event
from aicn.gateway.streaming import collect, stream
from aicn.node import Node
from aicn.services.ports import Answer
from aicn.wire.completion import parse_completion
from aicn.wire.openai.requests import Asked


async def ask(node: Node, asked: Asked) -> Answer:
    """The answer of whoever has the model. THE place through which every model request of `/v1` goes."""
    this = current_request()
    this.streamed = asked.stream
    project, model = node.models.resolve(asked.model, asked.kind)
    request = model_request(
        node,
        asked.kind,
        project=project,
        model=model,
        body=asked.body_for(model),
        stream=asked.stream,
        parts=asked.parts,
    )
    this.answer = await node.dispatch.open(request, resume=may_resume(this))
    return this.answer


async def respond(node: Node, asked: Asked) -> Response:
    """The HTTP answer of a model whose words are passed on as they are: events as they come, or a JSON object."""
    answer = await ask(node, asked)
    if asked.stream:
        return signed(await stream(answer, partial(error_event, request=current_request())), answer)
    body = await collect(answer, node.config.limits.answer_bytes)
    parse_completion(body, asked.kind, source=f"node {answer.node}")
    return signed(json_answer(body), answer)


def signed(response: Response, answer: Answer) -> Response:
    """`response` with who answered, and what took how long as far as it is over."""
    from_node(response, answer.node)
    if timing := _server_timing(answer):
        response.headers["Server-Timing"] = timing
    return response


def _server_timing(answer: Answer) -> str:
    """The header's value (W3C Server Timing): milliseconds of the attempt that answered, and of the whole answer where it is over."""
    told = []
    attempts = answer.trace.attempts if answer.trace is not None else []
    for attempt in reversed(attempts):
        if attempt.node == answer.node:  # not always the last: of two that are asked at once the first may win
            told += _phases(attempt)
            break
    if len(attempts) > 1:
        told.append(f"attempts;desc={len(attempts)}")
    if answer.end is not None:
        told += [f"queue;dur={answer.end.queued_ms}", f"worker;dur={answer.end.total_ms}"]
    return ", ".join(told)


def _phases(attempt: Attempt) -> list[str]:
    told = [f"way;desc={'relayed' if attempt.relayed else 'direct'}"]
    if attempt.accepted_s is not None:
        told.append(f"dial;dur={attempt.accepted_s * 1000:.1f}")
        if attempt.first_s is not None:
            told.append(f"first;dur={(attempt.first_s - attempt.accepted_s) * 1000:.1f}")
    return told
