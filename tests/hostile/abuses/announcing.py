"""Lies about what nodes offer: on the offers topic, and in answers to a node that asks for offers."""

from __future__ import annotations

import os
import time

import trio
from libp2p.crypto.keys import KeyPair
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2 as pb

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind
from aicn.domain.offers import LIFE_S, Lost, NodeType, Offer, OfferedModel, OfferedProject, OffersAsked, OffersPage
from aicn.p2p.multistream import proposal
from aicn.p2p.muxed_stream import YamuxStream
from aicn.wire import control, offers
from aicn.wire.framing import encode_frame
from tests.hostile.abuses.gossip import TOPIC, pour, says, signed
from tests.hostile.abuses.identifying import IDENTIFY
from tests.hostile.attacker import Attacker, message, new_key, read_to_end, varint
from tests.hostile.table import POUR_S, abuse
from tests.hostile.victim import PROJECT

OFFERS = offers.topic(TOPIC)
STRANGERS = 200  # nodes that do not exist; a key costs an attacker as little as it costs us


def peer_of(key: KeyPair) -> PeerId:
    return PeerId(str(ID.from_pubkey(key.public_key)))


def announced(key: KeyPair, data: bytes, *, number: int = 1) -> pb.Message:
    """A message of the offers topic."""
    return signed(key, data, number=number.to_bytes(8, "big"), topic=OFFERS)


def offer(
    key: KeyPair, *, seq: int = 1, age_s: float = 0.0, life_s: float = LIFE_S, project: str = "X", models: int = 1
) -> bytes:
    """An offer of the owner of `key`."""
    issued = time.time() - age_s
    named = tuple(OfferedModel(f"model {number} " + "m" * 60, Kind.CHAT, slots=1) for number in range(models))
    made = Offer(
        peer_of(key), seq, issued, issued + life_s, NodeType.MODEL, (OfferedProject(project, named),), ("/aicn/x",)
    )
    return offers.encode_offer(made)


async def projects(attacker: Attacker) -> list[str]:
    """What the victim's user sees. The victim's own project is always there."""
    answer = (await attacker.post("/ai/projects/list", {})).json()
    names: list[str] = answer["data"]
    assert PROJECT in names
    return names


@abuse
async def junk_announcements(attacker: Attacker) -> None:
    """Signed messages of the offers topic that are no announcement: bytes, nothing, a megabyte, an offer cut off."""
    key = new_key()
    whole = offer(key)
    junk = [os.urandom(100), b"", bytes(900_000), whole[:-3], whole + b"\xff", b"\x0a\x00", b"\x12\x00"]
    messages = [announced(key, data, number=number) for number, data in enumerate(junk)]
    stream = await says(attacker, pb.RPC(publish=messages[:2] + messages[3:]), pb.RPC(publish=messages[2:3]), key=key)
    await pour(stream, pb.RPC(publish=messages[3:]))
    await projects(attacker)


@abuse
async def offers_at_the_wrong_time(attacker: Attacker) -> None:
    """Offers from tomorrow, of last year, that live for a year, that end before they begin: nobody sees them."""
    wrong = ({"age_s": -86_400}, {"age_s": 3e7}, {"life_s": 3e7}, {"life_s": -1}, {"seq": 0}, {"age_s": 300})
    messages = []
    for times in wrong:
        key = new_key()
        messages.append(announced(key, offer(key, project="wrong time", **times)))  # type: ignore[arg-type]
    await says(attacker, pb.RPC(publish=messages))
    await trio.sleep(POUR_S)
    assert "wrong time" not in await projects(attacker)


@abuse
async def offers_without_end(attacker: Attacker) -> None:
    """One node with a new offer of a thousand models every millisecond."""
    key = new_key()
    stream = await says(attacker, key=key)
    messages = [announced(key, offer(key, seq=seq, models=1000), number=seq) for seq in range(1, 60)]
    with trio.move_on_after(2 * POUR_S):
        for one in messages:
            await stream.send_all(message(pb.RPC(publish=[one]).SerializeToString()))
    await projects(attacker)


@abuse
async def crowd_of_strangers(attacker: Attacker) -> None:
    """Two hundred nodes that do not exist, each with three hundred models of its own, told by one peer."""
    keys = [new_key() for _ in range(STRANGERS)]
    messages = [announced(key, offer(key, project=f"of {n}", models=300)) for n, key in enumerate(keys)]
    stream = await says(attacker)
    with trio.move_on_after(4 * POUR_S):
        for one in messages:
            await stream.send_all(message(pb.RPC(publish=[one]).SerializeToString()))
    await projects(attacker)


@abuse
async def everybody_is_lost(attacker: Attacker) -> None:
    """Says of the victim, of itself and of a thousand others that they are gone: the victim stays, and does not ask a thousand nodes."""
    key = new_key()
    victim = PeerId(attacker.victim.started.peer_id)
    stream = await says(attacker, pb.RPC(publish=[announced(key, offer(key, project="still here"))]), key=key)
    gone = [victim, peer_of(key), *(peer_of(new_key()) for _ in range(100))]
    messages = [
        announced(key, offers.encode_lost(Lost(node, 2**60)), number=number) for number, node in enumerate(gone, 2)
    ]
    for one in messages:
        await stream.send_all(message(pb.RPC(publish=[one]).SerializeToString()))
    await pour(stream, pb.RPC(publish=messages[:20]))
    assert "still here" in await projects(attacker)


@abuse
async def questions_for_offers(attacker: Attacker) -> None:
    """A thousand times all that the victim knows, behind ids that are none and in the name of nobody."""
    peer = await attacker.peer()
    odd = OffersAsked(after="z" * 10_000), OffersAsked(only="\0" * 100), OffersAsked(after="1", only="1")
    with trio.move_on_after(4 * POUR_S):
        async with trio.open_nursery() as nursery:
            for asked in (OffersAsked(), *odd) * 50:
                frames = control.encode_request(control.OFFERS, asked) * 5
                nursery.start_soon(peer.ask, control.PROTOCOL, frames)


async def joins(attacker: Attacker, *answers: bytes) -> int:
    """Connects as a node that has offers to tell, and answers the victim's questions with `answers` in turn, the last of them for ever,
    until it asks no more; how often it has asked."""
    asked = 0

    async def serve(stream: YamuxStream) -> None:
        nonlocal asked
        hello = await stream.receive_some()
        if IDENTIFY.encode() in hello:
            claim = Identify(protocols=[control.PROTOCOL], agent_version="aicn/hostile")
            await stream.send_all(proposal(IDENTIFY) + message(claim.SerializeToString()))
        elif control.PROTOCOL.encode() in hello:
            await stream.send_all(proposal(control.PROTOCOL) + answers[min(asked, len(answers) - 1)])
            asked += 1
        else:
            stream.abort()
            return
        stream.send_eof()
        await read_to_end(stream)

    await attacker.peer(serve=serve)
    before = -1
    while asked != before:
        before = asked
        await trio.sleep(POUR_S)
    return asked


def page(*messages: bytes, more_after: str = "") -> bytes:
    return control.encode_answer(control.OFFERS, OffersPage(messages, more_after))


@abuse
async def junk_told_to_a_node_that_asks(attacker: Attacker) -> None:
    """Asked for offers: bytes that are none, a gigabyte, signed messages of another topic, with a wrong signature, of somebody else."""
    key = new_key()
    elsewhere = signed(key, offer(key, project="elsewhere"), number=b"\1" * 8)
    forged = announced(key, offer(key, project="forged"))
    forged.signature = os.urandom(64)
    lies = [elsewhere.SerializeToString(), forged.SerializeToString(), os.urandom(500), b""]
    for data in (*(page(lie) for lie in lies), varint(1 << 30), encode_frame(os.urandom(100)), page(*[b""] * 8000)):
        assert await joins(attacker, data) >= 1
    assert not {"elsewhere", "forged"} & set(await projects(attacker))


@abuse
async def list_of_offers_without_end(attacker: Attacker) -> None:
    """Asked for offers: a page, and another one behind it, and so on; or the same one again."""
    ids = sorted(peer_of(new_key()) for _ in range(500))
    with trio.fail_after(10):
        assert await joins(attacker, *(page(more_after=node) for node in ids)) < 300
        assert await joins(attacker, page(more_after=ids[0])) <= 4
