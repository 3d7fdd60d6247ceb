"""The models of the network, as clients can name them."""

from __future__ import annotations

import trio
from quart import Response

from aicn.gateway.calls import Route, json_answer
from aicn.gateway.exchange import current_request
from aicn.node import Node
from aicn.wire.openai import answers

_MANY = 1000  # models whose encoding, 5 µs each, the event loop need not wait for


async def models(node: Node) -> Response:
    """All models that any node offers, each once, by project and name; of an API key, those that it is for."""
    listed = await node.models.listed()
    if (key := current_request().key) is not None:
        listed = [one for one in listed if key.scope.allows(one.project, one.name)]
    if len(listed) > _MANY:
        return json_answer(await trio.to_thread.run_sync(answers.encode_models, listed))
    return json_answer(answers.encode_models(listed))


async def model(node: Node) -> Response:
    """One model, by any name that it can be asked for with."""
    views = current_request().view_args or {}
    return json_answer(answers.encode_model(await node.models.describe(views["id"])))


ROUTES = (
    Route("GET", "/models", models),
    Route("GET", "/models/<path:id>", model),
)
