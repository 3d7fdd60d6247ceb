"""What psutil and py-cpuinfo know on every system, and the running of a system's own tools."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import psutil

from aicn.domain.hardware import Cpu
from aicn.hardware.files import plain

_TOOL_S = 10.0  # a tool that takes longer is taken for one that is not there


def run_tool(command: Sequence[str], deadline_s: float = _TOOL_S) -> str:
    """Its standard output; "" when it is not there, fails, or is not done in time (it is killed then)."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline_s, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")


def tool_json(command: Sequence[str]) -> object:
    """What a tool tells as JSON; None when it does not."""
    try:
        return json.loads(run_tool(command))
    except (ValueError, RecursionError):
        return None


def model_name() -> str:
    """The processor's. py-cpuinfo takes a second and forks, which a process with threads must not: it gets its own."""
    told = tool_json((sys.executable, "-m", "cpuinfo", "--json"))
    name = told.get("brand_raw") if isinstance(told, dict) else None
    return (plain(name) if isinstance(name, str) else "") or "unknown"


def processors() -> tuple[Cpu, ...]:
    """All sockets as one: what is known where the system does not tell them apart."""
    threads = psutil.cpu_count() or 0
    return (Cpu(model_name(), psutil.cpu_count(logical=False) or threads, threads),)


def usable_memory() -> int:
    """Bytes."""
    return psutil.virtual_memory().total
