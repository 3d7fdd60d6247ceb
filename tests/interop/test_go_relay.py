"""Circuit relay v2 (libp2p spec, relay/circuit-v2.md) between our host and go-libp2p: every part of it played by either."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from libp2p.peer.id import ID

from aicn.errors import AicnError
from aicn.p2p.host import Host
from tests.fakes.hosts import full_address, open_test_host, until
from tests.interop.exchanges import SINK, Exchanges
from tests.interop.gopeer import GoError, GoPeer, open_go_peer
from tests.interop.pairs import Side

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

PSK = secrets.token_hex(32)
MB = 1 << 20
SOON_S = 30  # until what happens by itself is seen, on a loaded machine

private_or_not = pytest.mark.parametrize("psk", ["", PSK], ids=["open", "private"])


@dataclass
class Ours:
    """Our host, with the little that both kinds of peer can be asked for."""

    host: Host
    exchanges: Exchanges

    @property
    def id(self) -> str:
        return self.host.id

    async def connect(self, address: str) -> None:
        await self.host.connect(address)

    async def upload(self, to: str, size: int) -> None:
        await self.exchanges.upload(to, size)

    async def remote_addresses(self, peer: str) -> list[str]:
        return [one.address for one in self.host.connections() if one.peer == peer]


@dataclass
class Go:
    """The same of the Go peer."""

    peer: GoPeer

    @property
    def id(self) -> str:
        return self.peer.id

    async def connect(self, address: str) -> None:
        await self.peer("connect", address=address)

    async def upload(self, to: str, size: int) -> None:
        await self.peer("upload", peer=to, protocol=SINK, size=size)

    async def remote_addresses(self, peer: str) -> list[str]:
        return [one["address"] for one in (await self.peer("peer", peer=peer))["connections"]]


class World:
    """Peers of one network, ours and Go's, that live as long as the test."""

    def __init__(self, program: Path, stack: AsyncExitStack, psk: str) -> None:
        self._program = program
        self._stack = stack
        self._psk = psk

    async def relay(self, side: Side, *flags: str) -> str:
        """A relay without limits, unless flags say otherwise; its address."""
        if side == "ours":
            return full_address(await self.host(relay_service=True))
        return (await self.go(*(flags or ("-relay", "unlimited")))).address

    async def hidden(self, side: Side, relay: str) -> Ours | Go:
        """A peer that listens nowhere and has a place with the relay."""
        if side == "ours":
            host = await self.host(listen=(), relays=(relay,), relay_client="on")
            await until(lambda: ID.from_base58(_id_in(relay)) in host._relays.client.relays, seconds=SOON_S)
            return Ours(host, Exchanges(host))
        go = await self.go("-listen", "")
        await go("connect", address=relay)
        reservation = await go("reserve", address=relay)
        assert (reservation["limit_bytes"], reservation["limit_duration_s"]) == (0, 0)
        return Go(go)

    async def dialler(self, side: Side) -> Ours | Go:
        """A peer that listens nowhere and knows nobody."""
        if side == "ours":
            host = await self.host(listen=(), relay_client="off")
            return Ours(host, Exchanges(host))
        return Go(await self.go("-listen", ""))

    async def host(self, **changes: Any) -> Host:
        return await self._stack.enter_async_context(open_test_host(psk=self._psk, **changes))

    async def go(self, *flags: str) -> GoPeer:
        flags = (*flags, "-psk", self._psk) if self._psk else flags
        return await self._stack.enter_async_context(open_go_peer(self._program, *flags))


@asynccontextmanager
async def open_world(program: Path, psk: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(program, stack, psk)


def _id_in(address: str) -> str:
    return address.rpartition("/")[2]


def circuit(relay: str, target: str) -> str:
    return f"{relay}/p2p-circuit/p2p/{target}"


# who the relay is, who has a place with it, who dials; those without Go are for tests/flow/test_relay.py
PARTS: list[tuple[Side, Side, Side]] = [
    ("go", "ours", "ours"),
    ("go", "ours", "go"),
    ("go", "go", "ours"),
    ("ours", "ours", "go"),
    ("ours", "go", "ours"),
    ("ours", "go", "go"),
]


@private_or_not
@pytest.mark.parametrize("parts", PARTS, ids=["-".join(parts) for parts in PARTS])
async def test_peers_reach_each_other_through_a_relay(
    go_program: Path, parts: tuple[Side, Side, Side], psk: str
) -> None:
    async with open_world(go_program, psk) as world:
        relay = await world.relay(parts[0])
        target, dialler = await world.hidden(parts[1], relay), await world.dialler(parts[2])
        await dialler.connect(circuit(relay, target.id))
        await dialler.upload(target.id, 3 * MB)
        await target.upload(dialler.id, 3 * MB)
        for one, other in ((dialler, target), (target, dialler)):
            (address,) = await one.remote_addresses(other.id)
            assert f"/p2p/{_id_in(relay)}/p2p-circuit" in address


@private_or_not
async def test_a_hundred_streams_through_a_relay(go_program: Path, psk: str) -> None:
    async with open_world(go_program, psk) as world:
        relay = await world.relay("ours")
        target, dialler = await world.hidden("ours", relay), await world.dialler("go")
        assert isinstance(target, Ours)
        assert isinstance(dialler, Go)
        await dialler.connect(circuit(relay, target.id))
        await dialler.peer("echo", peer=target.id, count=100, size=10_000)
        await target.exchanges.echo(dialler.id, count=100, size=10_000)


async def test_a_go_relay_with_limits(go_program: Path) -> None:
    """Go's default: 128 KiB each way in two minutes. What is allowed to go over it does."""
    async with open_world(go_program, PSK) as world:
        relay = await world.relay("go", "-relay", "limited")
        target, dialler = await world.hidden("ours", relay), await world.dialler("go")
        assert isinstance(target, Ours)
        assert isinstance(dialler, Go)
        await dialler.connect(circuit(relay, target.id))
        assert (await dialler.peer("peer", peer=target.id))["connections"][0]["limited"]
        with pytest.raises(GoError):  # it waits for a direct connection, unless it says that it knows of the limit
            await dialler.peer("upload", peer=target.id, protocol=SINK, size=1, timeout_s=1)
        await dialler.peer("upload", peer=target.id, protocol=SINK, size=60_000, limited=True)
        await target.exchanges.ping(dialler.id, 2)
        with pytest.raises(GoError, match="reset"):
            await dialler.peer("upload", peer=target.id, protocol=SINK, size=MB, limited=True)


async def test_our_relay_with_limits_is_one_for_go(go_program: Path) -> None:
    async with open_world(go_program, PSK) as world:
        relay = full_address(await world.host(relay_service=True, relay_circuit_s=60.0, relay_circuit_bytes=200_000))
        target, dialler = await world.hidden("ours", relay), await world.dialler("go")
        assert isinstance(dialler, Go)
        await dialler.connect(circuit(relay, target.id))
        assert (await dialler.peer("peer", peer=target.id))["connections"][0]["limited"]
        await dialler.peer("upload", peer=target.id, protocol=SINK, size=60_000, limited=True)


async def test_without_a_place_there_is_no_circuit(go_program: Path) -> None:
    async with open_world(go_program, PSK) as world:
        for side in ("ours", "go"):
            relay = await world.relay(side)
            stranger, dialler = await world.dialler("go"), await world.dialler("ours")
            await stranger.connect(relay)
            with pytest.raises(AicnError):
                await dialler.connect(circuit(relay, stranger.id))
            go = await world.dialler("go")
            with pytest.raises(GoError, match="NO_RESERVATION"):
                await go.connect(circuit(relay, dialler.id))
