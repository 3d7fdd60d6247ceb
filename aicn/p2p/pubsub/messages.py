"""Messages and their signatures (libp2p specs, pubsub, "The Message" and "Message Signing"): StrictSign, sans-io."""

from __future__ import annotations

import time
from functools import lru_cache

from google.protobuf.message import DecodeError
from libp2p.crypto.keys import KeyPair, PublicKey
from libp2p.crypto.serialization import deserialize_public_key
from libp2p.peer.id import ID
from libp2p.pubsub.pb.rpc_pb2 import RPC, Message

from aicn.errors import ProtocolViolation, TooLarge
from aicn.wire.framing import encode_frame

LARGEST_RPC = 1 << 20  # bytes: go-libp2p-pubsub reads no more, and ends the stream
_PREFIX = b"libp2p-pubsub:"
_SEQNO_BYTES = 8  # as all implementations have it, but js-libp2p's floodsub sends its own without leading zeros
_LONGEST_KEY = 1024  # bytes; an RSA key of 4096 bits, the largest that the library takes, has 550
_LONGEST_SIGNATURE = 1024


def message_id(message: Message) -> bytes:
    """What makes a message the same: its sender and the sender's number for it, go's default."""
    return message.from_id + message.seqno


def parse(data: bytes) -> RPC:
    """What a peer sent. ProtocolViolation."""
    rpc = RPC()
    try:
        rpc.ParseFromString(data)
    except DecodeError:
        raise ProtocolViolation("pubsub: not an RPC") from None
    return rpc


def parse_message(data: bytes) -> Message:
    """One message, outside an RPC. ProtocolViolation."""
    message = Message()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise ProtocolViolation("pubsub: not a message") from None
    return message


def topic_of(message: Message) -> str:
    """The topic that it is for. ProtocolViolation: none, or several."""
    if len(message.topicIDs) != 1:
        raise ProtocolViolation("pubsub: a message is for one topic")
    return str(message.topicIDs[0])


class Signer:
    """Makes this node's messages."""

    def __init__(self, keys: KeyPair) -> None:
        self._key = keys.private_key
        self._from = ID.from_pubkey(keys.public_key).to_bytes()
        self._seqno = 0

    def message(self, topic: str, data: bytes) -> Message:
        """A signed message. TooLarge: peers would not take it."""
        # The clock in nanoseconds: greater than all numbers used before a restart, and without leading zeros, which js peers mangle.
        self._seqno = max(time.time_ns(), self._seqno + 1)
        seqno = self._seqno.to_bytes(_SEQNO_BYTES, "big")
        message = Message(from_id=self._from, data=data, seqno=seqno, topicIDs=[topic])
        # The key is in the peer id, as go nodes have it.
        message.signature = self._key.sign(_PREFIX + message.SerializeToString())
        if (size := RPC(publish=[message]).ByteSize()) > LARGEST_RPC:
            raise TooLarge(f"a message of {size} bytes with its envelope; peers take {LARGEST_RPC}")
        return message


def frame(message: Message) -> bytes:
    """The message as it travels."""
    return encode_frame(RPC(publish=[message]).SerializeToString())


def check(message: Message) -> ID:
    """The sender, who has signed the message. ProtocolViolation."""
    if not 0 < len(message.seqno) <= _SEQNO_BYTES or not 0 < len(message.signature) <= _LONGEST_SIGNATURE:
        raise ProtocolViolation("pubsub: a message without sequence number or signature")
    sender, key = _known(message.from_id, message.key)
    unsigned = Message()
    unsigned.CopyFrom(message)  # with fields that we do not know: they are signed as well
    unsigned.ClearField("signature")
    unsigned.ClearField("key")
    if not _verifies(key, _PREFIX + unsigned.SerializeToString(), message.signature):
        raise ProtocolViolation("pubsub: a message that its sender did not sign")
    return sender


def _verifies(key: PublicKey, data: bytes, signature: bytes) -> bool:
    try:
        return key.verify(data, signature)
    except Exception:  # noqa: BLE001 - each kind of key has its own for what is no signature
        return False


@lru_cache(maxsize=4096)  # senders that are heard of again and again; parsing a key takes as long as checking with it
def _known(sender: bytes, attached: bytes) -> tuple[ID, PublicKey]:
    """A sender and its public key: its id holds it (identity multihash), or it came along. ProtocolViolation."""
    inside = sender[2:] if sender[:1] == b"\x00" else attached
    if not 0 < len(inside) <= _LONGEST_KEY:
        raise ProtocolViolation("pubsub: a message without its sender's key")
    try:
        key = deserialize_public_key(inside)
    except Exception:  # noqa: BLE001 - each kind of key has its own for what is none
        raise ProtocolViolation("pubsub: a message whose sender's key is none") from None
    known = ID.from_pubkey(key)  # which remembers its text, as long to make as half a check of a signature
    if known.to_bytes() != sender:
        raise ProtocolViolation("pubsub: a message with the key of somebody else")
    return known, key
