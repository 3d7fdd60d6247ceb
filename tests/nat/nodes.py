"""Daemons in the namespaces of a topology, driven from outside through a door to their API."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio

from tests.e2e.nodes import Daemon, chat, running, write_node
from tests.fakes.endpoint import FakeEndpoint, open_fake_endpoint
from tests.nat.links import open_link
from tests.nat.namespaces import Namespace

LOOPBACK = "127.0.0.1"
PORT = 6001


@asynccontextmanager
async def node_in(namespace: Namespace, directory: Path, *, bootstrap: str = "", **p2p: Any) -> AsyncIterator[Daemon]:
    """A daemon that listens on all interfaces of `namespace`; `p2p` is more of its configuration."""
    listen = {"listen": [f"/ip4/0.0.0.0/tcp/{PORT}"], **p2p}
    peers = (bootstrap,) if bootstrap else ()
    config = write_node(directory, bootstrap=peers, p2p=listen, logging={"level": "debug"})
    async with running(config, prefix=namespace.prefix) as daemon:
        api = urlsplit(daemon.url).port
        assert api is not None
        async with open_link((None, LOOPBACK, 0), (namespace, LOOPBACK, api)) as door:
            daemon.client.base_url = httpx.URL(f"http://{LOOPBACK}:{door}")
            yield daemon


@asynccontextmanager
async def model_in(namespace: Namespace, worker: Daemon) -> AsyncIterator[FakeEndpoint]:
    """A model endpoint beside `worker`, in its namespace, registered there as P/M."""
    async with (
        open_fake_endpoint() as endpoint,
        open_link((namespace, LOOPBACK, 0), (None, LOOPBACK, endpoint.port)) as port,
    ):
        await worker.register(f"http://{LOOPBACK}:{port}/v1/chat/completions")
        yield endpoint


def at(daemon: Daemon, ip: str, port: int = PORT) -> str:
    """Where others reach it, with its peer id."""
    return f"/ip4/{ip}/tcp/{port}/p2p/{daemon.peer_id}"


async def ask(node: Daemon, worker: Daemon) -> httpx.Response:
    """A chat with the worker's model."""
    return await node.post("/chat/completion", chat(worker.peer_id))


async def until_answered(node: Daemon, worker: Daemon, *, within: float = 30.0) -> None:
    """Until the worker's model can be asked through `node`: the worker needs a moment to learn how it is reachable, and to tell."""
    status = 0
    with trio.move_on_after(within):
        while (status := (await ask(node, worker)).status_code) != 200:
            await trio.sleep(0.2)
    assert status == 200, f"{status}; asker: {node.log[-20:]}; worker: {worker.log[-20:]}"


async def connections(node: Daemon, peer: Daemon) -> list[dict[str, Any]]:
    """Those of `node` with `peer`."""
    return [one for one in (await node.post("/swarm/peers")).json() if one["peer"] == peer.peer_id]


async def until(
    node: Daemon, peer: Daemon, holds: Callable[[list[dict[str, Any]]], bool], *, within: float = 30.0
) -> list[dict[str, Any]]:
    """The connections of `node` with `peer` as soon as they are what `holds` wants."""
    found: list[dict[str, Any]] = []
    with trio.move_on_after(within):
        while not holds(found := await connections(node, peer)):
            await trio.sleep(0.1)
        return found
    raise AssertionError(f"after {within:g} s: {found}; log: {node.log[-20:]}")


async def until_logged(node: Daemon, text: str, *, within: float = 40.0) -> None:
    with trio.move_on_after(within):
        while not any(text in line for line in node.log):
            await trio.sleep(0.1)
        return
    raise AssertionError(f"after {within:g} s the log is: {node.log[-20:]}")


def relayed(connection: dict[str, Any]) -> bool:
    return "/p2p-circuit" in connection["addr"]


def direct(connection: dict[str, Any]) -> bool:
    return not relayed(connection)


def rtt_s(connection: dict[str, Any]) -> float:
    """The round trip of a connection that `connections` gave; 0.0 when it is not measured yet, or is over a minute."""
    found = re.fullmatch(r"([\d.]+)(µs|ms|s)", connection["latency"])
    return float(found[1]) * {"µs": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]] if found else 0.0
