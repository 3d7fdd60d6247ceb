"""Questions to nodes, and answers to theirs: `/aicn/control/1.0.0`; nodes that do not speak it are asked by `legacy.asking`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import trio

from aicn.domain.hardware import HostInfo
from aicn.domain.ids import PeerId
from aicn.domain.nodes import NodeInfo
from aicn.domain.offers import OffersAsked, OffersPage
from aicn.domain.registration import Project
from aicn.errors import AicnError, AnswerBroken, DeadlineExceeded, ProtocolViolation, TooLarge, Unreachable, Unsupported
from aicn.services.legacy.asking import Asking
from aicn.services.ports import HardwareSource, Peers, PeerStream
from aicn.services.registration import Registration
from aicn.wire import control as wire
from aicn.wire.framing import FrameReader

_ASK_S = 10.0  # an answer from memory over any line; more is silence
_NEXT_S = 30.0  # how long a peer may keep a stream open without asking

Asked = TypeVar("Asked")
Told = TypeVar("Told")


class Nodes:
    """What this node can tell of itself and learn of others.

    The methods that ask raise UnknownNode, Unreachable (also when the peer went away before it answered), Unsupported,
    DeadlineExceeded and ProtocolViolation; a node that asks itself gets its answer without the network.
    """

    def __init__(
        self,
        peers: Peers,
        registration: Registration,
        hardware: HardwareSource,
        *,
        share_host_info: bool = True,
        legacy: Asking | None = None,
    ) -> None:
        """`legacy`: asks nodes of the existing network; None: they are strangers."""
        self._peers = peers
        self._registration = registration
        self._hardware = hardware
        self._share_host_info = share_host_info
        self._legacy = legacy
        self._answers: dict[wire.Question[Any, Any], Callable[[Any], Awaitable[Any]]] = {}
        self.answer(wire.PROJECTS, self._own_projects)
        self.answer(wire.NODE_INFO, self._own_info)
        self.answer(wire.HOST_INFO, lambda _asked: self.shared_host_info())
        self.stopping = False  # a stop signal has come: nothing new is taken

    async def projects_of(self, node: PeerId) -> Sequence[Project]:
        """The projects registered on `node`."""
        if node == self._peers.id:
            return self._registration.projects()
        return await self._ask(node, wire.PROJECTS, None)

    async def info_of(self, node: PeerId) -> NodeInfo:
        """Identify data of `node`."""
        if node == self._peers.id:
            return self._peers.info()
        info = await self._ask(node, wire.NODE_INFO, None)
        if info.peer_id != node:
            raise ProtocolViolation(f"peer {node} says that it is {info.peer_id}")
        return info

    async def host_info_of(self, node: PeerId) -> HostInfo:
        """The machine of `node`."""
        if node == self._peers.id:
            return await self._hardware.read()
        return await self._ask(node, wire.HOST_INFO, None)

    async def shared_host_info(self) -> HostInfo:
        """What other nodes are told of this machine; Unsupported: nothing."""
        if not self._share_host_info:
            raise Unsupported("this node keeps to itself what machine it has (hardware.share)")
        return await self._hardware.read()

    async def offers_of(self, node: PeerId, asked: OffersAsked) -> OffersPage:
        """Offers that another node holds; Unsupported: it keeps none."""
        return await self._ask(node, wire.OFFERS, asked)

    def answer(self, question: wire.Question[Asked, Told], tell: Callable[[Asked], Awaitable[Told]]) -> None:
        """Answer `question` with what `tell` gives; an AicnError that it raises is told to the peer."""
        self._answers[question] = tell

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
                    answer = await self._answered(frame)
                except (ProtocolViolation, TooLarge) as error:
                    await stream.send_all(wire.encode_failure(error))
                    return
                except AicnError as error:
                    answer = wire.encode_failure(error)
                await stream.send_all(answer)

    async def _answered(self, frame: bytes) -> bytes:
        question, asked = wire.decode_request(frame)
        if question not in self._answers:
            raise Unsupported(f"this node does not answer {question.name}")
        return wire.encode_answer(question, await self._answers[question](asked))

    async def _ask(self, node: PeerId, question: wire.Question[Asked, Told], asked: Asked) -> Told:
        """What another node answers, in whichever protocol it is asked."""
        if self._legacy is not None and self._legacy.knows(question) and await self._legacy.concerns(node):
            return cast("Told", await self._legacy.ask(node, question))
        stream = await self._peers.open_stream(node, wire.PROTOCOL)
        try:
            with trio.CancelScope(deadline=trio.current_time() + _ASK_S) as scope:
                await stream.send_all(wire.encode_request(question, asked))
                await stream.send_eof()
                frame = await _next_frame(stream, FrameReader(wire.RESPONSE_FRAME_BYTES))
            if scope.cancelled_caught:
                raise DeadlineExceeded(f"peer {node} has not answered within {_ASK_S:g} s")
            if frame is None:
                raise Unreachable(f"peer {node} ended the stream without an answer")
            return wire.decode_answer(question, frame)
        except (ProtocolViolation, TooLarge) as error:  # too large: not the caller's fault, as that class would have it
            raise ProtocolViolation(f"peer {node}: {error.message}") from None
        except AnswerBroken as error:  # there is no model that could have failed
            raise Unreachable(f"peer {node} went away before it answered: {error.message}") from None
        finally:
            stream.reset()

    async def _own_projects(self, _asked: None) -> Sequence[Project]:
        return self._registration.projects()

    async def _own_info(self, _asked: None) -> NodeInfo:
        return self._peers.info()


async def _next_frame(stream: PeerStream, reader: FrameReader) -> bytes | None:
    while (frame := reader.next_frame()) is None:
        data = await stream.receive_some()
        if not data:
            return None
        reader.feed(data)
    return frame
