"""The existing network's topic: questions out, answers in; questions in, answers out; heartbeats.

Conversation.run
 ├─ reads the subscription
 └─ a task per question that is answered; at_work.py bounds them

Everything goes to every member of the topic, so what is sent is little and paced; what is passed on is what `accept` has looked at: a single
malformed message would end every node of the existing network that it reaches. Bodies that are sealed for others cannot be looked into.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Message
from aicn.errors import (
    AicnError,
    Busy,
    DeadlineExceeded,
    InternalError,
    ModelFailed,
    ProtocolViolation,
    TooLarge,
    Unsupported,
)
from aicn.services.legacy.at_work import AtWork
from aicn.services.ports import Keyring, Topics
from aicn.services.rates import Rates
from aicn.wire.legacy import bodies, sealing
from aicn.wire.legacy.envelope import Envelope, Type, decode, encode
from aicn.wire.legacy.failures import BODYLESS, NOT_SUPPORTED, NotDecrypted, code_of, error_of

log = logging.getLogger(__name__)

ANSWER_S = 120.0  # how long nodes of the existing network wait for an answer, and we for theirs
_TELL_S = 2.0  # of it, for the word that there is no answer in time
_MOST_WAITING = 4096  # questions of ours without an answer
_REFUSALS = 10.0  # per second to one node: it asks too much, or nothing that makes sense
_REFUSALS_BURST = 100.0


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
Heard = Callable[[Message, Envelope], None]  # of a heartbeat; ProtocolViolation: it is none


class Conversation:
    """This node on the topic of the existing network."""

    def __init__(self, own: PeerId, topics: Topics, keys: Keyring, *, topic: str) -> None:
        self._own = own
        self._topics = topics
        self._keys = keys
        self._topic = topic
        self._waiting: dict[str, _Waiting] = {}  # by id
        self._at_work = AtWork()
        self._refusals = Rates(rate=_REFUSALS, burst=_REFUSALS_BURST)
        self._stopping = False

    def join(self) -> None:
        """Be a member of the topic: what `accept` takes is passed on, also when nothing is heard or said here."""
        self._topics.join(self._topic, self.accept)

    async def run(
        self, answer: Answer, heard: Heard, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer questions and hear heartbeats until cancelled. `heard` does not wait."""
        async with trio.open_nursery() as nursery:
            with self._topics.subscribe(self._topic) as messages:
                task_status.started()
                async for message in messages:
                    envelope = decode(message.data)
                    if envelope.is_heartbeat:
                        self._hear(message, envelope, heard)
                    elif envelope.receiver == self._own and not self._settle(envelope) and not envelope.code:
                        self._take(envelope, answer, nursery)

    async def drain(self) -> None:
        """Refuse new questions, and return when those that are being answered have their answer, on its way to the peers."""
        self._stopping = True
        await self._at_work.empty()
        await self._topics.flush()

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
        if sealed and self._keys.public_key_of(peer) is None:
            raise Unsupported(f"the key of {peer} is not known, so that nothing can be sealed for it")
        name = str(uuid.uuid4())
        waiting = self._waiting[name] = _Waiting(peer, kind, trio.Event())
        try:
            with trio.CancelScope(deadline=trio.current_time() + within_s):
                asking = Envelope(type=kind, sender=self._own, receiver=peer, id=name)
                await self._topics.publish(self._topic, self._sealed(asking, question))
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
        said = Envelope(type=Type.AI_PROJECT, sender=self._own, receiver=None, id="", text=text)
        await self._topics.publish(self._topic, self._sealed(said, body))

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

    def _hear(self, message: Message, envelope: Envelope, heard: Heard) -> None:
        try:
            heard(message, envelope)
        except ProtocolViolation as error:
            log.debug("heartbeat of %s: %s", envelope.sender, error)
        except Exception:
            log.exception("a heartbeat of %s", envelope.sender)

    def _take(self, envelope: Envelope, answer: Answer, nursery: trio.Nursery) -> None:
        """A question.

        Answers go out as fast as the topic is published on, in turn: who asks faster than that has all its places at work taken, so
        that a load of many clients is slowed down and loses nothing, while a flood is refused, most of it in silence.
        """
        if self._at_work.has(envelope):
            return
        try:
            if self._stopping:
                raise Busy("the node is stopping")
            self._at_work.enter(envelope)
        except Busy as error:
            if self._refusals.allow(envelope.sender):
                nursery.start_soon(self._refuse, envelope, error)
            return
        nursery.start_soon(self._answer, envelope, answer)

    async def _answer(self, envelope: Envelope, answer: Answer) -> None:
        try:
            said = await self._say(envelope, answer)
            if said is not None:
                await self._topics.publish(self._topic, said)
        except TooLarge:
            await self._refuse(
                envelope, ModelFailed("the answer does not fit into a message of the topic; ask for a stream")
            )
        except Exception:
            log.exception("a question of %s was not answered", envelope.sender)
        finally:
            self._at_work.leave(envelope)

    async def _refuse(self, envelope: Envelope, error: AicnError) -> None:
        try:
            await self._topics.publish(self._topic, self._failure(envelope, error))
        except Exception:
            log.exception("a question of %s was not refused", envelope.sender)

    async def _say(self, envelope: Envelope, answer: Answer) -> bytes | None:
        """The message that answers a question; None: it gets none."""
        try:
            question = self._question(envelope)
            if question is None:
                return None
            with trio.CancelScope(deadline=trio.current_time() + ANSWER_S - _TELL_S):
                said = await answer(envelope.sender, *question)
                return self._sealed(replace(_reply(envelope), text=said.text), said.body, timestamp=said.timestamp)
            raise DeadlineExceeded("the node had no answer in time")
        except (Unsupported, NotDecrypted) as error:  # which an honest node hardly ever hears
            return self._failure(envelope, error) if self._refusals.allow(envelope.sender) else None
        except AicnError as error:
            return self._failure(envelope, error)
        except Exception:
            log.exception("a question of %s failed", envelope.sender)
            return self._failure(envelope, InternalError("the node failed; its log says why"))

    def _question(self, envelope: Envelope) -> tuple[Type, bytes] | None:
        """What is asked; None: nothing. Unsupported, NotDecrypted."""
        try:
            kind = Type(envelope.type)
        except ValueError:
            raise Unsupported(NOT_SUPPORTED) from None
        try:
            plain = self._plain(envelope)
        except ProtocolViolation:
            raise NotDecrypted("Decrypt error") from None
        try:
            # Otherwise it is an answer that nobody waits for any more.
            return (kind, plain) if bodies.is_question(kind, plain) else None
        except ProtocolViolation as error:
            log.debug("topic %s, %s: %s", self._topic, envelope.sender, error)
            return None  # as nodes of the existing network do

    def _failure(self, envelope: Envelope, error: AicnError) -> bytes:
        """The message that answers a question with an error."""
        code, text = code_of(error)
        timestamp = 0 if envelope.type == Type.CHAT_COMPLETION else None  # of a chat it is the answer's `created`
        reply = replace(_reply(envelope), code=code, text=text)
        if code in BODYLESS:
            return encode(replace(reply, timestamp=_now()))
        return self._sealed(reply, bodies.EMPTY_ANSWER, timestamp=timestamp)

    def _sealed(self, envelope: Envelope, body: bytes, *, timestamp: int | None = None) -> bytes:
        """The message with this body, which is sealed if the receiver's key is known."""
        key = None if envelope.receiver is None else self._keys.public_key_of(envelope.receiver)
        if key is not None:
            body = sealing.seal(self._keys.shared_with(key), body)
        return encode(
            replace(
                envelope,
                body=body,
                key=b"" if key is None else self._keys.public,
                timestamp=_now() if timestamp is None else timestamp,
            )
        )

    def _plain(self, envelope: Envelope) -> bytes:
        """The body; ProtocolViolation when it cannot be unsealed."""
        if not envelope.key:
            return envelope.body
        return sealing.unseal(self._keys.shared_with(envelope.key), envelope.body)


def _reply(envelope: Envelope) -> Envelope:
    """The head of an answer."""
    assert envelope.receiver is not None
    return Envelope(type=envelope.type, sender=envelope.receiver, receiver=envelope.sender, id=envelope.id)


def _now() -> int:
    return int(time.time())
