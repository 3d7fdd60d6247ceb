"""The Go program of bench/load: built, and run as a closed-loop client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

WORK = Path(__file__).parent.parent / ".bench"
PROMPT = "Why is the sky blue? " * 4
LOAD_S = 300  # longest run of one load


def build() -> Path:
    """The program; go itself sees whether there is anything to do."""
    WORK.mkdir(exist_ok=True)
    program = WORK / "load"
    subprocess.run(["go", "build", "-o", program, "."], check=True, cwd=Path(__file__).parent / "load")
    return program


def chat(node: str, project: str, model: str, *, stream: bool = False) -> dict[str, Any]:
    """A chat request of some 300 bytes."""
    messages = [{"role": "user", "content": PROMPT}]
    return {"node_id": node, "project": project, "model": model, "messages": messages, "stream": stream}


def run(
    program: Path, url: str, body: dict[str, Any], *, clients: int, requests: int, spread_s: float = 0.0
) -> dict[str, Any]:
    """Its report on `requests` requests by `clients` clients who arrive within `spread_s` seconds."""
    flags = ["-c", clients, "-n", requests, "-spread", f"{spread_s}s", f"-stream={str(body['stream']).lower()}"]
    command = [program, "run", *flags, url, json.dumps(body)]
    done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, timeout=LOAD_S)
    result: dict[str, Any] = json.loads(done.stdout)
    return result
