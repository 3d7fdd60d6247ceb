"""API keys and usage. Ours: the existing network has neither."""

from __future__ import annotations

import time

from quart import Response

from aicn.errors import Forbidden
from aicn.gateway.calls import Route, decoded, json_answer
from aicn.gateway.exchange import current_request
from aicn.gateway.v0.calls import data, done
from aicn.node import Node
from aicn.wire.v0 import answers
from aicn.wire.v0 import keys as wire


async def keys(node: Node) -> Response:
    """The API keys of this node, without their secrets."""
    return data([wire.encode_key(key) for key in node.keys.listed()])


async def create(node: Node) -> Response:
    """A new API key. Its secret is in this answer and nowhere else."""
    key, secret = await node.keys.create(*await decoded(node, wire.decode_create))
    response = data({"key": secret, **wire.encode_key(key)})
    response.headers["Cache-Control"] = "no-store"
    return response


async def revoke(node: Node) -> Response:
    """Refuse an API key from now on."""
    key_id = await decoded(node, wire.decode_revoke)
    existed = await node.keys.revoke(key_id)
    node.usage.forget(key_id)
    return done() if existed else json_answer(answers.encode_ok("not existed"))


async def usage(node: Node) -> Response:
    """What was asked of models through this node: of the API key that is shown, of all for those who need none or an admin's."""
    this = current_request()
    seconds, hours, key_id = wire.decode_usage(this.args)
    if this.key is not None and not this.key.scope.admin:
        if key_id not in (None, this.key.id):
            raise Forbidden("key: only an admin key is told the usage of others")
        key_id = this.key.id
    rows = await node.usage.since(time.time() - seconds, key_id)
    return data(wire.encode_usage(rows if hours else node.usage.summed(rows)))


ROUTES = (
    Route("GET", "/keys", keys),
    Route("POST", "/keys/create", create),
    Route("POST", "/keys/revoke", revoke),
    Route("GET", "/usage", usage),
)
