"""A gateway and workers as processes of a private network on loopback, and what can be done to the workers."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx
import trio

from aicn.cli.churn.faults import Fault, Kind
from aicn.cli.processes import READY_S, Daemon, Member, Plan, end, plan, start
from aicn.dev.scripted import ScriptedEndpoint, serve

PROJECT = "churn"
MODEL = "scripted"
_POLL_S = 0.02
_CALL_S = 10.0
_SLOWER = 20.0  # times as long for each token


@dataclass(slots=True)
class Worker:
    """A worker, whatever becomes of its process."""

    daemon: Daemon
    at_work: bool = True

    @property
    def plan(self) -> Plan:
        return self.daemon.plan


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done to whom."""

    at: float  # trio's clock
    node: str  # peer id
    worker: str
    kind: Kind


class Fleet:
    """Use `open_fleet`."""

    def __init__(self, gateway: Daemon, workers: Sequence[Daemon], endpoint: ScriptedEndpoint, address: str) -> None:
        self.url = gateway.plan.url
        self.workers = [Worker(daemon) for daemon in workers]
        self._gateway = gateway
        self._endpoint = endpoint
        self._address = address
        self._recovered = trio.Event()  # set and replaced when a worker is at work again

    async def offer(self, workers: Sequence[Worker]) -> None:
        """Let these and nobody else offer the model, and the gateway know it. ClickException."""
        async with httpx.AsyncClient(timeout=_CALL_S, trust_env=False) as client:
            for worker in self.workers:
                project = f"{worker.plan.url}/api/v0/ai/project"
                if worker in workers:
                    api = f"http://{self._address}/{worker.plan.name}/v1/chat/completions"
                    models = [{"model": MODEL, "api": api, "type": 0}]
                    await _post(client, f"{project}/register", {"project": PROJECT, "models": models})
                else:
                    await _post(client, f"{project}/unregister", {"project": PROJECT})
            await self._known(client, len(workers))

    async def _known(self, client: httpx.AsyncClient, nodes: int) -> None:
        with trio.move_on_after(READY_S):
            while True:
                models = (await client.get(f"{self.url}/v1/models")).json()["data"]
                if [model["nodes"] for model in models if model["id"] == MODEL] == [nodes]:
                    return
                await trio.sleep(_POLL_S)
        raise click.ClickException(f"the gateway does not know all {nodes} workers. {self._gateway.last_words()}")

    async def disturb(self, faults: Iterator[Fault], deeds: list[Deed]) -> None:
        """Do what `faults` say, one after the other, until cancelled; `deeds` get what was done. ClickException when a node ends by itself."""
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for fault in faults:
                await trio.sleep_until(begun + fault.at_s)
                worker = self.workers[fault.worker]
                while not worker.at_work or not any(other.at_work for other in self.workers if other is not worker):
                    await self._recovered.wait()
                self._do(worker, fault.kind)
                deeds.append(Deed(trio.current_time(), worker.plan.peer_id, worker.plan.name, fault.kind))
                if fault.lasts_s is not None:
                    nursery.start_soon(self._undo, worker, fault.kind, fault.lasts_s)

    def thaw(self) -> None:
        """Let go on who was frozen."""
        for worker in self.workers:
            if worker.daemon.process.poll() is None:
                worker.daemon.process.send_signal(signal.SIGCONT)

    def check(self) -> None:
        """ClickException when a node has ended to which nothing was done."""
        for daemon in (self._gateway, *(worker.daemon for worker in self.workers if worker.at_work)):
            daemon.check()

    def _do(self, worker: Worker, kind: Kind) -> None:
        worker.at_work = False
        if kind == "slow":
            self._endpoint.slow(worker.plan.name, _SLOWER)
        else:
            worker.daemon.process.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGSTOP)

    async def _undo(self, worker: Worker, kind: Kind, after_s: float) -> None:
        await trio.sleep(after_s)
        if kind == "slow":
            self._endpoint.slow(worker.plan.name, 1.0)
        elif kind == "freeze":
            worker.daemon.process.send_signal(signal.SIGCONT)
        else:
            await trio.to_thread.run_sync(worker.daemon.process.wait)  # it was killed: at once
            worker.daemon = start(worker.plan)
            await _wait_ready(worker.daemon)
        worker.at_work = True
        self._recovered.set()
        self._recovered = trio.Event()

    async def close(self) -> None:
        """Nobody is left."""
        self.thaw()  # a frozen one does not hear that it shall end
        daemons = [self._gateway, *(worker.daemon for worker in self.workers)]
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(end, daemons)


@asynccontextmanager
async def open_fleet(workers: int, token_s: float, directory: Path) -> AsyncIterator[Fleet]:
    """A gateway and `workers` workers, ready, which offer nothing yet; their endpoints need `token_s` seconds for a token.

    All processes have ended when the block is left. ClickException naming the node that does not come up.
    """
    members = [Member("gateway", "public"), *(Member(f"worker-{number + 1}", "worker") for number in range(workers))]
    plans = plan(members, directory)
    endpoint = ScriptedEndpoint(token_s)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve, endpoint)
        daemons: list[Daemon] = []
        try:
            for batch in (plans[:1], plans[1:]):  # the others join through the first
                daemons += (started := [start(one) for one in batch])
                async with trio.open_nursery() as starting:
                    for daemon in started:
                        starting.start_soon(_wait_ready, daemon)
            fleet = Fleet(daemons[0], daemons[1:], endpoint, address)
            daemons.clear()  # from here on its own
            try:
                yield fleet
            finally:
                await fleet.close()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(end, daemons)
        nursery.cancel_scope.cancel()


async def _wait_ready(daemon: Daemon) -> None:
    async with httpx.AsyncClient(timeout=1.0, trust_env=False) as client:
        with trio.move_on_after(READY_S):
            while True:
                daemon.check()
                try:
                    if (await client.get(f"{daemon.plan.url}/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass  # not listening yet
                await trio.sleep(_POLL_S)
    raise click.ClickException(f"{daemon.plan.name} was not ready within {READY_S:.0f} s. {daemon.last_words()}")


async def _post(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> None:
    answer = await client.post(url, json=body)
    if answer.status_code != 200:
        raise click.ClickException(f"{url}: {answer.status_code} {answer.text[:300]}")
