"""The DHT's sans-io parts: routing table, provider records, walks, messages."""

from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.errors import ProtocolViolation
from aicn.p2p.dht import providers, wire
from aicn.p2p.dht.lookup import MOST_ASKED, Lookup
from aicn.p2p.dht.providers import VALID_S, ProviderStore
from aicn.p2p.dht.table import WIDTH, RoutingTable, nearest, position
from aicn.p2p.dht.wire import Found


def peer(number: int) -> ID:
    return ID(b"\x12\x20" + hashlib.sha256(number.to_bytes(8, "big")).digest())


OWN = peer(0)
PEERS = [peer(number) for number in range(1, 400)]


def test_a_position_is_that_of_the_spec() -> None:
    assert position(b"x") == int(hashlib.sha256(b"x").hexdigest(), 16)
    assert peer(1).xor_id == position(peer(1).to_bytes())


def test_the_table_is_bounded_and_keeps_whom_it_has() -> None:
    table = RoutingTable(OWN)
    members = [one for one in PEERS if table.add(one)]
    assert len(members) == len(table) < 200
    assert not table.add(OWN)
    far = [one for one in PEERS if (one.xor_id ^ OWN.xor_id).bit_length() == 256]
    assert [one in table for one in far] == [True] * WIDTH + [False] * (len(far) - WIDTH)
    assert table.add(members[0])  # again
    table.remove(far[0])
    table.remove(far[0])
    assert far[0] not in table
    assert table.add(far[-1])
    assert len(table) == len(members)


@given(st.binary(min_size=1, max_size=40))
def test_the_nearest_are_the_nearest(key: bytes) -> None:
    table = RoutingTable(OWN)
    members = [one for one in PEERS if table.add(one)]
    expected = sorted(members, key=lambda one: one.xor_id ^ position(key))
    assert table.nearest(key) == expected[:WIDTH]
    assert nearest(key, members, 3) == expected[:3]


def test_records_expire() -> None:
    store = ProviderStore()
    store.add(b"a", PEERS[0], 0)
    store.add(b"a", PEERS[1], 10)
    store.add(b"a", PEERS[0], 20)  # again
    assert store.providers(b"a", 20) == [PEERS[1], PEERS[0]]
    assert store.providers(b"a", 10 + VALID_S) == [PEERS[0]]
    assert store.providers(b"a", 20 + VALID_S) == []
    assert len(store) == 0
    assert not store._by_key
    assert not store._by_peer


def test_one_provider_has_a_bounded_number_of_records() -> None:
    store = ProviderStore()
    store.add(b"honest", PEERS[1], 0)
    for number in range(5_000):
        store.add(os.urandom(32), PEERS[0], number)
    assert len(store) == providers.MOST_PER_PEER + 1
    assert store.providers(b"honest", 5_000) == [PEERS[1]]


def test_a_key_and_the_store_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "MOST_PER_KEY", 10)
    monkeypatch.setattr(providers, "MOST_RECORDS", 50)
    store = ProviderStore()
    for now, one in enumerate(PEERS):
        store.add(b"key", one, now)
    assert store.providers(b"key", 400) == PEERS[-10:]
    for now, one in enumerate(PEERS):
        store.add(b"key %d" % now, one, now)
    assert len(store) == 50
    assert len(store._by_key) <= 50


def test_a_walk_asks_the_nearest_first_and_ends() -> None:
    lookup = Lookup(b"key", PEERS[:30], skip={OWN, PEERS[0]})
    asked = []
    while (one := lookup.next()) is not None:
        asked.append(one)
        lookup.answered(one)
        lookup.learn(PEERS)
    ranked = [one for one in nearest(b"key", PEERS, 100) if one != PEERS[0]]
    assert set(ranked[: WIDTH - 1]) <= set(asked)
    assert len(asked) == len(set(asked)) <= MOST_ASKED
    assert PEERS[0] not in asked
    assert OWN not in asked
    assert lookup.closest() == nearest(b"key", asked)


def test_a_walk_through_invented_peers_ends() -> None:
    lookup = Lookup(b"key", PEERS[:1], skip={OWN})
    asked = 0
    while (one := lookup.next()) is not None:
        asked += 1
        if asked > 1:
            lookup.failed(one)
        else:
            lookup.answered(one)
        lookup.learn(peer(int.from_bytes(os.urandom(7), "big")) for _ in range(20))
    assert asked <= MOST_ASKED
    assert lookup.closest() == [PEERS[0]]


def test_who_failed_makes_room_for_the_next() -> None:
    lookup = Lookup(b"key", PEERS[:40], skip=())
    failed = [lookup.next() for _ in range(WIDTH)]
    assert lookup.next() is None
    for one in failed:
        assert one is not None
        lookup.failed(one)
    assert lookup.next() == nearest(b"key", PEERS[:40], 21)[-1]


ADDRESS = Multiaddr("/ip4/1.2.3.4/tcp/5")


def test_messages() -> None:
    found = Found(PEERS[0], [ADDRESS])
    asked = wire.parse(wire.question(Message.GET_PROVIDERS, b"key"))
    assert (asked.type, asked.key) == (Message.GET_PROVIDERS, b"key")
    answer = wire.parse(wire.answer(asked, closer=[found, found], providers=[found]))
    assert (answer.type, answer.key) == (asked.type, asked.key)
    assert wire.named(answer.closerPeers, 20) == wire.named(answer.providerPeers, 20) == [found]
    announced = wire.parse(wire.announcement(b"key", found))
    assert announced.type == Message.ADD_PROVIDER
    assert wire.named(announced.providerPeers, 20) == [found]


def test_what_a_message_names_is_bounded_and_checked() -> None:
    message = Message()
    relayed = Multiaddr(f"/ip4/1.2.3.4/tcp/5/p2p/{PEERS[1]}/p2p-circuit")
    for one in (b"", b"\x12\x21" + bytes(32), b"\x05\x00", bytes(100)):
        message.closerPeers.add(id=one, addrs=[ADDRESS.to_bytes()])
    addresses = [b"", b"\xff", b"\x04\x01", Multiaddr("/ip4/1.2.3.4/udp/5/quic-v1").to_bytes(), relayed.to_bytes()]
    own = Multiaddr(f"{ADDRESS}/p2p/{PEERS[0]}")
    message.closerPeers.add(id=PEERS[0].to_bytes(), addrs=[*addresses, own.to_bytes()])
    message.closerPeers.add(id=PEERS[1].to_bytes(), addrs=[ADDRESS.to_bytes()] * 100)
    first, second = wire.named(message.closerPeers, 20)
    assert first == Found(PEERS[0], [relayed, ADDRESS])
    assert len(second.addresses) == 16
    assert wire.named(message.closerPeers, 4) == []


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        message = wire.parse(data)
    except ProtocolViolation:
        return
    for one in wire.named(message.closerPeers, 20) + wire.named(message.providerPeers, 20):
        assert wire.is_peer_id(one.peer.to_bytes())


def test_a_long_key_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="key"):
        wire.parse(wire.question(Message.FIND_NODE, b"k" * 81))
