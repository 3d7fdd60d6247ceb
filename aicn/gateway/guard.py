"""Who may call: checks on the head of a request, before anything else is done for it.

Programs of this machine need no key (auth.py), so a web page must not be able to use the browser of someone who can reach it:

* a page of another site posts to it (its browser adds `Origin`, also to "simple" requests): refused unless the origin is allowed;
* a page makes its own name point at this node (DNS rebinding; `Host` is that name): refused unless the name is allowed.

Programs send no Origin and address the node by IP address or localhost.
"""

from __future__ import annotations

import ipaddress
import re

from werkzeug.datastructures import Headers

from aicn.config.schema import Http
from aicn.errors import Forbidden

ANY = "*"  # in a list of allowed names or origins
_NAMES = re.compile(r"[A-Za-z0-9-]{1,64}(?:, ?[A-Za-z0-9-]{1,64}){0,63}")  # of headers
PREFLIGHT_S = 600  # how long a browser may remember a preflight's answer


class Guard:
    """The checks that `http` asks for."""

    def __init__(self, http: Http) -> None:
        self._hosts = frozenset(name.lower() for name in http.allowed_hosts)
        self._origins = frozenset(origin.lower() for origin in http.allowed_origins)

    def check(self, headers: Headers) -> str | None:
        """The allowed foreign origin of the request, None when it has none; Forbidden."""
        host = headers.get("Host", "").lower()
        if not self._host_passes(host):
            raise Forbidden(f"this node is not known as {host[:100]!r}; add the name to http.allowed_hosts")
        origin = headers.get("Origin", "").lower()
        if not origin or origin in (f"http://{host}", f"https://{host}"):
            return None
        if origin not in self._origins and ANY not in self._origins:
            raise Forbidden(f"pages of {origin[:100]!r} may not call this node; add the origin to http.allowed_origins")
        return origin

    def _host_passes(self, host: str) -> bool:
        if not host:  # HTTP/1.0 without a Host: no browser
            return True
        name, colon, port = host.rpartition(":")
        if not colon or not port.isdigit():
            name = host
        name = name.rstrip(".")
        return (
            name == "localhost"
            or name.endswith(".localhost")
            or _is_address(name)
            or name in self._hosts
            or ANY in self._hosts
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True


def cors_headers(origin: str) -> dict[str, str]:
    """What lets the scripts of an allowed origin read the answer."""
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "X-Request-Id, X-AICN-Node, Server-Timing, Retry-After",
        "Vary": "Origin",
    }


def preflight_headers(origin: str, wanted: str = "") -> dict[str, str]:
    """The answer to a browser that asks before it calls, with the headers `wanted`: OpenAI's client sends a dozen of its own."""
    return {
        **cors_headers(origin),
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": wanted if _NAMES.fullmatch(wanted) else "Authorization, Content-Type",
        "Access-Control-Max-Age": str(PREFLIGHT_S),
    }
