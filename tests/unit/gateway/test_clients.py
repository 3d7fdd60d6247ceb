"""Who counts as one client, and what one may have."""

from __future__ import annotations

import pytest

from aicn.errors import Busy
from aicn.gateway.clients import ANYBODY, LITTLE, Bodies, Shares, client_of


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("127.0.0.1", ANYBODY),
        ("127.9.9.9", ANYBODY),
        ("::1", ANYBODY),
        ("::ffff:127.0.0.1", ANYBODY),
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_client_of(host: str, client: str) -> None:
    assert client_of(host) == client


def test_shares() -> None:
    shares = Shares(2)
    assert [shares.add("a") for _ in range(3)] == [False, False, True]
    assert [shares.add("b"), shares.add(ANYBODY)] == [False, False]
    shares.remove("a")
    assert shares.add("a")
    for _ in range(3):
        shares.remove("a")
    assert not shares.add("a")


def test_loopback_has_no_share() -> None:
    shares = Shares(1)
    assert not any(shares.add(ANYBODY) for _ in range(1000))
    shares.remove(ANYBODY)


def test_bodies() -> None:
    bodies = Bodies(3 * LITTLE)
    bodies.add(3 * LITTLE, own=3 * LITTLE)
    bodies.add(LITTLE, own=LITTLE)  # a small one always fits
    with pytest.raises(Busy):
        bodies.add(1, own=LITTLE + 1)
    bodies.release(LITTLE + 1)  # what was refused counts until it is given back
    assert bodies.held == 3 * LITTLE
    bodies.release(3 * LITTLE)
    bodies.add(3 * LITTLE, own=3 * LITTLE)
