"""Questions to nodes, and answers to theirs: `/aicn/control/1.0.0`."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from aicn.domain.ids import PeerId
from aicn.domain.registration import Project
from aicn.errors import AicnError, AnswerBroken, DeadlineExceeded, ProtocolViolation, TooLarge
from aicn.services.ports import Peers, PeerStream
from aicn.services.registration import Registration
from aicn.wire import control as wire
from aicn.wire.framing import FrameReader

_ASK_S = 10.0  # an answer from memory over any line; more is silence
_NEXT_S = 30.0  # how long a peer may keep a stream open without asking


class Nodes:
    """What this node can tell of itself and learn of others."""

    def __init__(self, peers: Peers, registration: Registration) -> None:
        self._peers = peers
        self._registration = registration
        self.stopping = False  # a stop signal has come: nothing new is taken

    async def projects_of(self, node: PeerId) -> Sequence[Project]:
        """The projects registered on `node`. UnknownNode, Unreachable, Unsupported, DeadlineExceeded."""
        if node == self._peers.id:
            return self._registration.projects()
        stream = await self._peers.open_stream(node, wire.PROTOCOL)
        try:
            with trio.CancelScope(deadline=trio.current_time() + _ASK_S) as scope:
                await stream.send_all(wire.encode_projects_request())
                await stream.send_eof()
                frame = await _next_frame(stream, FrameReader(wire.RESPONSE_FRAME_BYTES))
            if scope.cancelled_caught:
                raise DeadlineExceeded(f"peer {node} has not answered within {_ASK_S:g} s")
            if frame is None:
                raise AnswerBroken(f"peer {node} ended the stream without an answer")
            return wire.decode_projects(frame)
        except TooLarge as error:  # not the caller's fault, as that class would have it
            raise ProtocolViolation(f"peer {node}: {error.message}") from None
        finally:
            stream.reset()

    async def serve(self, stream: PeerStream) -> None:
        """Answer a peer's questions, one after the other, until it ends the stream or keeps silent."""
        reader = FrameReader(wire.REQUEST_FRAME_BYTES)
        with trio.CancelScope() as scope:
            stream.cancel_on_reset(scope)
            while True:
                scope.deadline = trio.current_time() + _NEXT_S
                try:
                    frame = await _next_frame(stream, reader)
                    if frame is None:
                        return
                    wire.decode_request(frame)  # "projects" is the one question there is
                    answer = wire.encode_projects(self._registration.projects())
                except AicnError as error:
                    await stream.send_all(wire.encode_failure(error))
                    return
                await stream.send_all(answer)


async def _next_frame(stream: PeerStream, reader: FrameReader) -> bytes | None:
    while (frame := reader.next_frame()) is None:
        data = await stream.receive_some()
        if not data:
            return None
        reader.feed(data)
    return frame
