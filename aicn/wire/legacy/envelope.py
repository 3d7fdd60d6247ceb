"""The message on the topic, around every body.

A node of the existing network dies of a message without header or with an empty payload, and takes `node_id` on trust; so nothing
is taken from the topic, or handed on to such nodes, that `decode` refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from google.protobuf.message import DecodeError

from aicn.domain.ids import PeerId, parse_peer_id
from aicn.errors import InvalidRequest, ProtocolViolation
from aicn.wire.pb import legacy_pb2 as pb

HEARTBEAT = "heartbeat"  # result message of a broadcast
_LONGEST_ID = 64  # characters; a uuid4 has 36
_LONGEST_TEXT = 1024  # bytes of a result message that are looked at
_LONGEST_KEY = 64  # bytes; a secp256k1 key in libp2p's protobuf has 37


class Type(IntEnum):
    """What a message is about. Other numbers are answered 1010."""

    PEER_IDENTITY = 0
    HOST_INFO = 1
    AI_PROJECT = 2
    CHAT_COMPLETION = 16
    IMAGE_GENERATION = 17


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message. `body` is as it travels: sealed for the receiver when there is a `key`."""

    type: int
    sender: PeerId
    receiver: PeerId | None  # None: a broadcast, which has no id either
    id: str
    body: bytes = b""
    key: bytes = b""  # the sender's libp2p public key; empty: the body is plain
    code: int = 0  # of spec 1; 0: a request, or a success
    text: str = ""
    timestamp: int = 0  # Unix time, seconds
    client_version: str = ""

    @property
    def is_heartbeat(self) -> bool:
        return self.receiver is None and self.type == Type.AI_PROJECT


def encode(envelope: Envelope) -> bytes:
    header = pb.MessageHeader(
        client_version=envelope.client_version.encode(),
        timestamp=envelope.timestamp,
        id=envelope.id,
        node_id=envelope.sender,
        receiver=envelope.receiver or "",
        node_pub_key=envelope.key,
    )
    message = pb.Message(
        header=header,
        type=envelope.type,
        body=envelope.body,
        result_code=envelope.code,
        result_message=envelope.text.encode(errors="replace"),  # may quote half a character of JSON
    )
    return message.SerializeToString()


def decode(data: bytes) -> Envelope:
    """The message in a payload of the topic. ProtocolViolation for what nodes of the existing network must not see."""
    try:
        message = pb.Message.FromString(data)
    except DecodeError:
        raise ProtocolViolation("legacy: not a message") from None
    header = message.header
    if not message.HasField("header"):
        raise ProtocolViolation("legacy: a message without header")
    try:
        sender = parse_peer_id(header.node_id)
        receiver = parse_peer_id(header.receiver) if header.receiver else None
    except InvalidRequest:
        raise ProtocolViolation("legacy: a message whose sender or receiver is no peer id") from None
    if len(header.id) > _LONGEST_ID or len(header.node_pub_key) > _LONGEST_KEY:
        raise ProtocolViolation("legacy: a message whose id or key is too long")
    if bool(header.id) != (receiver is not None):
        raise ProtocolViolation("legacy: a message with an id or a receiver, but not with both")
    return Envelope(
        type=message.type,
        sender=sender,
        receiver=receiver,
        id=header.id,
        body=message.body,
        key=header.node_pub_key,
        code=message.result_code,
        text=message.result_message[:_LONGEST_TEXT].decode("utf-8", "replace"),
        timestamp=header.timestamp,
        client_version=header.client_version[:_LONGEST_ID].decode("utf-8", "replace"),
    )
