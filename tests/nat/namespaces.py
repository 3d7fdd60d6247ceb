"""Network namespaces that last as long as this process, and sockets inside them.

A namespace is held by a `cat` that reads from us: when we end, however, it ends, and the kernel takes the namespace and all its
links away. Nothing is written to /run/netns and the machine's own network is not touched.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_COMMAND_S = 10.0


class Namespace:
    """One machine of the test network, as far as its network goes."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._path = f"/proc/{pid}/ns/net"

    @property
    def prefix(self) -> tuple[str, ...]:
        """In front of a command that is to run inside."""
        return ("nsenter", f"--net={self._path}", "--")

    def run(self, command: str, text: str = "") -> str:
        """What `command` (words, no shell) prints inside when it reads `text`; AssertionError with its complaint when it fails."""
        done = subprocess.run(
            [*self.prefix, *command.split()],
            check=False,
            input=text,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def forward_packets(self) -> None:
        """Make it a router. /proc/sys/net shows whoever opens it his own namespace."""
        self.run("tee /proc/sys/net/ipv4/ip_forward", "1")

    def tcp_socket(self) -> socket.socket:
        """A TCP socket inside: a socket stays where it was made, whoever uses it."""
        made: list[socket.socket] = []
        thread = threading.Thread(target=self._make_socket, args=(made,))  # which alone enters the namespace, and ends
        thread.start()
        thread.join()
        assert made, f"no socket in {self._path}"
        return made[0]

    def _make_socket(self, made: list[socket.socket]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(self._path).open() as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        made.append(socket.socket())


@contextmanager
def open_namespace() -> Iterator[Namespace]:
    """A new namespace whose loopback is up."""
    command = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"ready\n", "no network namespace can be made here"
            yield Namespace(holder.pid)
        finally:
            holder.kill()


def missing() -> str:
    """Why there can be no namespaces with NAT here; empty when there can."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("ip", "iptables", "unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    try:
        with open_namespace() as namespace:
            namespace.run("iptables -w -t nat -A POSTROUTING -j MASQUERADE --random-fully")
            namespace.run("iptables -w -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT")
            namespace.run("ip link add br0 type bridge")
            namespace.forward_packets()
    except AssertionError as error:
        return str(error)
    return ""
