import pytest
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from multiaddr import Multiaddr

from aicn.p2p.peerbook import PeerBook


def peer(number: int) -> ID:
    return ID(b"\x00\x04" + number.to_bytes(4, "big"))


def address(number: int) -> Multiaddr:
    return Multiaddr(f"/ip4/10.0.{number >> 8}.{number & 255}/tcp/1")


def test_addresses_are_bounded() -> None:
    book = PeerBook()
    for number in range(100):
        book.add_addrs(peer(1), [address(number), address(number)])
    assert len(book.known(peer(1))) == 32
    assert book.known(peer(2)) == []


def test_a_connected_peer_does_not_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    book = PeerBook()
    connected = {peer(1)}
    book.is_connected = connected.__contains__
    for one in (peer(1), peer(2)):
        book.add_addrs(one, [address(1)], ttl=60)
    monkeypatch.setattr("libp2p.peer.peerdata.time.time", lambda: 1e11)
    assert book.known(peer(1)) == book.addrs(peer(1)) == [address(1)]
    assert book.known(peer(2)) == []
    with pytest.raises(PeerStoreError):
        book.addrs(peer(2))


def test_the_book_is_bounded_and_keeps_itself_and_the_connected() -> None:
    book = PeerBook()
    book.max_peers = 1000
    key = create_new_key_pair()
    own = ID.from_pubkey(key.public_key)
    book.add_key_pair(own, key)
    book.is_connected = {peer(1)}.__contains__
    for number in range(1, 3000):
        book.add_addrs(peer(number), [address(number)], ttl=3600)
    assert len(book.peer_data_map) <= 1001
    assert book.privkey(own) == key.private_key
    assert book.known(peer(1)) == [address(1)]
    assert book.known(peer(2999)) == [address(2999)]
    assert book.known(peer(2)) == []
