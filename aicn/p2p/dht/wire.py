"""Messages of the DHT, sans-io (libp2p specs, kad-dht, RPC messages). Nothing in them is trusted, everything is bounded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from google.protobuf.message import DecodeError
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.errors import ProtocolViolation
from aicn.p2p import addresses

LARGEST_REQUEST = 64 << 10  # bytes; a question is a key, an announcement a key and a peer
LARGEST_ANSWER = 1 << 20  # bytes; 20 peers and 100 providers with their addresses are less than a tenth of it
LONGEST_KEY = 80  # bytes, as go-libp2p-kad-dht has it
MOST_CLOSER = 20  # peers that an answer names: k of the spec
MOST_PROVIDERS = 100  # providers that we name in an answer, and look at in one
_MOST_ADDRESSES = 16  # of one peer


class Found(NamedTuple):
    """A peer that a message names, and where it is said to be."""

    peer: ID
    addresses: Sequence[Multiaddr]


def parse(data: bytes) -> Message:
    """One message. ProtocolViolation."""
    message = Message()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise ProtocolViolation("DHT: not a message") from None
    if len(message.key) > LONGEST_KEY:
        raise ProtocolViolation(f"DHT: a key of {len(message.key)} bytes")
    return message


def question(kind: Message.MessageType, key: bytes) -> bytes:
    """FIND_NODE or GET_PROVIDERS."""
    return Message(type=kind, key=key).SerializeToString()


def announcement(key: bytes, provider: Found) -> bytes:
    """ADD_PROVIDER: `provider`, who sends it, has what `key` stands for."""
    message = Message(type=Message.ADD_PROVIDER, key=key)
    _name(message.providerPeers, [provider])
    return message.SerializeToString()


def answer(asked: Message, *, closer: Iterable[Found] = (), providers: Iterable[Found] = ()) -> bytes:
    """The answer to `asked`."""
    message = Message(type=asked.type, key=asked.key)
    _name(message.closerPeers, closer)
    _name(message.providerPeers, providers)
    return message.SerializeToString()


def _name(listed: object, peers: Iterable[Found]) -> None:
    for peer, known in peers:
        listed.add(  # type: ignore[attr-defined] # the generated container has no public type
            id=peer.to_bytes(), addrs=[one.to_bytes() for one in known[:_MOST_ADDRESSES]], connection=Message.CONNECTED
        )


def named(listed: Sequence[Message.Peer], most: int) -> list[Found]:
    """The first `most` peers of a message, each once, without what cannot be a peer id or an address."""
    found = {
        one.id: Found(ID(one.id), [a for a in map(_address, one.addrs[:_MOST_ADDRESSES]) if a is not None])
        for one in listed[:most]
        if is_peer_id(one.id)
    }
    return list(found.values())


def _address(data: bytes) -> Multiaddr | None:
    address = addresses.decode(data)
    if address is None or addresses.is_circuit(address):
        return address
    return addresses.without_peer(address) if addresses.diallable(address) else None


def is_peer_id(data: bytes) -> bool:
    """Whether it is a multihash that a peer id may be: an identity or sha2-256 one (libp2p specs, peer-ids)."""
    return 2 <= len(data) <= 64 and data[0] in (0x00, 0x12) and data[1] == len(data) - 2
