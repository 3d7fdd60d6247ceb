"""js-libp2p peers and ours: security, private network, identify, ping, and noticing that the other is gone."""

from __future__ import annotations

import secrets
import signal

import pytest
import trio
from libp2p.peer.id import ID

from aicn.domain.ids import PeerId
from aicn.errors import AicnError
from aicn.p2p.host import Host
from tests.fakes.hosts import echo, full_address, open_test_host, until
from tests.interop.js.conftest import StartJs
from tests.interop.js.process import PROTOCOL, JsError, JsPeer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]  # the first one may have to install

PING = "/ipfs/ping/1.0.0"
DIALLERS = pytest.mark.parametrize("dialler", ["js", "ours"])


async def connect(host: Host, js: JsPeer, dialler: str) -> None:
    """A connection between the two, and identify done at both ends."""
    if dialler == "js":
        await js.call("dial", address=full_address(host))
    else:
        await host.connect(js.address)
    await js.event("identify", peer=host.id)
    await until(lambda: ID.from_base58(js.id) in host._identify.known, seconds=20)


@DIALLERS
@pytest.mark.parametrize(
    ("security", "key"), [("noise", "secp256k1"), ("noise", "Ed25519"), ("tls", "secp256k1"), ("tls", "Ed25519")]
)
async def test_a_connection(start_js: StartJs, security: str, key: str, dialler: str) -> None:
    async with start_js(security=security, key=key) as js, open_test_host() as host:
        await connect(host, js, dialler)
        (connection,) = host.connections()
        assert connection.peer == js.id
        assert [one["peer"] for one in await js.call("connections")] == [host.id]
        assert await js.call("ping", peer=host.id) < 20_000
        result = await js.call("connections")
        assert result[0]["encryption"] == {"noise": "/noise", "tls": "/tls/1.0.0"}[security]
        assert result[0]["multiplexer"] == "/yamux/1.0.0"


@DIALLERS
async def test_a_private_network(start_js: StartJs, dialler: str) -> None:
    psk = secrets.token_hex(32)
    async with start_js(psk=psk) as js, open_test_host(psk=psk) as host:
        await connect(host, js, dialler)
        assert (await js.call("ask", peer=host.id, protocol=PING, line="x" * 31))["end"] == "eof"


@pytest.mark.parametrize("js_has_one", [True, False])
async def test_another_private_network_is_refused(start_js: StartJs, js_has_one: bool) -> None:
    psk = {"psk": secrets.token_hex(32)} if js_has_one else {}
    async with start_js(**psk) as js, open_test_host(psk=secrets.token_hex(32)) as host:

        async def js_dials() -> None:
            with pytest.raises(JsError, match="Error"):
                await js.call("dial", address=full_address(host))

        async def we_dial() -> None:
            with pytest.raises(AicnError):
                await host.connect(js.address)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(js_dials)
                nursery.start_soon(we_dial)
        assert not host.connections()
        assert await js.call("connections") == []


@DIALLERS
async def test_identify(start_js: StartJs, dialler: str) -> None:
    async with start_js() as js, open_test_host() as host:
        await connect(host, js, dialler)
        told = await js.event("identify", peer=host.id)
        assert (told["agent"], told["version"]) == ("aicn/test", "aicn/0.0.1")
        assert set(told["protocols"]) == set(host.protocols)
        assert [address.split("/p2p/")[0] for address in told["addresses"]] == list(host.addresses())
        assert told["observed"].startswith("/ip4/127.0.0.1/tcp/")
        assert told["signed"]
        info = host.peer_info(PeerId(js.id))
        assert info is not None
        assert (info.agent_version, info.protocol_version) == ("js-interop/1", "ipfs/0.1.0")
        assert {PROTOCOL, PING} <= set(info.protocols)
        known = [str(one) for one in host._swarm.candidates(ID.from_base58(js.id))]
        assert js.address.removesuffix(f"/p2p/{js.id}") in known


async def test_identify_push_of_js(start_js: StartJs) -> None:
    async with start_js() as js, open_test_host() as host:
        await connect(host, js, "ours")
        await js.call("serve", protocol="/late/1")
        await until(lambda: "/late/1" in host._book.get_protocols(ID.from_base58(js.id)), seconds=20)


async def test_identify_push_of_ours(start_js: StartJs) -> None:
    async with start_js() as js, open_test_host() as host:
        await connect(host, js, "js")
        assert "/late/1" not in await js.call("known", peer=host.id)
        host.serve("/late/1", echo)
        with trio.fail_after(20):
            while "/late/1" not in await js.call("known", peer=host.id):
                await trio.sleep(0.1)


async def test_concurrent_pings(start_js: StartJs) -> None:
    async with start_js() as js, start_js() as other, open_test_host() as host:
        await connect(host, js, "ours")
        await connect(host, other, "js")

        async def ping() -> None:
            stream = await host.open_stream(js.id, PING)
            for _ in range(20):
                payload = secrets.token_bytes(32)
                await stream.send_all(payload)
                answer = b""
                while len(answer) < 32:
                    answer += await stream.receive_some()
                assert answer == payload
            await stream.finish()

        async def pinged(peer: JsPeer) -> None:
            for _ in range(20):
                assert await peer.call("ping", peer=host.id) < 20_000

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(2):  # as many as js serves at a time
                    nursery.start_soon(ping)
                nursery.start_soon(pinged, js)
                nursery.start_soon(pinged, other)


async def test_frozen_peers_are_dropped(start_js: StartJs) -> None:
    async with start_js() as js, start_js() as other, open_test_host() as host:
        await connect(host, js, "js")
        await connect(host, other, "ours")
        for peer in (js, other):
            peer.process.send_signal(signal.SIGSTOP)
        frozen = trio.current_time()
        await until(lambda: not host.connections(), seconds=60)
        assert trio.current_time() - frozen < 40  # 15 to 20 where nothing else runs


@DIALLERS
async def test_a_killed_peer_is_noticed(start_js: StartJs, dialler: str) -> None:
    async with start_js() as js, open_test_host() as host:
        await connect(host, js, dialler)
        js.process.kill()
        await until(lambda: not host.connections(), seconds=10)


@DIALLERS
async def test_a_peer_that_hangs_up_may_come_back(start_js: StartJs, dialler: str) -> None:
    async with start_js() as js, open_test_host() as host:
        for _ in range(2):
            await connect(host, js, dialler)
            await js.call("hangUp", peer=host.id)
            await until(lambda: not host.connections(), seconds=10)
            assert await js.call("connections") == []
        await connect(host, js, dialler)
        for connection in host._swarm.open_connections():
            await connection.close()
        await js.event("peer:disconnect", peer=host.id)
