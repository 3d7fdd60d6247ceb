"""One connection through a relay, as the upgrader takes it: a stream to the relay, which carries its bytes."""

from __future__ import annotations

import trio
from libp2p.abc import IRawConnection
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnError
from multiaddr import Multiaddr

from aicn.errors import DeadlineExceeded, Unreachable
from aicn.p2p.connection import Connection
from aicn.p2p.relay.messages import HOP, HopMessage, expect_ok, on
from aicn.p2p.stream import Stream

_ANSWER_S = 15.0  # for a relay to reach the other peer; longer than a relay waits for that peer, so that we hear why


class Circuit(IRawConnection):
    """A raw connection on a stream. Reads are buffered: security reads two bytes, then a record. For one reader at a time."""

    def __init__(self, stream: Stream, address: Multiaddr, *, initiator: bool, limited: bool) -> None:
        self.is_initiator = initiator
        self.limited = limited  # the relay has said that it will end it after some time or bytes
        self._stream = stream
        stream.hold()
        self._address = address
        self._unread = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        """At most `n` bytes, at least one; b"" at the end. AnswerBroken when relay or peer broke it."""
        if n == 0:
            return b""
        if not self._unread:
            data = await self._stream.receive_some()
            if n is None or len(data) <= n:
                return data
            self._unread += data
        data = bytes(self._unread[:n])
        del self._unread[: len(data)]
        return data

    async def write(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def close(self) -> None:
        await self._stream.finish()

    def get_remote_address(self) -> tuple[str, int] | None:
        """None: the peer's is not known."""
        return None

    def get_transport_addresses(self) -> list[Multiaddr]:
        return [self._address]

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.RELAYED


async def open_circuit(relay: Connection, target: ID, address: Multiaddr) -> Circuit:
    """Ask `relay` for a circuit to `target`. Unreachable, Unsupported, DeadlineExceeded, or the errors of a broken stream."""
    try:
        with trio.fail_after(_ANSWER_S):
            stream, limited = await _ask(await relay.open_stream(HOP), target)
            return Circuit(stream, address, initiator=True, limited=limited)
    except trio.TooSlowError:
        raise DeadlineExceeded(f"the relay {relay.peer} does not answer") from None
    except MuxedConnError:
        raise Unreachable(f"the relay {relay.peer} has just gone") from None


async def _ask(stream: Stream, target: ID) -> tuple[Stream, bool]:
    """The stream that is connected with `target`, and whether the relay limits it."""
    messages = on(stream)
    try:
        request = HopMessage(type=HopMessage.CONNECT)
        request.peer.id = target.to_bytes()
        await messages.send(request.SerializeToString())
        answer = await expect_ok(messages, HopMessage)
    except BaseException:
        stream.reset()
        raise
    return messages.release(), answer.HasField("limit")
