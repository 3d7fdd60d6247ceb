"""`/openapi.json`, and `/docs`: a page that shows it, from files that come with the node, without a network."""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path

import trio
from quart import Blueprint, Response, abort, send_file

PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>aicn</title>
  <link rel="icon" href="docs/favicon-32x32.png">
  <link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
  <div id="page"></div>
  <script src="docs/swagger-ui-bundle.js"></script>
  <script src="docs/start.js"></script>
</body>
</html>
"""
# Addresses are relative: a proxy may serve the node below a path. No validator: it would be asked over the internet.
START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null, requestSnippetsEnabled: true
});
"""
FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")  # of flask-swagger-ui, which carries Swagger UI
HEADERS = {
    # Only what the node serves; Swagger UI sets styles from its script, and its style sheet has small images inside.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
FILE_S = 86_400  # how long a browser may keep a file of Swagger UI


class Document:
    """The OpenAPI document as JSON, made when it is first asked for."""

    def __init__(self) -> None:
        self._text = b""
        self._making = trio.Lock()

    async def text(self) -> bytes:
        async with self._making:
            if not self._text:
                self._text = await trio.to_thread.run_sync(_make)
        return self._text


def _make() -> bytes:
    from aicn.gateway.openapi import document  # pydantic: 0.1 s and some megabytes, only for those who look

    return json.dumps(document(), ensure_ascii=False).encode()


def blueprint() -> Blueprint:
    """The routes."""
    bound = Blueprint("docs", __name__)
    made = Document()
    # Not by import: the package would bring Flask with it.
    files = Path(str(distribution("flask-swagger-ui").locate_file("flask_swagger_ui/dist")))

    @bound.get("/openapi.json")
    async def openapi() -> Response:
        """The OpenAPI document."""
        return Response(await made.text(), content_type="application/json", headers=HEADERS)

    @bound.get("/docs")
    async def page() -> Response:
        """The page."""
        return Response(PAGE, content_type="text/html; charset=utf-8", headers=HEADERS)

    @bound.get("/docs/start.js")
    async def start() -> Response:
        """What the page begins with."""
        return Response(START, content_type="text/javascript", headers=HEADERS)

    @bound.get("/docs/<name>")
    async def file(name: str) -> Response:
        """A part of Swagger UI."""
        if name not in FILES:
            abort(404)
        response = await send_file(files / name, cache_timeout=FILE_S, conditional=True)
        response.headers.update(HEADERS)
        return response

    return bound
