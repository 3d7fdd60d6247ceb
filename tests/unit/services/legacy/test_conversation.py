"""The conversation on the topic: two nodes and a stranger on topics in memory, with real keys."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Message
from aicn.errors import (
    AicnError,
    Busy,
    DeadlineExceeded,
    Forbidden,
    ModelFailed,
    ProtocolViolation,
    TooLarge,
    UnknownModel,
    Unsupported,
)
from aicn.p2p.identity import generate_key, parse_key, peer_id_of
from aicn.p2p.keyring import Keyring
from aicn.services.legacy import at_work, conversation
from aicn.services.legacy.conversation import ANSWER_S, Conversation, Said
from aicn.wire.legacy import bodies, sealing
from aicn.wire.legacy.envelope import Envelope, Type, decode, encode
from aicn.wire.pb import legacy_pb2 as pb
from tests.fakes.topics import MemoryPubsub, MemoryTopics

TOPIC = "T"
HASHED = PeerId("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")  # the id of an RSA key, which is not in it
ANSWER = bodies.encode_projects([])
QUESTION = bodies.EMPTY_QUESTION

Answer = Callable[[PeerId, Type, bytes], Awaitable[Said]]


@dataclass
class One:
    """A node on the topic."""

    id: PeerId
    keys: Keyring
    topics: MemoryTopics
    conversation: Conversation
    asked: list[tuple[PeerId, Type, bytes]]
    heartbeats: list[tuple[PeerId, bytes]]

    async def say(self, to: One | None, **fields: Any) -> None:
        """A message by hand: plain unless a key is given."""
        about = {"type": Type.AI_PROJECT, "id": "an id" if to else "", "body": QUESTION, "timestamp": 5} | fields
        await self.topics.publish(TOPIC, encode(Envelope(sender=self.id, receiver=to.id if to else None, **about)))
        await wait_all_tasks_blocked()

    def open(self, envelope: Envelope) -> bytes:
        """The body of a message to this node."""
        return sealing.unseal(self.keys.shared_with(envelope.key), envelope.body) if envelope.key else envelope.body


class Network:
    """Nodes that answer as `answer` says."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.pubsub = MemoryPubsub()
        self._nursery = nursery

    async def add(self, answer: Answer | None = None) -> One:
        key = parse_key(generate_key())
        peer = peer_id_of(key)
        topics, keys = self.pubsub.member(peer), Keyring(key)
        one = One(peer, keys, topics, Conversation(peer, topics, keys, topic=TOPIC), [], [])

        async def answered(asker: PeerId, kind: Type, plain: bytes) -> Said:
            one.asked.append((asker, kind, plain))
            await trio.lowlevel.checkpoint()
            return await answer(asker, kind, plain) if answer else Said(ANSWER)

        one.conversation.join()
        await self._nursery.start(
            one.conversation.run, answered, lambda _, said: one.heartbeats.append((said.sender, said.body))
        )
        return one

    def said(self, by: One, to: One | None = None) -> list[Envelope]:
        """All messages of one node, or those to another."""
        envelopes = [decode(message.data) for message in self.pubsub.said if message.sender == by.id]
        return [one for one in envelopes if to is None or one.receiver == to.id]


@asynccontextmanager
async def network() -> AsyncIterator[Network]:
    async with trio.open_nursery() as nursery:
        yield Network(nursery)
        nursery.cancel_scope.cancel()


def raising(error: Exception) -> Answer:
    async def answer(*_: object) -> Said:
        raise error

    return answer


async def hanging(*_: object) -> Said:
    await trio.sleep_forever()


# ---- questions and their answers ----


async def test_a_question_has_its_answer_and_nobody_else_can_read_them(autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b, other = await net.add(), await net.add(), await net.add()
        assert await a.conversation.ask(b.id, Type.AI_PROJECT, QUESTION) == ANSWER
        assert b.asked == [(a.id, Type.AI_PROJECT, QUESTION)]
        assert not other.asked
        [asked], [said] = net.said(a), net.said(b)
        assert (asked.key, said.key) == (a.keys.public, b.keys.public)
        assert (said.id, said.text, said.code) == (asked.id, "ok", 0)
        for sealed in (asked, said):
            with pytest.raises(ProtocolViolation):
                other.open(sealed)


async def test_what_stands_beside_the_body(autojump_clock: MockClock) -> None:
    async def answer(*_: object) -> Said:
        return Said(ANSWER, text="", timestamp=7)

    async with network() as net:
        a, b = await net.add(), await net.add(answer)
        await a.say(b)
        [said] = net.said(b)
        assert (said.text, said.timestamp, said.id) == ("", 7, "an id")


async def test_a_plain_question_is_answered_sealed_since_the_key_is_in_the_id(autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add()
        await a.say(b)
        [said] = net.said(b)
        assert said.key
        assert a.open(said) == ANSWER


async def test_who_has_no_such_key_is_asked_in_plain_or_not_at_all(autojump_clock: MockClock) -> None:
    async with network() as net:
        a = await net.add()
        with pytest.raises(DeadlineExceeded):
            await a.conversation.ask(HASHED, Type.AI_PROJECT, QUESTION, within_s=3)
        [asked] = net.said(a)
        assert (asked.key, asked.body) == (b"", QUESTION)
        with pytest.raises(Unsupported, match="key"):
            await a.conversation.ask(HASHED, Type.CHAT_COMPLETION, QUESTION, sealed=True)
        assert len(net.said(a)) == 1


async def test_silence_ends_after_two_minutes(autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add()
        b.topics.failure = Busy("nothing gets out")
        began = trio.current_time()
        with pytest.raises(DeadlineExceeded, match="has not answered"):
            await a.conversation.ask(b.id, Type.AI_PROJECT, QUESTION)
        assert trio.current_time() - began == pytest.approx(ANSWER_S)
        assert not a.conversation._waiting


@pytest.mark.parametrize(
    ("error", "code", "text", "body"),
    [
        (UnknownModel("no M"), 1006, "Model API configuration is empty", bodies.EMPTY_ANSWER),
        (ModelFailed("it broke"), 1006, "it broke", bodies.EMPTY_ANSWER),
        (Forbidden("no proof"), 1009, "no proof", bodies.EMPTY_ANSWER),
        (Unsupported("kept to itself"), 1010, "kept to itself", b""),
        (RuntimeError("a bug"), 5000, "the node failed; its log says why", bodies.EMPTY_ANSWER),
    ],
)
async def test_an_error_is_an_answer(
    error: Exception, code: int, text: str, body: bytes, autojump_clock: MockClock
) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add(raising(error))
        with pytest.raises(AicnError, match=text):
            await a.conversation.ask(b.id, Type.AI_PROJECT, QUESTION)
        [said] = net.said(b)
        assert (said.code, said.text, bool(said.key)) == (code, text, bool(body))
        assert a.open(said) == body


async def test_an_answer_that_is_too_large_says_so(autojump_clock: MockClock) -> None:
    async def answer(*_: object) -> Said:
        return Said(bytes(2 << 20))

    async with network() as net:
        a, b = await net.add(), await net.add(answer)
        with pytest.raises(ModelFailed, match="does not fit"):
            await a.conversation.ask(b.id, Type.CHAT_COMPLETION, QUESTION)
        [said] = net.said(b)
        assert said.timestamp == 0  # of a chat it is the answer's `created`


async def test_a_question_that_is_too_large_is_not_sent(autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add()
        with pytest.raises(TooLarge):
            await a.conversation.ask(b.id, Type.AI_PROJECT, bytes(2 << 20))
        assert not a.conversation._waiting


async def test_a_handler_that_hangs_is_given_up_while_the_asker_still_listens(autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add(hanging)
        with pytest.raises(DeadlineExceeded, match="answered 1004"):
            await a.conversation.ask(b.id, Type.AI_PROJECT, QUESTION)
        await a.say(b)
        assert len(b.asked) == 2, "its place is free again"


# ---- what is no question ----


async def test_a_type_that_nobody_knows_is_answered_bare(autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add()
        await a.say(b, type=9, body=b"\x08\x01")
        [said] = net.said(b)
        assert (said.type, said.code, said.text, said.body, said.key) == (9, 1010, "Not supported", b"", b"")
        assert not b.asked


@pytest.mark.parametrize("sealed", [bytes(40), bytes(27), b""], ids=["junk", "short", "nothing"])
@pytest.mark.parametrize("good_key", [True, False])
async def test_what_cannot_be_decrypted_is_answered_bare(
    sealed: bytes, good_key: bool, autojump_clock: MockClock
) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add()
        await a.say(b, key=a.keys.public if good_key else b"no key", body=sealed)
        [said] = net.said(b)
        assert (said.code, said.text, said.body, said.key) == (1013, "Decrypt error", b"", b"")


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x1a\x00", bodies.EMPTY_ANSWER])
async def test_bodies_that_ask_nothing_have_no_answer(body: bytes, autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add()
        await a.say(b, body=body)
        assert not net.said(b)
        assert not b.asked


async def test_an_error_is_never_answered_so_that_two_nodes_do_not_refuse_each_other_for_ever(
    autojump_clock: MockClock,
) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add()
        await a.say(b, type=9, code=1010, body=b"")
        await a.say(b, code=1013, key=a.keys.public, body=bytes(40))
        await a.say(b, code=1006)
        assert not net.said(b)


async def test_what_concerns_others_is_left_alone(autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b, c = await net.add(), await net.add(), await net.add()
        await a.say(b)
        assert not c.asked
        assert not net.said(c)


# ---- answers that are none ----


async def test_only_who_was_asked_can_answer_and_only_what_was_asked(autojump_clock: MockClock) -> None:
    released = trio.Event()

    async def answer(*_: object) -> Said:
        await released.wait()
        return Said(ANSWER)

    async with network() as net, trio.open_nursery() as nursery:
        a, b, liar = await net.add(), await net.add(answer), await net.add()
        answers: list[bytes] = []

        async def ask() -> None:
            answers.append(await a.conversation.ask(b.id, Type.AI_PROJECT, QUESTION))

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        [asked] = net.said(a)
        await liar.say(a, id=asked.id, body=ANSWER)
        await b.say(a, id=asked.id, body=ANSWER, type=Type.HOST_INFO)
        await b.say(a, id="another", body=ANSWER)
        assert not answers
        released.set()
        await wait_all_tasks_blocked()
        await b.say(a, id=asked.id, body=b"too late")
        assert answers == [ANSWER]
        assert not net.said(a, liar)


async def test_the_first_answer_counts(autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add(hanging)
        got: list[bytes] = []

        async def ask() -> None:
            got.append(await a.conversation.ask(b.id, Type.AI_PROJECT, QUESTION))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            [asked] = net.said(a)
            reply = Envelope(Type.AI_PROJECT, b.id, a.id, asked.id, timestamp=1)
            for body in (ANSWER, b"second"):  # both before the asker has its turn
                a.topics.hear(Message(TOPIC, b.id, encode(replace(reply, body=body))))
        assert got == [ANSWER]


async def test_an_answer_that_cannot_be_unsealed_is_the_answerers_fault(autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add(hanging)

        async def answer_badly() -> None:
            await wait_all_tasks_blocked()
            [asked] = net.said(a)
            await b.say(a, id=asked.id, key=b.keys.public, body=bytes(40))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_badly)
            with pytest.raises(ProtocolViolation):
                await a.conversation.ask(b.id, Type.AI_PROJECT, QUESTION)
        assert not net.said(a, b)[1:], "an answer is never answered"


async def test_an_asker_that_is_cancelled_waits_no_more(autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add(hanging)
        with trio.move_on_after(1):
            await a.conversation.ask(b.id, Type.AI_PROJECT, QUESTION)
        assert not a.conversation._waiting


async def test_questions_of_ours_are_bounded(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "_MOST_WAITING", 3)
    async with network() as net:
        a, b = await net.add(), await net.add(hanging)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(a.conversation.ask, b.id, Type.AI_PROJECT, QUESTION)
            await wait_all_tasks_blocked()
            with pytest.raises(Busy):
                await a.conversation.ask(b.id, Type.AI_PROJECT, QUESTION)
            nursery.cancel_scope.cancel()


# ---- floods ----


async def test_a_flood_of_questions_is_bounded_and_others_are_served(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_work, "_MOST_OF_ONE", 5)
    monkeypatch.setattr(conversation, "_REFUSALS_BURST", 3.0)
    monkeypatch.setattr(conversation, "_REFUSALS", 0.0)
    flooders: set[PeerId] = set()

    async def answer(asker: PeerId, *_: object) -> Said:
        return await hanging() if asker in flooders else Said(ANSWER)

    async with network() as net:
        flooder, b, honest = await net.add(), await net.add(answer), await net.add()
        flooders.add(flooder.id)
        for number in range(50):
            await flooder.say(b, id=str(number))
        assert Counter(asker for asker, _, _ in b.asked) == {flooder.id: 5}
        refused = net.said(b, flooder)
        assert [one.code for one in refused] == [1006] * 3, "a flood is not answered by a flood"
        assert await honest.conversation.ask(b.id, Type.AI_PROJECT, QUESTION, within_s=1) == ANSWER


async def test_many_clients_of_one_node_are_all_answered(autojump_clock: MockClock) -> None:
    """As fast as a load with 64 clients, for longer than any burst."""
    async with network() as net:
        asker, b = await net.add(), await net.add()
        for number in range(3000):
            await asker.say(b, id=str(number))
        assert [one.code for one in net.said(b, asker)] == [0] * 3000


async def test_a_flood_that_cannot_be_decrypted_is_not_answered_by_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "_REFUSALS_BURST", 3.0)
    async with network() as net:
        a, b = await net.add(), await net.add()
        for number in range(50):
            await a.say(b, id=str(number), key=a.keys.public, body=bytes(40))
        assert [one.code for one in net.said(b)] == [1013] * 3
        assert await a.conversation.ask(b.id, Type.AI_PROJECT, QUESTION, within_s=1) == ANSWER


async def test_large_questions_are_bounded_by_their_bytes(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_work, "_BYTES_OF_ONE", 250_000)
    async with network() as net:
        a, b = await net.add(), await net.add(hanging)
        large = QUESTION + pb.Message(body=bytes(100_000)).SerializeToString()  # and a field that nobody knows
        for number in range(4):
            await a.say(b, id=str(number), body=large)
        assert len(b.asked) == 2
        assert [one.code for one in net.said(b)] == [1006] * 2
        await trio.sleep(ANSWER_S)
        await a.say(b, id="later", body=large)
        assert len(b.asked) == 3


async def test_a_question_is_answered_once_while_it_is_at_work(autojump_clock: MockClock) -> None:
    async with network() as net:
        a, b, c = await net.add(), await net.add(hanging), await net.add()
        for _ in range(3):
            await a.say(b)
        await c.say(b)
        assert b.asked == [(one.id, Type.AI_PROJECT, QUESTION) for one in (a, c)]


# ---- what may go wrong ----


async def test_a_topic_that_cannot_be_published_on_ends_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add()
        for failure in (Busy("no"), RuntimeError("a bug"), TooLarge("always")):
            b.topics.failure = failure
            await a.say(b)
        assert len(caplog.records) == 3
        b.topics.failure = None
        assert await a.conversation.ask(b.id, Type.AI_PROJECT, QUESTION, within_s=1) == ANSWER


async def test_a_heartbeat_is_heard_and_one_that_nobody_can_take_ends_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with network() as net, trio.open_nursery() as nursery:
        a, b = await net.add(), await net.add()
        key = parse_key(generate_key())
        topics = net.pubsub.member(peer_id_of(key))
        fragile = Conversation(peer_id_of(key), topics, Keyring(key), topic=TOPIC)
        fragile.join()
        heard: list[bytes] = []

        def hear(_message: Message, envelope: Envelope) -> None:
            heard.append(envelope.body)
            if len(heard) < 3:
                raise (ProtocolViolation("nonsense"), RuntimeError("a bug"))[len(heard) - 1]

        await nursery.start(fragile.run, raising(RuntimeError()), hear)
        said = [b"", b"\x12\x02\x10\x03", ANSWER]
        for body in said:
            await a.conversation.broadcast(body, "heartbeat")
        await wait_all_tasks_blocked()
        assert heard == said
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert b.heartbeats == [(a.id, body) for body in said]
        nursery.cancel_scope.cancel()
    last = net.said(a)[-1]
    assert (last.text, last.key, last.id, last.receiver) == ("heartbeat", b"", "", None)


async def test_a_node_that_stops_answers_what_it_has_and_refuses_the_rest(autojump_clock: MockClock) -> None:
    released = trio.Event()

    async def answer(*_: object) -> Said:
        await released.wait()
        return Said(ANSWER)

    async with network() as net:
        a, b = await net.add(), await net.add(answer)
        await a.say(b, id="before")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.conversation.drain)
            await wait_all_tasks_blocked()
            await a.say(b, id="after")
            assert [(one.id, one.code) for one in net.said(b)] == [("after", 1006)]
            released.set()
        assert [(one.id, one.code) for one in net.said(b)][1:] == [("before", 0)]


# ---- what may pass ----


def body_of(kind: Type, part: str, *present: str) -> bytes:
    """A body whose `part` has these submessages."""
    body = bodies._BODIES[kind]()
    inner = getattr(body, part)
    inner.SetInParent()
    for name in present:
        getattr(inner, name).SetInParent()
    return bytes(body.SerializeToString())


KILLING = {
    "no header": pb.Message(type=2).SerializeToString(),
    "nothing": b"",
    "no message": b"\xff\xff",
    "host info without os": (Type.HOST_INFO, body_of(Type.HOST_INFO, "res", "memory")),
    "host info without memory": (Type.HOST_INFO, body_of(Type.HOST_INFO, "res", "os")),
    "chat without wallet": (Type.CHAT_COMPLETION, body_of(Type.CHAT_COMPLETION, "req")),
    "chat answer without usage": (Type.CHAT_COMPLETION, body_of(Type.CHAT_COMPLETION, "res")),
    "what only they may be able to read": (Type.CHAT_COMPLETION, b"\xff"),
    "image without wallet": (Type.IMAGE_GENERATION, body_of(Type.IMAGE_GENERATION, "req")),
}
HARMLESS = {
    "host info": (Type.HOST_INFO, body_of(Type.HOST_INFO, "res", "os", "memory")),
    "chat": (Type.CHAT_COMPLETION, body_of(Type.CHAT_COMPLETION, "req", "wallet")),
    "chat answer": (Type.CHAT_COMPLETION, body_of(Type.CHAT_COMPLETION, "res", "usage")),
    "image": (Type.IMAGE_GENERATION, body_of(Type.IMAGE_GENERATION, "req", "wallet")),
    "a type that nobody knows": (9, b"\xff"),
    "a body with neither question nor answer": (Type.CHAT_COMPLETION, b"\x18\x01"),
}


def message_of(sender: PeerId, receiver: PeerId, about: bytes | tuple[int, bytes], **fields: Any) -> bytes:
    if isinstance(about, bytes):
        return about
    kind, body = about
    return encode(replace(Envelope(kind, sender, receiver, "an id", body=body), **fields))


@pytest.mark.parametrize("killing", KILLING)
async def test_what_ends_go_nodes_does_not_pass(killing: str) -> None:
    async with network() as net:
        a, b = await net.add(), await net.add()
        data = message_of(a.id, b.id, KILLING[killing])
        assert not b.conversation.accept(Message(TOPIC, a.id, data))


@pytest.mark.parametrize("harmless", HARMLESS)
async def test_what_ends_nobody_passes(harmless: str) -> None:
    async with network() as net:
        a, b, other = await net.add(), await net.add(), await net.add()
        data = message_of(a.id, b.id, HARMLESS[harmless])
        assert b.conversation.accept(Message(TOPIC, a.id, data))
        assert not b.conversation.accept(Message(TOPIC, other.id, data)), "in the name of another node"


async def test_what_nobody_looks_into_may_lack_what_it_likes() -> None:
    async with network() as net:
        a, b = await net.add(), await net.add()
        about = KILLING["chat answer without usage"]
        for fields in ({"code": 1006}, {"key": a.keys.public}):
            assert b.conversation.accept(Message(TOPIC, a.id, message_of(a.id, b.id, about, **fields)))
