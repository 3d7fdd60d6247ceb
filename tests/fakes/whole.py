"""Whole nodes in this process, with their HTTP APIs on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from aicn import compose
from aicn.config.load import load
from aicn.gateway.app import create_app
from aicn.gateway.server import bind, serve
from aicn.node import Node
from tests.e2e.nodes import write_node
from tests.fakes.http import Client, Reply


@dataclass
class Whole:
    """A node and where its API is."""

    node: Node
    address: str

    @property
    def id(self) -> str:
        return self.node.peers.id

    async def connect(self, other: Whole) -> None:
        await self.node.peers.connect(f"{other.node.peers.info().addresses[0]}/p2p/{other.id}")

    async def request(self, method: str, path: str, body: object = b"", headers: dict[str, str] | None = None) -> Reply:
        client = await Client.connect(self.address)
        try:
            return await client.request(method, path, body, headers)
        finally:
            await client.aclose()

    async def post(self, path: str, body: object = b"", headers: dict[str, str] | None = None) -> Reply:
        """`path` is below /api/v0."""
        return await self.request("POST", f"/api/v0{path}", body, headers)

    async def register(self, *models: dict[str, Any], project: str = "P", **more: Any) -> Reply:
        """Each model is what it is in `models` of the call."""
        return await self.post("/ai/project/register", {"project": project, "models": list(models), **more})


@asynccontextmanager
async def open_whole(folder: Path, /, **sections: Any) -> AsyncIterator[Whole]:
    """A node that lives in `folder`; `sections` are its configuration beside free ports."""
    config = load(write_node(folder, **sections))
    async with trio.open_nursery() as nursery, compose.open_node(config) as node:
        stop = trio.Event()

        async def run(task_status: trio.TaskStatus[str]) -> None:
            listener = bind("127.0.0.1:0")
            await serve(create_app(node), config.http, listener, shutdown=stop, grace_s=1, task_status=task_status)

        yield Whole(node, await nursery.start(run))
        nursery.cancel_scope.cancel()
