"""A stand-in for a running node's HTTP API, in a thread, for tests of the command line.

with open_fake_api() as api:
    api.projects["16Uiu2…"] = [{"project": "p", "models": ["m"]}]
    api.script = [b"data: …\n\n", b"data: [DONE]\n\n"]     # the next answers of /chat/completion
    ... api.url, api.requests
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from aicn.wire.v0.nodes import encode_host_info
from tests.fakes.hardware import EXAMPLE

ME = "16Uiu2HAmS4CErxrmPryJbbEX2HFQbLK8r8xCA5rmzdSU59rHc9AF"
OTHER = "16Uiu2HAmRTpigc7jAbsLndB2xDEBMAXLb887SBEFhfdJeEJNtqRM"
LOST = "16Uiu2HAm5cygUrKCBxtNSMKKvgdr1saPM6XWcgnPyTvK4sdrARGL"


@dataclass
class FakeApi:
    """What the node says; every attribute may be changed while it runs."""

    url: str = ""
    ready: bool = True
    host: dict[str, Any] = field(default_factory=lambda: encode_host_info(EXAMPLE))
    projects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    peers: list[str] = field(default_factory=lambda: [OTHER])
    route: dict[str, Any] = field(default_factory=dict)  # of /debug/route
    trace: dict[str, Any] = field(default_factory=dict)  # of /debug/trace
    script: list[bytes] = field(default_factory=list)
    drawn: list[Any] = field(default_factory=list)  # `choices` of /image/gen
    refuse: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)  # path → status, body
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # path, JSON body

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and JSON of everything that is not streamed."""
        ok = {"code": 0, "message": "ok"}
        if path in self.refuse:
            return self.refuse[path]
        match path:
            case "/readyz":
                return (200, {"ready": True, "uptime_s": 93784}) if self.ready else (503, {"ready": False})
            case "/api/v0/id":
                addresses = ["/ip4/127.0.0.1/tcp/6001"]
                return 200, {"peer_id": ME, "agent_version": "aicn/9", "addresses": addresses, "protocols": ["/x/1"]}
            case "/api/v0/swarm/peers":
                one = {"addr": "/ip4/10.0.0.1/tcp/1", "latency": "1.5ms", "direction": "Outbound"}
                return 200, [{"id": f"x-{i}", "peer": peer, **one} for i, peer in enumerate(self.peers)]
            case "/api/v0/host/info" | "/api/v0/image/gen":
                return 200, ok | {"data": self.host if "host" in path else {"choices": self.drawn}}
            case "/api/v0/ai/project/peer":
                if body["node_id"] == LOST:
                    return 504, {"code": 1004, "message": "it does not answer"}
                return 200, ok | {"data": self.projects.get(body["node_id"], [])}
            case "/api/v0/swarm/addrs":
                return 200, [
                    {"peer": ME, "addrs": []},
                    {"peer": OTHER, "addrs": ["/ip4/10.0.0.1/tcp/1", "/ip6/::1/tcp/1"]},
                ]
            case (
                "/api/v0/swarm/connect"
                | "/api/v0/swarm/disconnect"
                | "/api/v0/ai/project/register"
                | "/api/v0/ai/project/unregister"
            ):
                return 200, ok
        return self._directory(path, body)

    def _directory(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The questions about the whole network."""
        if path.startswith("/api/v0/debug/route?"):
            return 200, {"code": 0, "message": "ok", "data": self.route}
        if path.startswith("/api/v0/debug/trace?"):
            return 200, {"code": 0, "message": "ok", "data": self.trace}
        match path.removeprefix("/api/v0/ai/projects/"):
            case "list":
                found: list[Any] = sorted({one["project"] for listed in self.projects.values() for one in listed})
            case "models":
                found = sorted({model for _, model in self._offered(body["project"])})
            case "peers?number=100":
                near = [node for node, model in self._offered(body["project"]) if model == body["model"]]
                found = [{"node_id": node, "connectivity": 1, "latency": 9} for node in near]
            case _:
                return 404, {"code": 1001, "message": "no such route"}
        return 200, {"code": 0, "message": "ok", "data": found}

    def _offered(self, project: str) -> list[tuple[str, str]]:
        """Nodes and models."""
        return [
            (node, model)
            for node, listed in self.projects.items()
            for one in listed
            if one["project"] == project
            for model in one["models"]
        ]


@contextmanager
def open_fake_api() -> Iterator[FakeApi]:
    """Serves on a free loopback port until the block is left."""
    api = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            api.requests.append((self.path, {}))
            self._json(*api.answer(self.path, {}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            api.requests.append((self.path, body))
            if self.path != "/api/v0/chat/completion" or self.path in api.refuse:
                self._json(*api.answer(self.path, body))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.end_headers()
            for chunk in api.script:
                self.wfile.write(chunk)
                self.wfile.flush()

        def _json(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
