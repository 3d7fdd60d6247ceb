"""The existing network's topic: questions out, answers in; questions in, answers out; heartbeats.

Conversation.run
 ├─ reads the subscription
 └─ a task per question that is answered, at most _MOST_AT_WORK and _MOST_OF_ONE per asker; more are refused as busy

Everything goes to every member of the topic, so what is sent is little and paced; what is passed on is what `accept` has looked at: a single
malformed message would end every node of the existing network that it reaches.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Message
from aicn.errors import AicnError, Busy, DeadlineExceeded, InternalError, ProtocolViolation, Unsupported
from aicn.services.ports import Keyring, Topics
from aicn.wire.legacy import bodies, sealing
from aicn.wire.legacy.envelope import Envelope, Type, decode, encode
from aicn.wire.legacy.failures import NOT_DECRYPTED, NOT_SUPPORTED, code_of, error_of

log = logging.getLogger(__name__)

ANSWER_S = 120.0  # how long nodes of the existing network wait for an answer, and we for theirs
_MOST_WAITING = 4096  # questions of ours without an answer
_MOST_AT_WORK = 256  # questions of others that are being answered
_MOST_OF_ONE = 64  # of them of one node, which may be an input node with many clients


@dataclass(frozen=True, slots=True)
class Said:
    """What a question is answered with: a plain body, and what else stands in the message."""

    body: bytes
    text: str = "ok"
    timestamp: int | None = None  # None: now


@dataclass(slots=True)
class _Waiting:
    """A question of ours."""

    peer: PeerId
    type: Type
    event: trio.Event
    answer: Envelope | None = None


Answer = Callable[[PeerId, Type, bytes], Awaitable[Said]]  # of a plain question; AicnError
Heard = Callable[[PeerId, bytes], None]  # the body of a heartbeat


class Conversation:
    """This node on the topic of the existing network."""

    def __init__(self, own: PeerId, topics: Topics, keys: Keyring, *, topic: str) -> None:
        self._own = own
        self._topics = topics
        self._keys = keys
        self._topic = topic
        self._waiting: dict[str, _Waiting] = {}  # by id
        self._at_work: Counter[PeerId] = Counter()

    async def run(
        self, answer: Answer, heard: Heard, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Be a member of the topic until cancelled. `heard` neither waits nor raises."""
        self._topics.join(self._topic, self.accept)
        async with trio.open_nursery() as nursery:
            with self._topics.subscribe(self._topic) as messages:
                task_status.started()
                async for message in messages:
                    envelope = decode(message.data)
                    if envelope.is_heartbeat:
                        heard(envelope.sender, envelope.body)
                    elif envelope.receiver == self._own and not self._settle(envelope):
                        if self._at_work.total() >= _MOST_AT_WORK or self._at_work[envelope.sender] >= _MOST_OF_ONE:
                            await self._fail(self._reply(envelope), Busy("too many questions at once"))
                            continue
                        self._at_work[envelope.sender] += 1
                        nursery.start_soon(self._answer, envelope, answer)

    def accept(self, message: Message) -> bool:
        """Whether a message may be taken and passed on: nodes of the existing network die of some that may not."""
        try:
            envelope = decode(message.data)
            if envelope.sender != message.sender:
                raise ProtocolViolation("legacy: a message in the name of another node")
            if not envelope.key and envelope.body:
                bodies.check_complete(envelope.type, envelope.body, code=envelope.code)
        except ProtocolViolation as error:
            log.debug("topic %s, %s: %s", self._topic, message.sender, error)
            return False
        return True

    async def ask(
        self, peer: PeerId, kind: Type, question: bytes, *, within_s: float = ANSWER_S, sealed: bool = False
    ) -> bytes:
        """The plain body of the peer's answer to a plain question.

        DeadlineExceeded, or the error that the peer answered. `sealed`: Unsupported rather than a question that all can read.
        """
        if len(self._waiting) >= _MOST_WAITING:
            raise Busy(f"{_MOST_WAITING} questions wait for an answer")
        key = self._keys.public_key_of(peer)
        if key is None and sealed:
            raise Unsupported(f"the key of {peer} is not known, so that nothing can be sealed for it")
        name = str(uuid.uuid4())
        waiting = self._waiting[name] = _Waiting(peer, kind, trio.Event())
        try:
            with trio.CancelScope(deadline=trio.current_time() + within_s):
                await self._send(Envelope(type=kind, sender=self._own, receiver=peer, id=name), question, key)
                await waiting.event.wait()
        finally:
            del self._waiting[name]
        if waiting.answer is None:
            raise DeadlineExceeded(f"peer {peer} has not answered within {within_s:g} s")
        if waiting.answer.code:
            raise error_of(waiting.answer.code, waiting.answer.text)
        return self._plain(waiting.answer)

    async def broadcast(self, body: bytes, text: str) -> None:
        """Tell all: a heartbeat."""
        await self._send(Envelope(type=Type.AI_PROJECT, sender=self._own, receiver=None, id="", text=text), body, None)

    # ---- inside ----

    def _settle(self, envelope: Envelope) -> bool:
        """Whether the message is an answer to a question of ours (which then has it, if it is from whom was asked)."""
        waiting = self._waiting.get(envelope.id)
        if waiting is None:
            return False
        if waiting.peer == envelope.sender and waiting.type == envelope.type and waiting.answer is None:
            waiting.answer = envelope
            waiting.event.set()
        return True

    async def _answer(self, envelope: Envelope, answer: Answer) -> None:
        try:
            with trio.move_on_after(ANSWER_S):  # nobody waits longer
                await self._answered(envelope, answer)
        finally:
            self._at_work[envelope.sender] -= 1
            if not self._at_work[envelope.sender]:
                del self._at_work[envelope.sender]

    async def _answered(self, envelope: Envelope, answer: Answer) -> None:
        reply = self._reply(envelope)
        try:
            kind = Type(envelope.type)
        except ValueError:
            await self._refuse(reply, *NOT_SUPPORTED)
            return
        try:
            plain = self._plain(envelope)
        except ProtocolViolation:
            await self._refuse(reply, *NOT_DECRYPTED)
            return
        try:
            if not bodies.is_question(kind, plain):
                return  # an answer that nobody waits for any more
        except ProtocolViolation as error:
            log.debug("topic %s, %s: %s", self._topic, envelope.sender, error)
            return  # as nodes of the existing network do
        try:
            said = await answer(envelope.sender, kind, plain)
            key = self._keys.public_key_of(envelope.sender)
            await self._send(replace(reply, text=said.text), said.body, key, timestamp=said.timestamp)
        except AicnError as error:
            await self._fail(reply, error)
        except Exception:
            log.exception("a question of %s failed", envelope.sender)
            await self._fail(reply, InternalError("the node failed; its log says why"))

    def _reply(self, envelope: Envelope) -> Envelope:
        return Envelope(type=envelope.type, sender=self._own, receiver=envelope.sender, id=envelope.id)

    async def _fail(self, reply: Envelope, error: AicnError) -> None:
        """Answer with an error, which has a sealed empty body."""
        code, text = code_of(error)
        assert reply.receiver is not None
        await self._send(
            replace(reply, code=code, text=text), bodies.EMPTY_ANSWER, self._keys.public_key_of(reply.receiver)
        )

    async def _refuse(self, reply: Envelope, code: int, text: str) -> None:
        await self._topics.publish(self._topic, encode(replace(reply, code=code, text=text, timestamp=_now())))

    async def _send(self, envelope: Envelope, body: bytes, key: bytes | None, *, timestamp: int | None = None) -> None:
        """Publish; the body sealed for the receiver's `key` if there is one. TooLarge."""
        envelope = replace(envelope, body=body, timestamp=_now() if timestamp is None else timestamp)
        if key is not None:
            envelope = replace(envelope, body=sealing.seal(self._keys.shared_with(key), body), key=self._keys.public)
        await self._topics.publish(self._topic, encode(envelope))

    def _plain(self, envelope: Envelope) -> bytes:
        """The body; ProtocolViolation when it cannot be unsealed."""
        if not envelope.key:
            return envelope.body
        return sealing.unseal(self._keys.shared_with(envelope.key), envelope.body)


def _now() -> int:
    return int(time.time())
