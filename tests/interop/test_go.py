"""Our host and go-libp2p in both directions: connections, streams, identify, ping; once per version of the Go libraries."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path

import pytest
import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.domain.nodes import Connectivity
from aicn.errors import DeadlineExceeded, Unreachable, Unsupported
from tests.fakes.hosts import echo, full_address, open_test_host, until
from tests.interop.exchanges import LAZY, LAZY_S, PING, SINK, WATCH, Exchanges
from tests.interop.gopeer import GoError, open_go_peer
from tests.interop.pairs import Side, open_pair

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

PSK = secrets.token_hex(32)
MB = 1 << 20
SOON_S = 30  # until what happens by itself is seen, on a loaded machine

both_sides_dial = pytest.mark.parametrize("dialler", ["ours", "go"])


# ---- connections ----


@both_sides_dial
@pytest.mark.parametrize("psk", ["", PSK], ids=["open", "private"])
@pytest.mark.parametrize("security", ["noise", "tls", "default"])
async def test_every_security(go_program: Path, security: str, psk: str, dialler: Side) -> None:
    flags = ["-security", security, *(["-psk", psk] if psk else [])]
    async with open_pair(go_program, *flags, dialler=dialler, psk=psk) as pair:
        await pair.ours.upload(pair.go.id, 100_000)
        await pair.go("upload", peer=pair.host.id, protocol=SINK, size=100_000)
        (seen,) = (await pair.go("peer", peer=pair.host.id))["connections"]
        # Go offers tls first, and our host serves both; our host offers noise first
        expected = security if security != "default" else {"ours": "noise", "go": "tls"}[dialler]
        assert {"noise": "/noise", "tls": "/tls/1.0.0"}[expected] == seen["security"]
        assert seen["muxer"] == "/yamux/1.0.0"
        assert seen["direction"] == {"ours": "Inbound", "go": "Outbound"}[dialler]


@both_sides_dial
@pytest.mark.parametrize("keys", [(PSK, ""), ("", PSK), (PSK, secrets.token_hex(32))], ids=["ours", "go", "different"])
async def test_another_private_network_is_refused(go_program: Path, keys: tuple[str, str], dialler: Side) -> None:
    flags = ["-psk", keys[1]] if keys[1] else []
    with pytest.raises((Unreachable, DeadlineExceeded, GoError)):  # who hears junk may also wait for more of it
        async with open_pair(go_program, *flags, dialler=dialler, psk=keys[0]):
            pytest.fail("connected")


async def test_another_peer_than_named_is_refused(go_program: Path) -> None:
    async with open_go_peer(go_program) as go, open_go_peer(go_program) as other, open_test_host() as host:
        with pytest.raises(Unreachable):
            await host.connect(f"{go.address.rpartition('/')[0]}/{other.id}")
        with pytest.raises(GoError, match="peer id mismatch"):
            await go("connect", address=f"{full_address(host).rpartition('/')[0]}/{other.id}")
        assert await host.connect(go.address) == go.id


async def test_both_dial_at_once(go_program: Path) -> None:
    async with open_go_peer(go_program) as go, open_test_host() as host:
        ours = Exchanges(host)

        async def go_dials() -> None:
            await go("connect", address=full_address(host))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.connect, go.address)
            nursery.start_soon(go_dials)
        await ours.upload(go.id, MB)
        await go("upload", peer=host.id, protocol=SINK, size=MB)
        assert 1 <= len(host.connections()) <= 2  # both may have come to be; then both stay


async def test_a_peer_is_disconnected_until_it_dials(go_program: Path) -> None:
    async with open_pair(go_program) as pair:
        link = await pair.host.links.measure(pair.go.id)
        assert link.connectivity is Connectivity.CONNECTED
        assert 0 < link.rtt < 5
        await pair.host.disconnect(pair.go.address)
        await pair.go.event("disconnected", peer=pair.host.id)
        with pytest.raises(Unreachable, match="disconnected by hand"):
            await pair.host.open_stream(pair.go.id, SINK)
        await pair.go("connect", address=full_address(pair.host))
        await pair.ours.upload(pair.go.id, 1000)


# ---- streams ----


@both_sides_dial
async def test_ten_megabytes_arrive(go_program: Path, dialler: Side) -> None:
    async with open_pair(go_program, dialler=dialler) as pair:
        await pair.ours.upload(pair.go.id, 10 * MB)
        await pair.ours.download(pair.go.id, 10 * MB)
        await pair.go("upload", peer=pair.host.id, protocol=SINK, size=10 * MB)
        await pair.go("download", peer=pair.host.id, size=10 * MB)


@both_sides_dial
async def test_a_hundred_streams_at_once(go_program: Path, dialler: Side) -> None:
    async with open_pair(go_program, dialler=dialler) as pair:
        await pair.ours.echo(pair.go.id, count=100, size=100_000)
        await pair.go("echo", peer=pair.host.id, count=100, size=100_000)
        async with trio.open_nursery() as nursery:  # and both at once
            nursery.start_soon(partial(pair.ours.echo, pair.go.id, count=100, size=20_000))
            nursery.start_soon(partial(pair.go, "echo", peer=pair.host.id, count=100, size=20_000))


async def test_streams_within_go_s_own_limits(go_program: Path) -> None:
    async with open_pair(go_program, "-resource-limits") as pair:
        await pair.ours.echo(pair.go.id, count=60, size=1000)  # it resets what goes much beyond that, by default


async def test_a_reset_is_seen_as_one(go_program: Path) -> None:
    async with open_pair(go_program) as pair:
        assert await pair.ours.ask_for_reset(pair.go.id) == (b"part", "reset")
        assert await pair.go("ask-for-reset", peer=pair.host.id) == {"part": "part", "end": "reset"}

        await pair.ours.leave(pair.go.id, 5000, how="abandon")
        assert (await pair.go.event("watched"))["end"] == "reset"
        await pair.ours.leave(pair.go.id, 5000, how="finish")
        assert (await pair.go.event("watched")).items() >= {"end": "end", "size": 5000}.items()

        await pair.go("abandon", peer=pair.host.id, size=5000)
        assert (await pair.ours.ending())[1] == "reset"
        await pair.go("finish", peer=pair.host.id, size=5000)
        assert await pair.ours.ending() == (5000, "end")


async def test_a_protocol_that_is_not_spoken(go_program: Path) -> None:
    async with open_pair(go_program) as pair:
        stream = await pair.host.open_stream(pair.go.id, "/interop/nothing/1")
        with pytest.raises(Unsupported):
            await stream.receive_some()
        with pytest.raises(GoError, match=r"protocols? not supported"):
            await pair.go("upload", peer=pair.host.id, protocol="/interop/nothing/1", size=1)
        await pair.ours.upload(pair.go.id, 1000)


async def test_a_slow_reader_breaks_nothing(go_program: Path) -> None:
    size = 3 * MB  # more than any window
    async with open_pair(go_program) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.ours.upload, pair.go.id, size, LAZY)
        nursery.start_soon(partial(pair.ours.download, pair.go.id, size, pause_s=LAZY_S))
        nursery.start_soon(partial(pair.go, "upload", peer=pair.host.id, protocol=LAZY, size=size))
        nursery.start_soon(partial(pair.go, "download", peer=pair.host.id, size=size, pause_ms=int(LAZY_S * 1000)))
        await pair.ours.echo(pair.go.id, count=10, size=10_000)  # meanwhile others go on


# ---- identify and ping ----


@both_sides_dial
async def test_identify_tells_each_side_of_the_other(go_program: Path, dialler: Side) -> None:
    async with open_pair(go_program, dialler=dialler) as pair:
        # its identify runs beside our connection
        seen = await pair.go.until(lambda seen: seen["agent"] is not None, "peer", peer=pair.host.id)
        assert (seen["agent"], seen["protocol_version"]) == ("aicn/test", "aicn/0.0.1")
        assert set(pair.host.protocols) <= set(seen["protocols"])
        assert set(pair.host.addresses()) <= set(seen["addresses"])

        told = await pair.ours.identify(pair.go.id)
        assert (told.agent_version, told.protocol_version) == ("gopeer/1", "aicn/0.0.1")
        assert {WATCH, PING} <= set(told.protocols)
        assert pair.go.address.startswith(str(Multiaddr(told.listen_addrs[0])))
        if dialler == "go":
            assert full_address(pair.host).startswith(str(Multiaddr(told.observed_addr)))

        go_id = ID.from_base58(pair.go.id)
        await until(lambda: WATCH in pair.host._book.get_protocols(go_id), seconds=SOON_S)
        assert pair.go.address.startswith(tuple(map(str, pair.host._book.known(go_id))))


async def test_go_pushes_what_it_serves_anew(go_program: Path) -> None:
    async with open_pair(go_program) as pair:
        go_id = ID.from_base58(pair.go.id)
        await until(lambda: WATCH in pair.host._book.get_protocols(go_id), seconds=SOON_S)
        await pair.go("serve", protocol="/interop/late/1")
        await until(lambda: "/interop/late/1" in pair.host._book.get_protocols(go_id), seconds=SOON_S)


async def test_we_push_what_we_serve_anew(go_program: Path) -> None:
    async with open_pair(go_program) as pair:
        await pair.go.until(lambda seen: WATCH in seen["protocols"], "peer", peer=pair.host.id)
        pair.host.serve("/interop/late/1", echo)
        await pair.go.until(lambda seen: "/interop/late/1" in seen["protocols"], "peer", peer=pair.host.id)


@both_sides_dial
async def test_ping(go_program: Path, dialler: Side) -> None:
    async with open_pair(go_program, dialler=dialler) as pair:
        await pair.ours.ping(pair.go.id, 5)
        trips = await pair.go("ping", peer=pair.host.id, count=5)
        assert len(trips) == 5
        assert all(0 < trip < SOON_S for trip in trips)
