"""Very many streams, some cancelled and some reset in the middle: nothing is lost, nothing corrupted, nothing left behind."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import trio

from bench.nodes import Vitals
from bench.p2p.stack import ECHO, TASKS, Node, OpenNode, read_all

WORKERS = 64
CANCELLED, RESET = 0.15, 0.10  # shares of all streams
CANCELLED_WITHIN_S = 0.004  # at some moment until then, mostly before the answer
SIZES = (0, 1, 100, 1000, 4000, 16_000, 100_000)  # bytes; below the window, so that one task can write and then read
STREAM_S = 60.0  # a stream that takes longer is lost
SETTLE_S = 20.0  # until the server has seen the last reset
WARM = 0.1  # of all streams run before memory is looked at: it grows to what the load needs, and no further


async def soak(open_node: OpenNode, address: str, server: Vitals, client: Vitals, *, streams: int) -> dict[str, Any]:
    """Counts of streams by how they ended, MB that each side grew by, tasks that the server has more than before."""
    found: Counter[str] = Counter()
    first = ""  # what went wrong first
    async with open_node() as node:
        await node.connect(address)
        await _run(node, address, int(streams * WARM), Counter())
        await trio.sleep(SETTLE_S / 10)
        tasks = await _tasks(node, address)
        memory = client.rss_mb(), server.rss_mb()
        begun = time.perf_counter()
        first = await _run(node, address, streams, found)
        wall_s = time.perf_counter() - begun
        with trio.move_on_after(SETTLE_S):
            while (tasks_left := await _tasks(node, address) - tasks) > 0:  # noqa: ASYNC110 - another process
                await trio.sleep(0.2)
        grown = client.rss_mb() - memory[0], server.rss_mb() - memory[1]
    return {
        "streams_s": streams / wall_s,
        **{kind: found[kind] for kind in ("whole", "cancelled", "reset", "lost", "corrupted")},
        "client_grown_mb": grown[0],
        "server_grown_mb": grown[1],
        "server_tasks_left": tasks_left,
        "first_failure": first,
    }


async def _run(node: Node, address: str, streams: int, found: Counter[str]) -> str:
    """Run them; what went wrong first, if anything."""
    failures: list[str] = []
    left = iter(range(streams))

    async def worker(seed: int) -> None:
        dice = random.Random(seed)
        for _ in left:
            try:
                with trio.fail_after(STREAM_S):
                    found[await _one(node, address, dice)] += 1
            except Exception as error:  # noqa: BLE001 - counted, and the first one told
                found["lost"] += 1
                failures.append(repr(error))

    async with trio.open_nursery() as nursery:
        for seed in range(WORKERS):
            nursery.start_soon(worker, seed)
    return failures[0] if failures else ""


async def _one(node: Node, address: str, dice: random.Random) -> str:
    """One stream; how it ended."""
    fate, data = dice.random(), dice.randbytes(dice.choice(SIZES))
    if fate < CANCELLED:
        with trio.move_on_after(dice.uniform(0, CANCELLED_WITHIN_S)) as scope:
            return await _exchange(node, address, data)
        assert scope.cancelled_caught
        return "cancelled"
    if fate < CANCELLED + RESET:
        stream = await node.open_stream(address, ECHO)
        await stream.send_all(data[: len(data) // 2])
        await stream.abort()
        return "reset"
    return await _exchange(node, address, data)


async def _exchange(node: Node, address: str, data: bytes) -> str:
    stream = await node.open_stream(address, ECHO)
    try:
        await stream.send_all(data)
        await stream.send_eof()
        back = await read_all(stream)
    except BaseException:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await stream.abort()
        raise
    await stream.finish()
    return "whole" if back == data else "corrupted"


async def _tasks(node: Node, address: str) -> int:
    """How many the server has."""
    stream = await node.open_stream(address, TASKS)
    await stream.send_eof()
    count = int(await read_all(stream))
    await stream.finish()
    return count
