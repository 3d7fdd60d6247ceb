"""Host and Origin checks."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import Headers

from aicn.config.schema import Http
from aicn.errors import Forbidden
from aicn.gateway.guard import Guard

GUARD = Guard(Http(allowed_hosts=("Node.example",), allowed_origins=("https://page.example",)))


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "LOCALHOST:6000", "x.localhost:1", "127.0.0.1", "127.0.0.1:6000", "[::1]", "[fe80::1]:6000", "node.example",
     "node.example.:1"],
)  # fmt: skip
def test_hosts_that_pass(host: str) -> None:
    assert GUARD.check(Headers({"Host": host})) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.1", "2130706433", "node.example.evil", "notlocalhost", ":80",
     "[::1", "localhost@evil.example", "evil.example:localhost", "127.0.0.1, evil.example", "."],
)  # fmt: skip
def test_hosts_that_do_not(host: str) -> None:
    with pytest.raises(Forbidden, match=r"http\.allowed_hosts"):
        GUARD.check(Headers({"Host": host}))


@pytest.mark.parametrize(
    ("origin", "told"),
    [("", None), ("http://localhost:6000", None), ("HTTPS://LOCALHOST:6000", None), ("https://page.example", "https://page.example")],
)  # fmt: skip
def test_origins_that_pass(origin: str, told: str | None) -> None:
    assert GUARD.check(Headers({"Host": "localhost:6000", "Origin": origin})) == told


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://localhost",
        "http://localhost:60000",
        "http://page.example",
        "https://page.example.evil",
        "*",
        "file://",
    ],
)
def test_origins_that_do_not(origin: str) -> None:
    with pytest.raises(Forbidden, match=r"http\.allowed_origins"):
        GUARD.check(Headers({"Host": "localhost:6000", "Origin": origin}))
