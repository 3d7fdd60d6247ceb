"""Which of the addresses that peers report are believed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from multiaddr import Multiaddr

from aicn.p2p.observed import REMEMBERED_S, ObservedAddresses

LISTENING = [Multiaddr("/ip4/192.168.0.5/tcp/6001"), Multiaddr("/ip6/fd00::5/tcp/6001")]
SEEN = "/ip4/8.8.4.4/tcp/7777"


class Connections:
    def __init__(self) -> None:
        self.count = 0

    def new(self, remote: str = "/ip4/1.1.1.1/tcp/1", local: str = "/ip4/192.168.0.5/tcp/6001") -> Any:
        self.count += 1
        return SimpleNamespace(
            number=self.count, remote=Multiaddr(remote), local=Multiaddr(local), is_closed=False, relayed=False
        )


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(time=0.0)
    monkeypatch.setattr("trio.current_time", lambda: clock.time)
    return clock


pytestmark = pytest.mark.usefixtures("now")


def four(observed: ObservedAddresses, seen: str, *remotes: str) -> None:
    made = Connections()
    for remote in remotes or [f"/ip4/1.1.1.{number}/tcp/1" for number in range(4)]:
        observed.record(made.new(remote), Multiaddr(seen), trusted=False)


def test_four_peers_with_different_addresses_are_believed() -> None:
    observed, made = ObservedAddresses(lambda: LISTENING), Connections()
    for number in range(4):
        assert observed.confirmed() == []
        observed.record(made.new(f"/ip4/1.1.1.{number}/tcp/1"), Multiaddr(SEEN), trusted=False)
    assert observed.confirmed() == [Multiaddr(SEEN)]


def test_one_observer_counts_once_however_many_connections_it_has() -> None:
    observed = ObservedAddresses(lambda: LISTENING)
    four(observed, SEEN, *["/ip4/1.1.1.1/tcp/1"] * 9)
    assert observed.confirmed() == []
    assert observed.reported() == [Multiaddr(SEEN)]


def test_the_addresses_of_one_ipv6_customer_are_one_observer() -> None:
    observed = ObservedAddresses(lambda: LISTENING)
    four(observed, SEEN, *[f"/ip6/2001:4860:0:1{number}::1/tcp/1" for number in range(9)])
    assert observed.confirmed() == []


def test_a_configured_peer_is_believed_alone() -> None:
    observed = ObservedAddresses(lambda: LISTENING)
    observed.record(Connections().new(), Multiaddr(SEEN), trusted=True)
    assert observed.confirmed() == [Multiaddr(SEEN)]


def test_the_port_of_a_connection_from_another_port_is_not_taken() -> None:
    observed = ObservedAddresses(lambda: LISTENING)
    elsewhere = Connections().new(local="/ip4/192.168.0.5/tcp/50123")
    observed.record(elsewhere, Multiaddr(SEEN), trusted=True)
    assert observed.confirmed() == [Multiaddr("/ip4/8.8.4.4/tcp/6001")]


def test_a_peer_may_change_its_mind() -> None:
    observed, connection = ObservedAddresses(lambda: LISTENING), Connections().new()
    for port in range(1, 100):
        observed.record(connection, Multiaddr(f"/ip4/8.8.4.4/tcp/{port}"), trusted=True)
    assert observed.confirmed() == [Multiaddr("/ip4/8.8.4.4/tcp/99")]


@pytest.mark.parametrize(
    "seen",
    [
        "/ip4/192.168.0.5/tcp/6001",  # our own
        "/ip4/127.0.0.1/tcp/6001",
        "/ip4/0.0.0.0/tcp/6001",
        "/ip4/224.0.0.1/tcp/6001",
        "/ip6/fe80::1/tcp/6001",
        "/ip4/8.8.4.4/udp/6001/quic-v1",
        "/dns4/example.org/tcp/6001",
    ],
)
def test_what_nobody_else_could_dial_is_not_taken(seen: str) -> None:
    observed = ObservedAddresses(lambda: LISTENING)
    observed.record(Connections().new(), Multiaddr(seen), trusted=True)
    assert observed.reported() == []


def test_who_does_not_listen_is_not_seen_anywhere() -> None:
    observed = ObservedAddresses(list)
    observed.record(Connections().new(), Multiaddr(SEEN), trusted=True)
    assert observed.reported() == []


def test_reports_outlive_their_connection_for_a_while(now: SimpleNamespace) -> None:
    observed, connection = ObservedAddresses(lambda: LISTENING), Connections().new()
    observed.record(connection, Multiaddr(SEEN), trusted=True)
    now.time = 10 * REMEMBERED_S
    assert observed.confirmed() == [Multiaddr(SEEN)]
    connection.is_closed = True
    assert observed.confirmed() == []


def test_reports_are_bounded() -> None:
    observed, made = ObservedAddresses(lambda: LISTENING), Connections()
    for number in range(5000):
        connection = made.new(f"/ip4/1.{number >> 8}.{number & 255}.1/tcp/1")
        observed.record(connection, Multiaddr(f"/ip4/8.8.4.4/tcp/{number + 1}"), trusted=False)
    assert len(observed._reports) == 1024
    assert len(observed.reported()) == 4
