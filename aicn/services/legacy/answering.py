"""What this node answers to questions on the topic of the existing network.

Chats and images go the way of all requests, through the worker. The topic carries no streams and no pieces: an answer is one message,
and what does not fit into one is a failure that says so.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import trio

from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind
from aicn.errors import ModelFailed
from aicn.services.legacy.conversation import ANSWER_S, Said
from aicn.services.nodes import Nodes
from aicn.services.ports import Peers
from aicn.services.registration import Registration
from aicn.services.worker import Worker
from aicn.wire.completion import parse_completion, parse_object
from aicn.wire.legacy import bodies, chat
from aicn.wire.legacy.chat import Asked
from aicn.wire.legacy.envelope import Type

_SOURCE = "the model endpoint"  # in errors; the worker has looked at its answer already


class Answering:
    """The questions of others. Result texts of successes are the original's."""

    def __init__(self, peers: Peers, nodes: Nodes, registration: Registration, worker: Worker, limits: Limits) -> None:
        self._peers = peers
        self._nodes = nodes
        self._registration = registration
        self._worker = worker
        self._limits = limits
        self._tell: dict[Type, Callable[[PeerId, bytes], Awaitable[Said]]] = {
            Type.PEER_IDENTITY: self._tell_info,
            Type.HOST_INFO: self._tell_host,
            Type.AI_PROJECT: self._tell_projects,
            Type.CHAT_COMPLETION: self._chat,
            Type.IMAGE_GENERATION: self._draw,
        }

    async def answer(self, peer: PeerId, kind: Type, plain: bytes) -> Said:
        """The answer to a question. AicnError: that is the answer."""
        return await self._tell[kind](peer, plain)

    async def _tell_info(self, _peer: PeerId, _plain: bytes) -> Said:
        return Said(bodies.encode_info(self._peers.info()), text="")

    async def _tell_host(self, _peer: PeerId, _plain: bytes) -> Said:
        return Said(bodies.encode_host(await self._nodes.shared_host_info()))

    async def _tell_projects(self, _peer: PeerId, _plain: bytes) -> Said:
        return Said(bodies.encode_projects(self._registration.projects()))

    async def _chat(self, peer: PeerId, plain: bytes) -> Said:
        answer = await self._ask_model(peer, Kind.CHAT, chat.decode_chat(plain))
        completion = parse_completion(answer, Kind.CHAT, source=_SOURCE)
        body, created = chat.encode_chat_answer(completion)
        return Said(body, text="", timestamp=created)

    async def _draw(self, peer: PeerId, plain: bytes) -> Said:
        answer = await self._ask_model(peer, Kind.IMAGE_GENERATION, chat.decode_image(plain))
        return Said(chat.encode_image_answer(parse_object(answer) or {}))

    async def _ask_model(self, peer: PeerId, kind: Kind, asked: Asked) -> bytes:
        """The whole answer of one of this node's models."""
        request = InferenceRequest(
            id=uuid.uuid4().hex,
            kind=kind,
            project=asked.project,
            model=asked.model,
            body=asked.body,
            stream=False,
            deadline=trio.current_time() + min(self._limits.request_s, ANSWER_S),
        )
        body = bytearray()
        answer = self._worker.open(request, principal=peer)
        try:
            async for chunk in answer:
                body += chunk.data
                if len(body) > self._limits.answer_bytes:
                    raise ModelFailed(f"the answer is over limits.answer_bytes, {self._limits.answer_bytes}")
        finally:
            await answer.aclose()
        return bytes(body)
