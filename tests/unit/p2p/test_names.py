"""Names in addresses, by a scripted resolver."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import trio
from multiaddr import Multiaddr

from aicn.errors import Unreachable
from aicn.p2p import names
from aicn.p2p.names import is_name, resolve

ANSWERS = {socket.AF_INET: ["192.0.2.1", "192.0.2.2", "192.0.2.1"], socket.AF_INET6: ["2001:db8::1"]}


def answer(host: str, port: int, family: int, kind: int) -> list[Any]:
    assert (host, kind) == ("node.example", socket.SOCK_STREAM)
    families = [one for one in ANSWERS if family in (one, socket.AF_UNSPEC)]
    return [(one, kind, 6, "", (ip, port)) for one in families for ip in ANSWERS[one]]


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("dns4", ["/ip4/192.0.2.1/tcp/7", "/ip4/192.0.2.2/tcp/7"]),
        ("dns6", ["/ip6/2001:db8::1/tcp/7"]),
        ("dns", ["/ip4/192.0.2.1/tcp/7", "/ip4/192.0.2.2/tcp/7", "/ip6/2001:db8::1/tcp/7"]),
    ],
)
async def test_the_family_that_is_asked_for(monkeypatch: pytest.MonkeyPatch, family: str, expected: list[str]) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answer)
    address = Multiaddr(f"/{family}/node.example/tcp/7")
    assert is_name(address)
    assert [str(one) for one in await resolve(address)] == expected


def test_an_ip_address_is_no_name() -> None:
    assert not is_name(Multiaddr("/ip4/192.0.2.1/tcp/7"))


def test_a_circuit_is_no_name() -> None:
    relay = "16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq"
    assert not is_name(Multiaddr(f"/dns4/node.example/tcp/7/p2p/{relay}/p2p-circuit"))


async def test_localhost_by_the_system() -> None:
    assert await resolve(Multiaddr("/dns4/localhost/tcp/7")) == [Multiaddr("/ip4/127.0.0.1/tcp/7")]


async def test_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(Unreachable, match=r"node\.example is not known: Name or service"):
        await resolve(Multiaddr("/dns/node.example/tcp/7"))


async def test_a_silent_resolver_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: go.wait(20) and [])
    monkeypatch.setattr(names, "RESOLVE_S", 0.05)
    with trio.fail_after(10), pytest.raises(Unreachable, match="not resolved within"):
        await resolve(Multiaddr("/dns/node.example/tcp/7"))
    go.set()
