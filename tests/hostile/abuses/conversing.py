"""Abuses of the existing network's topic: questions and heartbeats."""

from __future__ import annotations

import os

import trio
from libp2p.crypto.keys import KeyPair
from libp2p.pubsub.pb import rpc_pb2 as pubsub

from aicn.domain.ids import PeerId
from aicn.domain.offers import NodeType
from aicn.domain.registration import Project
from aicn.p2p.identity import Key
from aicn.p2p.keyring import Keyring
from aicn.wire.legacy import bodies, sealing
from aicn.wire.legacy.envelope import HEARTBEAT, Envelope, Type, encode
from aicn.wire.pb import legacy_pb2 as pb
from tests.hostile.abuses.announcing import peer_of, projects
from tests.hostile.abuses.gossip import says, signed
from tests.hostile.attacker import Attacker, message, new_key
from tests.hostile.table import POUR_S, abuse
from tests.hostile.victim import MODEL, PROJECT

QUESTIONS = 1500  # more than one asker has answered at once
HUGE = 1_000_000  # bytes of a body: with its envelope less than a pubsub message may have
STRANGERS = 50


def question(key: KeyPair, attacker: Attacker, kind: int, body: bytes, number: int, public: bytes = b"") -> bytes:
    """A message of the topic; `public`: the key that the body is said to be sealed with."""
    receiver = PeerId(attacker.victim.started.peer_id)
    return encode(Envelope(kind, peer_of(key), receiver, f"question {number}", body=body, key=public))


async def tell(attacker: Attacker, key: KeyPair, *said: bytes) -> None:
    """Publish these, as fast as they are taken."""
    stream = await says(attacker, key=key)
    with trio.move_on_after(4 * POUR_S):
        for number, data in enumerate(said, 1):
            one = signed(key, data, number=number.to_bytes(8, "big"))
            await stream.send_all(message(pubsub.RPC(publish=[one]).SerializeToString()))
            await trio.lowlevel.checkpoint()


@abuse
async def questions_without_end(attacker: Attacker) -> None:
    """One node asks who the victim is, and what machine it has, a thousand times a second."""
    key = new_key()
    kinds = (Type.PEER_IDENTITY, Type.HOST_INFO, Type.AI_PROJECT)
    said = [question(key, attacker, kinds[n % 3], bodies.EMPTY_QUESTION, n) for n in range(QUESTIONS)]
    await tell(attacker, key, *said)


@abuse
async def ciphertexts_that_are_none(attacker: Attacker) -> None:
    """Bodies sealed with nothing, by keys that change, are no points of the curve, or are no keys."""
    key = new_key()
    keys = [new_key().public_key.serialize() for _ in range(200)]
    keys += [b"\x08\x02\x12\x21\x02" + b"\xff" * 32, b"\x08\x02\x12\x21\x02" + bytes(32), b"junk", os.urandom(64)]
    said = [
        question(key, attacker, Type.CHAT_COMPLETION, os.urandom(n % 60), n, keys[n % len(keys)])
        for n in range(QUESTIONS)
    ]
    await tell(attacker, key, *said)


@abuse
async def chats_of_a_megabyte(attacker: Attacker) -> None:
    """Questions as large as they may be: one text, messages without number, sealed and plain, for models that there are and are not."""
    key = new_key()
    own = Keyring(Key(key.private_key.to_bytes()))
    public = own.public_key_of(PeerId(attacker.victim.started.peer_id))
    assert public is not None
    secret = own.shared_with(public)
    text = [pb.ChatMessage(role="user", content=b"x" * HUGE)]
    many = [pb.ChatMessage(role="u") for _ in range(HUGE // 8)]
    deep = [pb.ChatMessage(role="user", content=b'"' + b"[" * HUGE)]
    said = []
    for number, messages in enumerate((text, many, deep) * 4):
        model = MODEL if number % 2 else "none"
        asked = pb.ChatCompletionRequest(project=PROJECT, model=model, messages=messages, wallet=pb.Wallet())
        body = pb.ChatCompletionBody(req=asked).SerializeToString()
        said.append(question(key, attacker, Type.CHAT_COMPLETION, body, number))
        sealed = sealing.seal(secret, body)
        said.append(question(key, attacker, Type.CHAT_COMPLETION, sealed, 100 + number, own.public))
    await tell(attacker, key, *said)


@abuse
async def what_nobody_may_hear(attacker: Attacker) -> None:
    """Messages that end nodes of the existing network, answers to what was never asked, errors, and types that nobody knows."""
    key, other = new_key(), new_key()
    incomplete = pb.ChatCompletionBody(req=pb.ChatCompletionRequest(project=PROJECT, model=MODEL)).SerializeToString()
    said = [
        b"",
        os.urandom(200),
        pb.Message(type=2).SerializeToString(),
        question(other, attacker, Type.PEER_IDENTITY, bodies.EMPTY_QUESTION, 0),
        question(key, attacker, Type.CHAT_COMPLETION, incomplete, 1),
        question(key, attacker, Type.AI_PROJECT, bodies.EMPTY_ANSWER, 2),
        question(key, attacker, 9, b"", 3),
        question(key, attacker, 2**31 - 1, bytes(10_000), 4),
        encode(Envelope(9, peer_of(key), PeerId(attacker.victim.started.peer_id), "5", code=1010)),
    ]
    await tell(attacker, key, *(said * (QUESTIONS // len(said))))


@abuse
async def heartbeats_without_end(attacker: Attacker) -> None:
    """Nodes that do not exist, each with a thousand other models in every heartbeat."""
    for stranger in range(STRANGERS):
        key = new_key()
        said = []
        for number in range(3):
            names = tuple(f"model {number} {one} " + "m" * 60 for one in range(1000))
            offered = [Project(f"of {stranger}", names)]
            body = bodies.encode_projects(offered, NodeType.MODEL)
            said.append(encode(Envelope(Type.AI_PROJECT, peer_of(key), None, "", body=body, text=HEARTBEAT)))
        with trio.move_on_after(POUR_S / 5):
            await tell(attacker, key, *said)
    await projects(attacker)
