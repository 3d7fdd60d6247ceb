"""Circuit relay v2 with js-libp2p: each as the relay, as the one who is reached through it, and as the one who reaches."""

from __future__ import annotations

import secrets
import socket
from contextlib import AsyncExitStack

import pytest
import trio
from libp2p.peer.id import ID

from aicn.p2p import dcutr
from aicn.p2p.host import Host
from tests.fakes.hosts import full_address, open_test_host, until
from tests.interop.js.conftest import StartJs
from tests.interop.js.exchange import Server, ask, sha256
from tests.interop.js.process import PROTOCOL, JsPeer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]  # the first one may have to install

SIZE = 30_000  # bytes each way: js relays end a circuit after 128 KiB
MUCH = 1 << 20  # ours have no limit


async def until_reserved(target: JsPeer) -> str:
    """The address of a js peer through its relay, once it has a place there."""
    with trio.fail_after(20):
        while not (circuits := [one for one in await target.call("addresses") if "/p2p-circuit" in one]):
            await trio.sleep(0.1)
    return str(circuits[0])


async def check_we_ask(host: Host, peer: str) -> None:
    data = secrets.token_bytes(SIZE)
    assert await ask(host, peer, "digest", data) == f"{sha256(data)}\n".encode() + data


async def check_js_asks(client: JsPeer, peer: str) -> None:
    result = await client.call("ask", peer=peer, line="digest", size=SIZE)
    assert (result["end"], result["digest"], result["received"]) == ("eof", result["sent"], result["sent"])


@pytest.mark.parametrize("private", [False, True], ids=["open", "psk"])
async def test_ours_behind_a_js_relay(start_js: StartJs, private: bool) -> None:
    psk = secrets.token_hex(32) if private else ""
    async with start_js(relay=True, psk=psk) as relay, start_js(circuit=True, listen=[], psk=psk) as client:
        async with open_test_host(listen=(), relays=(relay.address,), relay_client="on", psk=psk) as host:
            host.serve(PROTOCOL, Server())
            await until(lambda: ID.from_base58(relay.id) in host._relays.client.relays, seconds=20)
            circuit = f"{relay.address}/p2p-circuit"
            assert host.addresses() == (circuit,)
            await client.call("dial", address=f"{circuit}/p2p/{host.id}")
            identified = await client.event("identify", peer=host.id)
            assert PROTOCOL in identified["protocols"]
            await check_js_asks(client, host.id)
            await check_we_ask(host, client.id)  # it was dialled, and cannot be: over the circuit it came by
            assert [one["limited"] for one in await client.call("connections") if one["peer"] == host.id] == [True]


@pytest.mark.parametrize("private", [False, True], ids=["open", "psk"])
async def test_ours_reaches_a_js_peer_behind_a_js_relay(start_js: StartJs, private: bool) -> None:
    psk = secrets.token_hex(32) if private else ""
    async with start_js(relay=True, psk=psk) as relay:
        async with (
            start_js(circuit=True, listen=[f"{relay.address}/p2p-circuit"], psk=psk) as target,
            open_test_host(listen=(), relay_client="off", psk=psk) as host,
        ):
            host.serve(PROTOCOL, Server())
            await host.connect(await until_reserved(target))
            (address,) = [one.address for one in host.connections() if one.peer == target.id]
            assert "/p2p-circuit" in address
            await target.event("identify", peer=host.id)
            await check_we_ask(host, target.id)
            await check_js_asks(target, host.id)


@pytest.mark.parametrize("private", [False, True], ids=["open", "psk"])
async def test_our_relay_for_two_js_peers(start_js: StartJs, private: bool) -> None:
    psk = secrets.token_hex(32) if private else ""
    async with open_test_host(relay_service=True, psk=psk) as relay:
        through = f"{full_address(relay)}/p2p-circuit"
        async with (
            start_js(circuit=True, listen=[through], psk=psk) as target,
            start_js(circuit=True, listen=[], psk=psk) as client,
        ):
            assert await until_reserved(target) == f"{through}/p2p/{target.id}"
            await client.call("dial", address=f"{through}/p2p/{target.id}")
            await client.event("identify", peer=target.id)
            result = await client.call("ask", peer=target.id, line="digest", size=MUCH)
            assert (result["end"], result["digest"], result["received"]) == ("eof", result["sent"], result["sent"])
            hop = relay._relays.hop
            assert hop is not None
            assert hop.ledger.circuits == 1
            await client.call("hangUp", peer=target.id)
            await until(lambda: hop.ledger.circuits == 0, seconds=20)


async def test_our_relay_between_ours_and_js(start_js: StartJs) -> None:
    async with open_test_host(relay_service=True) as relay:
        through = f"{full_address(relay)}/p2p-circuit"
        async with (
            open_test_host(listen=(), relays=(full_address(relay),), relay_client="on") as host,
            start_js(circuit=True, listen=[through]) as js,
        ):
            host.serve(PROTOCOL, Server())
            await until(lambda: ID.from_base58(relay.id) in host._relays.client.relays, seconds=20)
            await js.call("dial", address=f"{through}/p2p/{host.id}")
            await check_js_asks(js, host.id)
            await check_we_ask(host, js.id)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("relayed_is", ["ours", "js"])
async def test_a_relayed_connection_becomes_a_direct_one(
    start_js: StartJs, monkeypatch: pytest.MonkeyPatch, relayed_is: str
) -> None:
    """DCUtR as far as loopback goes: who was reached through the relay dials the other, whose name both take for public."""
    monkeypatch.setattr(dcutr, "_GRACE_S", 0.1)  # before the relayed connection is given up
    port = free_port()
    announce, listen = [f"/dns4/localhost/tcp/{port}"], [f"/ip4/127.0.0.1/tcp/{port}"]
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(start_js(relay=True))
        through = f"{relay.address}/p2p-circuit"
        if relayed_is == "ours":
            js = await stack.enter_async_context(start_js(circuit=True, dcutr=True, listen=listen, announce=announce))
            host = await stack.enter_async_context(
                open_test_host(listen=(), relays=(relay.address,), relay_client="on")
            )
            await until(lambda: ID.from_base58(relay.id) in host._relays.client.relays, seconds=20)
            await js.call("dial", address=f"{through}/p2p/{host.id}")
        else:
            js = await stack.enter_async_context(start_js(circuit=True, dcutr=True, listen=[through]))
            host = await stack.enter_async_context(
                open_test_host(listen=tuple(listen), announce=tuple(announce), relay_client="off")
            )
            await host.connect(await until_reserved(js))
        host.serve(PROTOCOL, Server())

        def addresses() -> list[str]:
            return [one.address for one in host.connections() if one.peer == js.id]

        await until(lambda: bool(addresses()) and not any("/p2p-circuit" in one for one in addresses()), seconds=30)
        with trio.fail_after(20):  # until js has noticed
            while [one["limited"] for one in await js.call("connections") if one["peer"] == host.id] != [False]:
                await trio.sleep(0.1)
        await check_js_asks(js, host.id)
        await check_we_ask(host, js.id)
