"""/openapi.json and /docs over a real socket: complete without a network, and only for those who may call."""

from __future__ import annotations

import json
import re
from urllib.parse import urljoin

import pytest
import trio

from aicn.config.schema import Config, Http
from aicn.gateway.openapi import document
from tests.fakes.http import serving
from tests.fakes.node import FakeNode

PATHS = ("/openapi.json", "/docs", "/docs/start.js", "/docs/swagger-ui.css")


async def test_the_document() -> None:
    async with serving() as served:
        replies = []
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                replies.append(await served.request("GET", "/openapi.json"))

            for _ in range(4):  # made once, whoever else asks meanwhile
                nursery.start_soon(ask)
        assert {reply.headers["content-type"] for reply in replies} == {"application/json"}
        assert all(reply.json == json.loads(json.dumps(document())) for reply in replies)


async def test_the_page_needs_nothing_but_this_node() -> None:
    async with serving() as served, served.client() as client:
        page = await client.request("GET", "/docs")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        needed = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
        assert len(needed) == 4
        for reference in needed:
            assert not re.match(r"\w+:|//", reference)
            part = await client.request("GET", urljoin("/docs", reference))
            assert part.status == 200
            assert len(part.body) == int(part.headers["content-length"]) > 0
            assert b"@import" not in part.body[:10_000]
        start = (await client.request("GET", "/docs/start.js")).body.decode()
        assert 'url: "openapi.json"' in start  # relative: also behind a proxy that serves the node below a path
        assert "validatorUrl: null" in start


async def test_a_browser_keeps_the_large_files() -> None:
    async with serving() as served, served.client() as client:
        first = await client.request("GET", "/docs/swagger-ui-bundle.js")
        again = await client.request(
            "GET", "/docs/swagger-ui-bundle.js", headers={"if-none-match": first.headers["etag"]}
        )
        assert (first.status, again.status) == (200, 304)
        assert "max-age=86400" in first.headers["cache-control"]


async def test_the_page_may_load_from_this_node_alone() -> None:
    async with serving() as served, served.client() as client:
        for path in PATHS:
            policy = (await client.request("GET", path)).headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy  # no other page lays itself over the buttons
            for sources in policy.split(";"):
                assert set(sources.split()[1:]) <= {"'none'", "'self'", "data:"}


@pytest.mark.parametrize(
    "name", ["x", "..%2fREADME.md", "%2e%2e/README.md", "swagger-ui.js", "start.js/", "LICENSE", ""]
)
async def test_no_other_files(name: str) -> None:
    async with serving() as served:
        reply = await served.request("GET", f"/docs/{name}")
        assert (reply.status, reply.json["code"]) == (404, 1010)


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}])
async def test_the_guard_holds_here_too(headers: dict[str, str]) -> None:
    async with serving() as served:
        for path in PATHS:
            reply = await served.request("GET", path, headers=headers)
            assert (reply.status, reply.json["code"]) == (403, 1009)


async def test_switched_off() -> None:
    async with serving(FakeNode(Config(http=Http(docs=False)))) as served:
        for path in PATHS:
            assert (await served.request("GET", path)).status == 404
        assert (await served.request("GET", "/api/v0/id")).status == 200
