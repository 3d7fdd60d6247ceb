"""The protocol that the tests speak on streams, as our server and as our client; exchange.mjs is the same in JavaScript.

The first line names a mode, what follows is data:

    digest         read to the end, answer with the SHA-256 in hex, a newline, and the data
    first          answer a line and end this half of the stream, then read to the end
    hold           answer one byte, then read to the end
    reset <bytes>  answer that many bytes, wait for a line, reset
    slow <ms>      read nothing for so long, then to the end; answer the SHA-256 and a newline
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import trio

from aicn.errors import AnswerBroken
from aicn.p2p.host import Host
from aicn.p2p.stream import Stream
from tests.fakes.hosts import read_all
from tests.interop.js.process import PROTOCOL


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def read_line(stream: Stream) -> tuple[bytes, bytes]:
    """The first line, and what came behind it."""
    data = b""
    while b"\n" not in data:
        part = await stream.receive_some()
        assert part, "the stream ended before its first line did"
        data += part
    line, _, rest = data.partition(b"\n")
    return line, rest


@dataclass
class Server:
    """Our side of it; `ends` says how the streams ended: eof, or reset."""

    ends: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    async def __call__(self, stream: Stream) -> None:
        line, data = await read_line(stream)
        mode, _, argument = line.decode().partition(" ")
        try:
            if mode == "reset":
                await stream.send_all(b"x" * int(argument))
                await read_line(stream)
                stream.reset()
                return
            if mode == "first":
                await stream.send_all(b"done\n")
                await stream.send_eof()
            elif mode == "hold":
                await stream.send_all(b"x")
            elif mode == "slow":
                await trio.sleep(int(argument) / 1000)
            data += await read_all(stream)
        except AnswerBroken:
            self.ends.append("reset")
            raise
        self.ends.append("eof")
        self.digests.append(sha256(data))
        if mode in ("digest", "slow"):
            await stream.send_all(f"{sha256(data)}\n".encode() + (data if mode == "digest" else b""))


async def open_exchange(host: Host, peer: str, line: str) -> Stream:
    """A stream to a peer, with its first line sent."""
    stream = await host.open_stream(peer, PROTOCOL)
    await stream.send_all(f"{line}\n".encode())
    return stream


async def ask(host: Host, peer: str, line: str, data: bytes, *, pause_s: float = 0.0) -> bytes:
    """Send `data`, wait, read the answer to its end."""
    stream = await open_exchange(host, peer, line)
    await stream.send_all(data)
    await stream.send_eof()
    await trio.sleep(pause_s)
    return await read_all(stream)
