"""Our host connected to a Go peer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aicn.p2p.host import Host
from tests.fakes.hosts import full_address, open_test_host
from tests.interop.exchanges import Exchanges
from tests.interop.gopeer import GoPeer, open_go_peer

Side = Literal["ours", "go"]


@dataclass
class Pair:
    host: Host
    go: GoPeer
    ours: Exchanges


@asynccontextmanager
async def open_pair(program: Path, *flags: str, dialler: Side = "ours", **changes: object) -> AsyncIterator[Pair]:
    """Our host, with `changes` of its configuration, and a Go peer with `flags`; one has dialled the other."""
    async with open_go_peer(program, *flags) as go, open_test_host(**changes) as host:
        pair = Pair(host, go, Exchanges(host))
        if dialler == "ours":
            await host.connect(go.address)
        else:
            await go("connect", address=full_address(host))
        yield pair
