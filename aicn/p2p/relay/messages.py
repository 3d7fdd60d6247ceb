"""The messages of circuit relay v2, and the two protocols that they are spoken on."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, Limit, Reservation, Status, StopMessage

from aicn.errors import ProtocolViolation, Unreachable
from aicn.p2p.messages import Messages
from aicn.p2p.stream import Stream

__all__ = ["HOP", "STOP", "HopMessage", "Limit", "Reservation", "Status", "StopMessage"]

HOP = "/libp2p/circuit/relay/0.2.0/hop"  # to the relay: reserve a place, connect to who has one
STOP = "/libp2p/circuit/relay/0.2.0/stop"  # from the relay: somebody connects to you

_LARGEST = 4096  # bytes of one message, as in go-libp2p; a reservation with all its addresses has about 1500
_LONGEST_ID = 128  # bytes of a peer id; one with an inlined key has 39, with a hash 34

Message = TypeVar("Message", HopMessage, StopMessage)


def on(stream: Stream) -> Messages:
    """The messages on a stream of either protocol."""
    return Messages(stream, limit=_LARGEST)


async def receive(messages: Messages, kind: type[Message]) -> Message:
    """The next message. ProtocolViolation or TooLarge: it is none; the errors of `Messages.receive`."""
    message = kind()
    try:
        message.ParseFromString(await messages.receive())
    except DecodeError:
        raise ProtocolViolation("not a message of the relay protocol") from None
    if not message.HasField("type"):
        raise ProtocolViolation("a message of the relay protocol without its type")
    return message


async def expect_ok(messages: Messages, kind: type[Message]) -> Message:
    """The status that answers a request. Unreachable when it says anything else than OK."""
    answer = await receive(messages, kind)
    if answer.type != kind.STATUS:
        raise ProtocolViolation("a request of the relay protocol was not answered by its status")
    if answer.status != Status.OK:
        known = answer.status in Status.values()
        raise Unreachable(f"the relay said {Status.Name(answer.status) if known else answer.status}")
    return answer


def peer_in(message: HopMessage | StopMessage) -> ID:
    """The other peer that a message names. ProtocolViolation when there is none."""
    if not 0 < len(message.peer.id) <= _LONGEST_ID:
        raise ProtocolViolation("a message of the relay protocol without its peer")
    return ID(message.peer.id)
