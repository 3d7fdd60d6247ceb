"""Networks of whole nodes of ours and Go nodes with the habits of the existing network's: what each is started with, how they talk."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aicn.config.presets import ROLES
from tests.fakes.whole import Whole, open_whole
from tests.interop.gopeer import GoPeer, open_go_peer

PROJECT, MODEL = "P", "M"
SERVER = ("-legacy", "-resource-limits", "-dht", "server", "-pubsub", "floodsub")
CLIENT = ("-legacy", "-resource-limits", "-dht", "client", "-pubsub", "gossipsub")  # and -direct, its bootstrap node


@asynccontextmanager
async def open_public(directory: Path, *, psk: str, **p2p: Any) -> AsyncIterator[Whole]:
    """A node as `aicn init --role public` makes it, with `p2p` besides."""
    role = ROLES["public"].config.p2p
    settings = {"dht_mode": role.dht_mode, "relay_service": role.relay_service, **p2p}
    async with open_whole(directory, psk=psk, p2p=settings) as public:
        yield public


@asynccontextmanager
async def open_go_client(
    program: Path, bootstrap: str, *more: str, psk: str, flags: Sequence[str] = CLIENT
) -> AsyncIterator[GoPeer]:
    """A Go node that has joined through `bootstrap`, the only node that it knows."""
    direct = ("-direct", bootstrap) if flags == CLIENT else ()
    async with open_go_peer(program, *flags, *direct, "-psk", psk, *more) as go:
        await go("connect", address=bootstrap)
        yield go


def address_of(node: Whole) -> str:
    """With /p2p/<id>."""
    info = node.node.peers.info()
    return f"{info.addresses[0]}/p2p/{info.peer_id}"


async def chat(asking: GoPeer, worker: str) -> dict[str, Any]:
    """A plain chat over the topic; the answer."""
    answer: dict[str, Any] = await asking("chat", peer=worker, project=PROJECT, model=MODEL, text="Say hello.")
    return answer


async def proxy_chat(asking: GoPeer, worker: str, *, stream: bool = True, **more: Any) -> tuple[int, str]:
    """A chat over a stream of its own; status, and the text of the answer."""
    fields = {"peer": worker, "project": PROJECT, "model": MODEL, "text": "Say hello.", "stream": stream, **more}
    answer = await asking("proxy-chat", **fields)
    assert answer["end"] == "EOF", answer
    return answer["status"], text_in("".join(piece["text"] for piece in answer["pieces"]))


def text_in(events: str) -> str:
    """The text that the server-sent events of a chat carry, which must have come to their end."""
    *said, end = [line.removeprefix("data: ") for line in events.splitlines() if line.startswith("data: ")]
    assert end == "[DONE]", events
    return "".join(json.loads(one)["choices"][0]["delta"].get("content", "") for one in said)
