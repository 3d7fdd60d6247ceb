"""Port mapping: against a router that speaks UPnP over HTTP, and against ones that misbehave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trio
import trio.testing
from multiaddr import Multiaddr

from aicn.p2p import upnp
from aicn.p2p.upnp import LEASE_S, Gateway, Igd, PortMapping
from tests.fakes.hosts import until

WAN = "urn:schemas-upnp-org:service:WANIPConnection:1"
DESCRIPTION = f"""<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><URLBase>http://127.0.0.1:PORT</URLBase><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType><controlURL>/common</controlURL></service></serviceList>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
<serviceType>{WAN}</serviceType><controlURL>/wan</controlURL></service></serviceList></device></deviceList>
</device></deviceList></device></root>"""
ANSWERS = {
    "GetStatusInfo": "<NewConnectionStatus>Connected</NewConnectionStatus><NewLastConnectionError/><NewUptime>5</NewUptime>",
    "GetExternalIPAddress": "<NewExternalIPAddress>8.8.4.4</NewExternalIPAddress>",
}


class Router(BaseHTTPRequestHandler):
    """What of UPnP a router needs, and what it was asked."""

    said: list[tuple[str, str]]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(DESCRIPTION.replace("PORT", str(self.server.server_address[1])))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        action = self.headers["SOAPAction"].strip('"').split("#")[1]
        self.said.append((action, body))
        self._answer(
            '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
            f'<u:{action}Response xmlns:u="{WAN}">{ANSWERS.get(action, "")}</u:{action}Response></s:Body></s:Envelope>'
        )

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@contextmanager
def a_router() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The URL of its description, and what it is asked."""
    said: list[tuple[str, str]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ThisRouter", (Router,), {"said": said}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/root.xml", said
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_real_exchange() -> None:
    with a_router() as (url, said):
        mapping = PortMapping(lambda: [6001], lambda: None, find=lambda: Igd(url))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mapping.run)
            await until(mapping.addresses)
            assert mapping.addresses() == [Multiaddr("/ip4/8.8.4.4/tcp/6001")]
            nursery.cancel_scope.cancel()
    requests = dict(said)
    for part in (
        "<NewExternalPort>6001<",
        "<NewInternalPort>6001<",
        f"<NewLeaseDuration>{LEASE_S}<",
        "<NewProtocol>TCP<",
    ):
        assert part in requests["AddPortMapping"]
    assert "<NewExternalPort>6001<" in requests["DeletePortMapping"]


def test_no_router() -> None:
    with pytest.raises(OSError, match=r".+"):
        Igd("http://127.0.0.1:1/root.xml")


class FakeGateway:
    """A router in this process. `taken`: ports that it has given to others."""

    def __init__(self, *, ip: str = "8.8.4.4", taken: tuple[int, ...] = (), hangs: bool = False) -> None:
        self.ip = ip
        self.taken = taken
        self.mapped: dict[int, int] = {}
        self.added = 0
        self.hang = threading.Event()
        if not hangs:
            self.hang.set()

    def external_ip(self) -> str:
        return self.ip

    def add(self, port: int, external: int, lease_s: int) -> None:
        self.hang.wait(30)
        if external in self.taken:
            raise OSError("ConflictInMappingEntry")
        assert lease_s == LEASE_S
        self.added += 1
        self.mapped[external] = port

    def remove(self, external: int) -> None:
        del self.mapped[external]


async def test_mappings_are_renewed_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upnp, "RENEW_S", 0.02)
    gateway, changes = FakeGateway(), []
    mapping = PortMapping(lambda: [6001, 6002], lambda: changes.append(1), find=lambda: gateway)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mapping.run)
        await until(lambda: gateway.added >= 6)
        assert gateway.mapped == {6001: 6001, 6002: 6002}
        nursery.cancel_scope.cancel()
    assert gateway.mapped == {}
    assert len(changes) == 1


async def test_a_port_that_is_taken_is_replaced_by_another() -> None:
    gateway = FakeGateway(taken=(6001,))
    mapping = PortMapping(lambda: [6001], lambda: None, find=lambda: gateway)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mapping.run)
        await until(mapping.addresses)
        ((external, own),) = gateway.mapped.items()
        assert (own, external) != (6001, 6001)
        assert mapping.addresses() == [Multiaddr(f"/ip4/8.8.4.4/tcp/{external}")]
        nursery.cancel_scope.cancel()


async def test_a_router_behind_another_gives_no_address() -> None:
    gateway = FakeGateway(ip="192.168.0.1")
    mapping = PortMapping(lambda: [6001], lambda: None, find=lambda: gateway)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mapping.run)
        await until(lambda: gateway.mapped)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert mapping.addresses() == []
        nursery.cancel_scope.cancel()


async def test_a_router_that_does_not_answer_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upnp, "_CALL_S", 0.1)
    gateway = FakeGateway(hangs=True)
    mapping = PortMapping(lambda: [6001], lambda: None, find=lambda: gateway)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mapping.run)
            await trio.sleep(0.2)
            assert mapping.addresses() == []
            nursery.cancel_scope.cancel()
    gateway.hang.set()


async def test_another_router_is_looked_for_when_one_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upnp, "RETRY_S", 0.02)
    gateway, looks = FakeGateway(), []

    def find() -> Gateway:
        looks.append(1)
        if len(looks) < 3:
            raise OSError("no router")
        return gateway

    mapping = PortMapping(lambda: [6001], lambda: None, find=find)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mapping.run)
        await until(mapping.addresses)
        nursery.cancel_scope.cancel()


async def test_no_port_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upnp, "RETRY_S", 0.01)
    looks: list[int] = []

    def find() -> Gateway:
        looks.append(1)
        raise OSError("no router")

    mapping = PortMapping(list, lambda: None, find=find)
    with trio.move_on_after(0.1):
        await mapping.run()
    assert looks == []
