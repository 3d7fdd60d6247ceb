"""The loads, the same for every implementation; the client's side, with what they cost the server's process."""

from __future__ import annotations

import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Self

import trio

from bench.nodes import Vitals
from bench.p2p.stack import COUNT, ECHO, SINK, Node, OpenNode, Stream, read_all

KIB = bytes(1024)
WARM_UP = 50  # exchanges before the first figure is taken
WORKERS, REQUESTS_S = 32, 3.0  # how long requests are sent, one by one and by workers
BULK_BYTES = 256 << 20  # stock needs a second or two
BLOCK = bytes(64 << 10)
AT_ONCE, AT_ONCE_S = 1000, 10.0
DIALS, CONNECTIONS = 20, 200  # dialled one by one, and in all; stock accepts 250 in its life
LOAD_S = 120.0  # a load that takes longer hangs

Results = dict[str, float]


@dataclass(frozen=True)
class Bed:
    """A client that is connected to a server."""

    client: Node
    address: str  # the server's
    server: Vitals
    open_node: OpenNode  # makes further clients
    bulk: str  # the protocol that reads to the end

    async def exchange(self) -> None:
        """A new stream, 1 KiB there and back."""
        stream = await self.client.open_stream(self.address, ECHO)
        await stream.send_all(KIB)
        await stream.send_eof()
        assert await read_all(stream) == KIB, "something else came back"
        await stream.finish()


@dataclass
class Cost:
    """Wall time and processor time of both processes while a block ran."""

    server: Vitals
    wall_s: float = 0.0
    client_s: float = 0.0
    server_s: float = 0.0
    _begun: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))

    def __enter__(self) -> Self:
        self._begun = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s, self.client_s, self.server_s = (
            now - then for now, then in zip(self._now(), self._begun, strict=True)
        )

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), self.server.cpu_s()


async def run_loads(open_node: OpenNode, address: str, server: Vitals, *, bulk_protocol: str) -> Results:
    """All figures that one client process takes. An exception of a load is the end: a figure with failures in it is none."""
    results: Results = {}
    async with open_node() as client:
        await client.connect(address)
        bed = Bed(client, address, server, open_node, bulk_protocol)
        for _ in range(WARM_UP):
            await bed.exchange()
        for load in (dials, one_by_one, by_workers, bulk, many_at_once):  # memory first, as long as none was freed
            with trio.fail_after(LOAD_S):
                results |= await load(bed)
    return results


async def run_relayed(open_node: OpenNode, address: str, server: Vitals) -> Results:
    """The figures of a client whose server is reached through a relay."""
    async with open_node(relay="use") as client:
        await client.connect(address)
        bed = Bed(client, address, server, open_node, COUNT)
        for _ in range(WARM_UP):
            await bed.exchange()
        with trio.fail_after(LOAD_S):
            times, _ = await _requests(bed, workers=1)
            many, cost = await _requests(bed, workers=WORKERS)
    return {"relayed_p50_ms": statistics.median(times) * 1e3, "relayed_rps": len(many) / cost.wall_s}


async def one_by_one(bed: Bed) -> Results:
    times, cost = await _requests(bed, workers=1)
    return {"one_rps": len(times) / cost.wall_s, "one_p50_ms": statistics.median(times) * 1e3}


async def by_workers(bed: Bed) -> Results:
    times, cost = await _requests(bed, workers=WORKERS)
    return {
        "many_rps": len(times) / cost.wall_s,
        "many_p50_ms": statistics.median(times) * 1e3,
        "many_client_ms": cost.client_s / len(times) * 1e3,
        "many_server_ms": cost.server_s / len(times) * 1e3,
    }


async def _requests(bed: Bed, *, workers: int) -> tuple[list[float], Cost]:
    """Exchanges by so many workers for REQUESTS_S; the seconds that each took."""
    times: list[float] = []
    over = time.perf_counter() + REQUESTS_S

    async def worker() -> None:
        while (begun := time.perf_counter()) < over:
            await bed.exchange()
            times.append(time.perf_counter() - begun)

    with Cost(bed.server) as cost:
        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                nursery.start_soon(worker)
    return times, cost


async def bulk(bed: Bed) -> Results:
    """Blocks to the server's `bulk` protocol, which answers when it has read the last one."""
    stream = await bed.client.open_stream(bed.address, bed.bulk)
    with Cost(bed.server) as cost:
        for _ in range(BULK_BYTES // len(BLOCK)):
            await stream.send_all(BLOCK)
        await stream.send_eof()
        answer = await read_all(stream)
        assert answer == str(BULK_BYTES).encode() or bed.bulk == SINK, "the server read something else"
    await stream.finish()
    megabytes = BULK_BYTES / 1e6
    return {"bulk_mb_s": megabytes / cost.wall_s, "bulk_ms": (cost.client_s + cost.server_s) / megabytes * 1e3}


async def many_at_once(bed: Bed) -> Results:
    """Streams of which none ends before all have had their first answer. Stock never gets there: it holds 256 (yamux.py:880)."""
    answered = finished = 0
    all_open = trio.Event()

    async def one() -> None:
        nonlocal answered, finished
        stream = await bed.client.open_stream(bed.address, ECHO)
        await stream.send_all(KIB)
        await _receive_exactly(stream, len(KIB))
        answered += 1
        if answered == AT_ONCE:
            all_open.set()
        await all_open.wait()
        await stream.send_eof()
        assert await read_all(stream) == b""
        await stream.finish()
        finished += 1

    with Cost(bed.server) as cost, trio.move_on_after(AT_ONCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(one)
    lost = AT_ONCE - finished
    return {"at_once_lost": lost} | ({} if lost else {"at_once_s": cost.wall_s})


async def _receive_exactly(stream: Stream, size: int) -> None:
    while size > 0:
        part = await stream.receive_some()
        assert part, "the answer ended early"
        size -= len(part)


async def dials(bed: Bed) -> Results:
    """New hosts connect and stay, the first ones one after the other; each has an answer."""
    times = []

    async def connect(node: Node) -> None:
        await node.connect(bed.address)
        await replace(bed, client=node).exchange()

    async with AsyncExitStack() as stack:
        before = bed.server.rss_mb()
        for _ in range(DIALS):
            node = await stack.enter_async_context(bed.open_node())
            begun = time.perf_counter()
            await connect(node)
            times.append(time.perf_counter() - begun)
        nodes = [await stack.enter_async_context(bed.open_node()) for _ in range(CONNECTIONS - DIALS)]
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(connect, node)
        memory = bed.server.rss_mb() - before
    return {"dial_p50_ms": statistics.median(times) * 1e3, "connection_kib": memory / CONNECTIONS * 1024}
