"""API keys at the door: who must show one, and what it opens.

`keys.required = "auto"`: a node that listens on loopback only asks nobody. One that listens beyond asks everybody but this machine's
own programs, so that those need no keys and the first key can be made; what a reverse proxy passes on is not this machine's own.
A key that is shown is checked in any case. What is no key of ours, such as the words that OpenAI's clients must be given, counts
as none.
"""

from __future__ import annotations

import ipaddress

from werkzeug.datastructures import Headers

from aicn.domain.keys import PREFIX, Key
from aicn.errors import Forbidden, Unauthorized
from aicn.gateway import health
from aicn.gateway.clients import ANYBODY
from aicn.gateway.exchange import GatewayRequest
from aicn.gateway.openai.routes import PREFIX as OPENAI
from aicn.gateway.v0.routes import PREFIX as V0
from aicn.node import Node

OPEN = frozenset({*health.PATHS, "/openapi.json", "/docs"})  # little of the node is told there
ANY_KEY = frozenset(  # of v0: asking models, and looking for them; what else there is, now or later, changes or tells more of the node
    f"{V0}/{path}"
    for path in (
        "id",
        "peer",
        "peers",
        "host/info",
        "ai/project/peer",
        "ai/projects/list",
        "ai/projects/models",
        "ai/projects/peers",
        "chat/completion",
        "chat/completion/proxy",
        "embedding",
        "image/gen",
        "image/gen/proxy",
        "image/edit",
        "debug/route",
        "usage",
    )
)
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")  # RFC 7239, and what came before it


class Auth:
    """The check that `keys.required` asks for."""

    def __init__(self, node: Node) -> None:
        required = node.config.keys.required
        self._keys = node.keys
        self._always = required == "always"
        self._strangers = required == "auto" and not on_loopback(node.config.http.listen)

    def check(self, request: GatewayRequest) -> Key | None:
        """The key that the request shows; None: it needs none. Unauthorized; Forbidden: its key does not open this call."""
        path = request.path
        if path in OPEN or path.startswith("/docs/"):
            return None
        secret = _bearer(request.headers)
        key = self._keys.check(secret) if secret.startswith(PREFIX) else None
        if (key is not None and key.scope.admin) or not self._needed(request):
            return key
        if key is None:
            raise Unauthorized(
                "an API key is needed: Authorization: Bearer aicn_…; on the node, aicn keys create makes one"
            )
        if path not in ANY_KEY and not path.startswith(f"{OPENAI}/"):
            raise Forbidden(f"this call needs an admin key; API key {key.id} is none")
        return key

    def _needed(self, request: GatewayRequest) -> bool:
        if not self._strangers:
            return self._always
        return request.client != ANYBODY or any(name in request.headers for name in _FORWARDED)


def on_loopback(listen: str) -> bool:
    """Whether `http.listen` is for this machine alone."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bearer(headers: Headers) -> str:
    """What follows `Bearer` in Authorization; empty: nothing."""
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""
