import pytest
from multiaddr import Multiaddr

from aicn.errors import InvalidRequest
from aicn.p2p.addresses import (
    circuit_over,
    diallable,
    expand,
    from_socket,
    is_circuit,
    is_public,
    rank,
    relay_of,
    split_peer,
    without_peer,
)

PEER = "16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq"
RELAY = "12D3KooWA8EXV3KjBxEU5EnsPfneLx84vMWAtTBQBeyooN82KSuS"


@pytest.mark.parametrize("transport", ["/ip4/192.0.2.1/tcp/1", "/ip6/fd00::1/tcp/1", "/dns4/node.example/tcp/443"])
def test_split_peer(transport: str) -> None:
    peer, address = split_peer(f"{transport}/p2p/{PEER}")
    assert (str(peer), str(address)) == (PEER, transport)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "junk",
        "/",
        f"/p2p/{PEER}",
        "/ip4/192.0.2.1/tcp/1",
        "/ip4/192.0.2.1/tcp/1/p2p/junk",
        f"/ip4/999.0.2.1/tcp/1/p2p/{PEER}",
        f"/ip4/192.0.2.1/udp/1/quic-v1/p2p/{PEER}",
        f"/ip4/192.0.2.1/tcp/1/ws/p2p/{PEER}",
        f"/ip4/192.0.2.1/udp/1/p2p/{PEER}/p2p-circuit/p2p/{PEER}",
        f"/p2p-circuit/p2p/{PEER}",
        f"/ip4/192.0.2.1/tcp/1/p2p-circuit/p2p/{PEER}",
        f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{PEER}/p2p-circuit/p2p/{PEER}",
        f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}/p2p-circuit/tcp/1/p2p/{PEER}",
        f"/unix/x/p2p/{PEER}",
    ],
)
def test_what_cannot_be_dialled(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^here: "):
        split_peer(text, field="here")


@pytest.mark.parametrize(
    "relay", [f"/ip4/192.0.2.1/tcp/1/p2p/{RELAY}", f"/dns/x.example/tcp/1/p2p/{RELAY}", f"/p2p/{RELAY}"]
)
def test_a_circuit_keeps_its_relay(relay: str) -> None:
    peer, address = split_peer(f"{relay}/p2p-circuit/p2p/{PEER}")
    assert (str(peer), str(address)) == (PEER, f"{relay}/p2p-circuit")
    assert without_peer(address) == address
    assert is_circuit(address)
    assert not is_public(address)
    found, transport = relay_of(address)
    assert str(found) == RELAY
    assert relay == f"{transport or ''}/p2p/{RELAY}"
    assert circuit_over(found, transport) == address


@pytest.mark.parametrize(
    "values", ["3602fffe", "35020a20", "a50300"]
)  # dns4 and dns that are no text, an empty peer id
def test_an_address_whose_values_are_junk_is_not_diallable(values: str) -> None:
    assert not diallable(Multiaddr(bytes.fromhex(values + "060001")))
    assert not diallable(Multiaddr(bytes.fromhex("047f000001060001" + values)))


def test_order_of_dialling() -> None:
    texts = [
        "/ip4/8.8.8.8/tcp/1",
        "/dns/x.example/tcp/1",
        "/ip4/10.0.0.1/tcp/1",
        "/ip6/::1/tcp/1",
        "/ip4/127.0.0.1/tcp/1",
    ]
    assert [rank(Multiaddr(text)) for text in texts] == [0, 0, 1, 2, 2]
    circuits = [circuit_over(split_peer(f"{text}/p2p/{PEER}")[0], Multiaddr(text)) for text in texts]
    assert [rank(circuit) for circuit in circuits] == [3, 3, 4, 5, 5]
    assert [is_public(Multiaddr(text)) for text in texts] == [True, True, False, False, False]
    assert all(diallable(Multiaddr(text)) for text in texts)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (("192.0.2.1", 1), "/ip4/192.0.2.1/tcp/1"),
        (("fe80::1%eth0", 1, 0, 2), "/ip6/fe80::1/tcp/1"),
        (("::ffff:192.0.2.1", 1, 0, 0), "/ip4/192.0.2.1/tcp/1"),
    ],
)
def test_from_socket(name: tuple[str | int, ...], text: str) -> None:
    assert str(from_socket(name)) == text


def test_expand() -> None:
    fixed = Multiaddr("/ip4/192.0.2.1/tcp/5")
    expanded = [str(one) for one in expand([Multiaddr("/ip4/0.0.0.0/tcp/7"), fixed, fixed])]
    assert expanded.count(str(fixed)) == 1
    assert "/ip4/127.0.0.1/tcp/7" in expanded
    assert not [one for one in expanded if "0.0.0.0" in one]
    assert not [one for one in expanded if one.startswith("/ip6")]


def test_without_peer() -> None:
    assert str(without_peer(Multiaddr(f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}"))) == "/ip4/192.0.2.1/tcp/1"
