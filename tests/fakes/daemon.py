"""A stand-in for `aicn daemon` as a child process: reads its config.toml, answers /readyz, ends with 0 on SIGTERM.

Run in place of Python (`sys.executable`), so that its arguments are `-m aicn.cli.main daemon --config FILE`. FAKE_DAEMON, as
`name=behaviour`, makes one member misbehave: `dies` at once with code 3, `sick` ends with 7 when stopped, `deaf` ignores SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        """Quiet."""


def main() -> None:
    config_file = Path(sys.argv[-1])
    name, _, behaviour = os.environ.get("FAKE_DAEMON", "").partition("=")
    behaviour = behaviour if name == config_file.parent.name else ""
    print("my first line\nmy last words", flush=True)
    if behaviour == "dies":
        sys.exit(3)
    code = 7 if behaviour == "sick" else 0
    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "deaf" else lambda *_: sys.exit(code))
    host, _, port = tomllib.loads(config_file.read_text())["http"]["listen"].rpartition(":")
    HTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
