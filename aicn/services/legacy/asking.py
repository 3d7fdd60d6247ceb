"""Our questions and requests to nodes that speak nothing newer than the existing network's protocols.

What they remember and images go over the topic; chats over `/chat-proxy/0.0.1`, with every parameter and as they come, and over the
topic only to nodes that cannot be connected to or serve no such streams. The topic carries one message to all: what waits there
for one node is bounded, since a message over what its queue holds is lost and costs its asker two minutes.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import trio

from aicn.domain.hardware import HostInfo
from aicn.domain.ids import PeerId
from aicn.domain.inference import Chunk, End, InferenceRequest, Kind
from aicn.domain.nodes import Connectivity, NodeInfo
from aicn.domain.registration import Project
from aicn.errors import AicnError, Busy, DeadlineExceeded, TooLarge, Unreachable, Unsupported
from aicn.services.legacy.conversation import ANSWER_S, Conversation
from aicn.services.legacy.dialect import Dialect, Dialects
from aicn.services.ports import Answer, Links
from aicn.wire import control, images
from aicn.wire.completion import parse_object
from aicn.wire.legacy import bodies, chat
from aicn.wire.legacy.envelope import Type

_MEMORY_S = 10.0  # for an answer from memory, over a topic that may take several hops; more is silence
_MOST_UNANSWERED = 32  # questions to one node: what go's queue for messages that are to be validated holds
_MOST_WAITING = 1000  # for one of these places
_LOOK_S = 1.0  # how often it is looked whether a node is still there that was connected when it was asked
_GONE_S = 4  # looks in a row without it: it may come back by itself
_CARRIED = frozenset({Kind.CHAT, Kind.IMAGE_GENERATION})

OpenProxy = Callable[[PeerId, InferenceRequest], Awaitable[Answer]]  # a chat over a stream


class WholeAnswer(Answer):
    """An answer that has come in one piece."""

    def __init__(self, node: PeerId, data: bytes, end: End) -> None:
        self.node = node
        self._data = data
        self._end = end

    async def receive(self) -> Chunk:
        await trio.lowlevel.checkpoint()
        if not self._data:
            self.end = self._end
            raise trio.EndOfChannel
        data, self._data = self._data, b""
        return Chunk(data)

    async def aclose(self) -> None:
        self._data = b""


class Asking:
    """Asks nodes of the existing network what native ones are asked, and answers in the same forms."""

    def __init__(self, conversation: Conversation, dialects: Dialects, links: Links, open_proxy: OpenProxy) -> None:
        self._conversation = conversation
        self._dialects = dialects
        self._links = links
        self._open_proxy = open_proxy
        self._places: WeakValueDictionary[PeerId, trio.Semaphore] = WeakValueDictionary()  # those that are in use
        self._answers: dict[control.Question[Any, Any], Callable[[PeerId], Awaitable[Any]]] = {
            control.PROJECTS: self.projects_of,
            control.NODE_INFO: self.info_of,
            control.HOST_INFO: self.host_info_of,
        }

    async def concerns(self, peer: PeerId) -> bool:
        """Whether `peer` is to be asked here. UnknownNode, Unreachable, DeadlineExceeded."""
        return await self._dialects.of(peer) is not Dialect.NATIVE

    def knows(self, question: control.Question[Any, Any]) -> bool:
        """Whether it can be put to nodes of the existing network at all."""
        return question in self._answers

    async def ask(self, peer: PeerId, question: control.Question[Any, Any]) -> Any:
        """What `peer` answers. DeadlineExceeded, Unreachable, ProtocolViolation, Busy, or its own error."""
        return await self._answers[question](peer)

    async def info_of(self, peer: PeerId) -> NodeInfo:
        """Identify data; nodes of the existing network leave out their agent version, which identify itself has told."""
        plain = await self._remembered(peer, Type.PEER_IDENTITY)
        return bodies.decode_info(plain, peer, agent_version=self._links.agent_of(peer))

    async def host_info_of(self, peer: PeerId) -> HostInfo:
        return bodies.decode_host(await self._remembered(peer, Type.HOST_INFO))

    async def projects_of(self, peer: PeerId) -> Sequence[Project]:
        projects, _ = bodies.decode_projects(await self._remembered(peer, Type.AI_PROJECT))
        return projects

    async def open(self, peer: PeerId, request: InferenceRequest) -> Answer:
        """The answer of `peer`. Unsupported: nodes of the existing network have no such requests, or it needs more than they carry."""
        if request.kind not in _CARRIED or request.parts:
            what = "files" if request.kind in _CARRIED else f"requests of kind {request.kind.name.lower()}"
            raise Unsupported(f"peer {peer} speaks only the old protocol, which does not carry {what}")
        if request.kind is Kind.IMAGE_GENERATION:
            return await self._images(peer, request)
        if await self._dialects.of(peer) is Dialect.PROXY:
            try:
                return await self._open_proxy(peer, request)
            except Unreachable:
                if not self._connected(peer):
                    raise
                # through a relay that lets no such streams pass, and nothing was sent: the topic is what is left
        return await self._chat(peer, request)

    # ---- inside ----

    async def _remembered(self, peer: PeerId, kind: Type) -> bytes:
        return await self._question(peer, kind, bodies.EMPTY_QUESTION, within_s=_MEMORY_S)

    async def _chat(self, peer: PeerId, request: InferenceRequest) -> Answer:
        """A chat over the topic. Nothing of its answer comes before all of it: a client that wants a stream gets it in one piece."""
        question = chat.encode_chat(request.project, request.model, request.body)
        plain = await self._work(peer, Type.CHAT_COMPLETION, question, request)
        completion, finish_reason, usage = chat.decode_chat_answer(plain)
        if request.stream:
            completion = chat.encode_events(completion, request.model, request.id)
        return WholeAnswer(peer, completion, End(finish_reason, usage))

    async def _images(self, peer: PeerId, request: InferenceRequest) -> Answer:
        if request.stream:
            raise Unsupported(f"stream: peer {peer} speaks only the old protocol, which does not stream images")
        task = images.parse_task(request.body, request.kind)
        if task.inline:
            raise Unsupported(f"response_format: peer {peer} speaks only the old protocol: its images go to IPFS")
        body = json.dumps({**(parse_object(task.body) or {}), "ipfs_node": task.ipfs_node}).encode()
        question = chat.encode_image(request.project, request.model, body)
        plain = await self._work(peer, Type.IMAGE_GENERATION, question, request)
        return WholeAnswer(peer, chat.decode_image_answer(plain), End())

    async def _work(self, peer: PeerId, kind: Type, question: bytes, request: InferenceRequest) -> bytes:
        """Have a model of `peer` work. A node that is only heard of first proves that it is there: the work may take minutes."""
        if not self._connected(peer):
            await self._remembered(peer, Type.PEER_IDENTITY)
        within_s = min(ANSWER_S, request.deadline - trio.current_time())
        try:
            return await self._question(peer, kind, question, within_s=within_s, sealed=True)
        except TooLarge as error:  # another node may take it in another way
            raise Unsupported(f"peer {peer} is asked over the topic: {error.message}") from None

    async def _question(
        self, peer: PeerId, kind: Type, question: bytes, *, within_s: float, sealed: bool = False
    ) -> bytes:
        """The plain answer to one question, once there is a place for it."""
        deadline = trio.current_time() + within_s
        places = self._places.setdefault(peer, trio.Semaphore(_MOST_UNANSWERED))
        if places.statistics().tasks_waiting >= _MOST_WAITING:
            raise Busy(f"{_MOST_WAITING} questions wait for peer {peer}")
        with trio.CancelScope(deadline=deadline) as scope:
            await places.acquire()
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"peer {peer} has been asked too much to answer this within {within_s:g} s")
        try:
            left_s = deadline - trio.current_time()
            return await self._while_there(peer, kind, question, within_s=left_s, sealed=sealed)
        finally:
            places.release()

    async def _while_there(self, peer: PeerId, kind: Type, question: bytes, *, within_s: float, sealed: bool) -> bytes:
        """Unreachable when the peer goes away meanwhile. Of one that was never connected that cannot be told."""
        answer: bytes | None = None
        failure: AicnError | None = None
        async with trio.open_nursery() as nursery:
            if self._connected(peer):
                nursery.start_soon(self._until_gone, peer, nursery.cancel_scope)
            try:
                answer = await self._conversation.ask(peer, kind, question, within_s=within_s, sealed=sealed)
            except AicnError as error:  # raised below: the nursery would wrap it in a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if answer is None:
            raise Unreachable(f"peer {peer} went away before it answered")
        return answer

    async def _until_gone(self, peer: PeerId, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the peer has gone away, and neither comes back nor can be dialled: a connection alone may end."""
        missed = 0
        while missed < _GONE_S:
            await trio.sleep(_LOOK_S)
            there = self._connected(peer) or (await self._links.measure(peer)).connectivity is Connectivity.CONNECTED
            missed = 0 if there else missed + 1
        scope.cancel()

    def _connected(self, peer: PeerId) -> bool:
        return self._links.link(peer).connectivity is Connectivity.CONNECTED
