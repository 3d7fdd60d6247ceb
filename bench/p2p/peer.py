"""One process of the bench.

python -m bench.p2p.peer serve STACK [THROUGH]          prints its address, ends when standard input does
python -m bench.p2p.peer relay STACK                    the same, as a relay
python -m bench.p2p.peer load STACK ADDRESS SERVER_PID BULK_PROTOCOL  prints figures as JSON
python -m bench.p2p.peer relayed STACK ADDRESS SERVER_PID
python -m bench.p2p.peer soak STACK ADDRESS SERVER_PID STREAMS
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import trio

from bench.nodes import Vitals
from bench.p2p.loads import run_loads, run_relayed
from bench.p2p.soak import soak
from bench.p2p.stack import OpenNode, Relay, opener, serve_all


async def serve(open_node: OpenNode, relay: Relay, through: str) -> None:
    async with open_node(relay=relay, through=through) as node:
        serve_all(node)
        print(node.address, flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())  # nothing is ever written to it


async def measure(open_node: OpenNode, mode: str, address: str, server: Vitals, argument: str) -> None:
    result: Mapping[str, Any]
    if mode == "soak":
        result = await soak(open_node, address, server, Vitals(os.getpid()), streams=int(argument))
    elif mode == "relayed":
        result = await run_relayed(open_node, address, server)
    else:
        result = await run_loads(open_node, address, server, bulk_protocol=argument)
    print(json.dumps(result))


def main() -> None:
    mode, stack, *rest = sys.argv[1:]
    if mode == "relay":
        trio.run(serve, opener(stack), "serve", "")
    elif mode == "serve":
        trio.run(serve, opener(stack), "use" if rest else "none", "".join(rest))
    else:
        address, pid, *argument = rest
        trio.run(measure, opener(stack), mode, address, Vitals(int(pid)), "".join(argument))


if __name__ == "__main__":
    main()
