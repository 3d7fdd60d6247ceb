"""Pubsub's sans-io parts: messages and signatures, what is remembered, the mesh, outboxes and rates."""

from __future__ import annotations

import hashlib
import json
import random
import time
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto import ed25519, rsa, secp256k1
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID
from libp2p.pubsub.pb.rpc_pb2 import RPC, ControlMessage, Message

from aicn.errors import ProtocolViolation, TooLarge
from aicn.p2p import fixes
from aicn.p2p.pubsub import memory, mesh, messages
from aicn.p2p.pubsub.bucket import Bucket
from aicn.p2p.pubsub.memory import GOSSIP, HISTORY, SEEN_S, Recent, Seen
from aicn.p2p.pubsub.mesh import DEGREE, DEGREE_HIGH, Mesh
from aicn.p2p.pubsub.messages import LARGEST_RPC, Signer, check, message_id, parse
from aicn.p2p.pubsub.outbox import Outbox

TOPIC = "topic"
VECTOR = json.loads((Path(__file__).parents[2] / "vectors/legacy/pubsub_rpc.json").read_text())


def peer(number: int) -> ID:
    return ID(b"\x12\x20" + hashlib.sha256(number.to_bytes(8, "big")).digest())


# ---- messages ----


def test_messages_of_the_existing_network_are_taken() -> None:
    subscription, publication = (parse(bytes.fromhex(one["rpc_hex"])) for one in VECTOR["rpcs"])
    assert [(one.subscribe, one.topicid) for one in subscription.subscriptions] == [(True, "DeepBrainChain")]
    (message,) = publication.publish
    assert str(check(message)) == VECTOR["sender"]["peer_id"]
    message.data += b"x"
    with pytest.raises(ProtocolViolation):
        check(message)


def test_ours_look_as_theirs() -> None:
    keys = secp256k1.create_new_key_pair()
    message = Signer(keys).message(TOPIC, b"data")
    assert check(message) == ID.from_pubkey(keys.public_key)
    assert not message.HasField("key")
    assert list(message.topicIDs) == [TOPIC]
    assert len(message.seqno) == 8
    assert message.seqno[0]


@pytest.mark.parametrize(
    "keys",
    [ed25519.create_new_key_pair(), secp256k1.create_new_key_pair(), rsa.create_new_key_pair()],
    ids=["ed25519", "secp256k1", "rsa"],
)
def test_every_kind_of_key(keys: KeyPair) -> None:
    message = Signer(keys).message(TOPIC, b"data")
    if isinstance(keys.public_key, rsa.RSAPublicKey):
        with pytest.raises(ProtocolViolation, match="key"):
            check(message)
        message.key = keys.public_key.serialize()
    check(message)
    message.key = secp256k1.create_new_key_pair().public_key.serialize()
    if isinstance(keys.public_key, rsa.RSAPublicKey):
        with pytest.raises(ProtocolViolation, match="somebody else"):
            check(message)


@pytest.mark.parametrize(("seqno", "taken"), [(b"\x01", True), (bytes(7), True), (bytes(8), True), (bytes(9), False)])
def test_sequence_numbers_without_leading_zeros_are_taken(seqno: bytes, taken: bool) -> None:
    """js-libp2p's floodsub makes one in 256 of its messages so."""
    keys = secp256k1.create_new_key_pair()
    message = Message(from_id=ID.from_pubkey(keys.public_key).to_bytes(), seqno=seqno, topicIDs=[TOPIC])
    message.signature = keys.private_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    if taken:
        check(message)
    else:
        with pytest.raises(ProtocolViolation):
            check(message)


def test_keys_that_take_long_to_check_with_are_refused() -> None:
    from Crypto.PublicKey import RSA

    fixes.apply()
    usual = RSA.generate(2048)
    slow = rsa.RSAPublicKey(RSA.construct((usual.n, usual.n - 2), consistency_check=False))
    message = Message(
        from_id=ID.from_pubkey(slow).to_bytes(), seqno=b"12345678", signature=bytes(256), key=slow.serialize()
    )
    with pytest.raises(ProtocolViolation, match="key"):  # fixes/rsa.py refuses it, here as in handshakes
        check(message)
    message.key = bytes(100_000)
    with pytest.raises(ProtocolViolation, match="key"):
        check(message)


@pytest.mark.parametrize(
    "change",
    [{"seqno": b""}, {"seqno": b"1"}, {"signature": b""}, {"signature": bytes(64)}, {"from_id": b""}, {"data": b""}],
)
def test_what_is_not_signed(change: dict[str, bytes]) -> None:
    message = Signer(secp256k1.create_new_key_pair()).message(TOPIC, b"data")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ProtocolViolation):
        check(message)


def test_numbers_grow_over_restarts_and_when_the_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = secp256k1.create_new_key_pair()
    numbers = [Signer(keys).message(TOPIC, b"").seqno for _ in range(20)]
    assert numbers == sorted(set(numbers))
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    signer = Signer(keys)
    numbers = [signer.message(TOPIC, b"").seqno for _ in range(20)]
    assert numbers == sorted(set(numbers))


def test_the_publisher_is_told_what_is_too_large() -> None:
    signer = Signer(secp256k1.create_new_key_pair())
    largest = LARGEST_RPC - len(RPC(publish=[signer.message(TOPIC, b"")]).SerializeToString()) - 16
    signer.message(TOPIC, bytes(largest))
    with pytest.raises(TooLarge, match=str(LARGEST_RPC)):
        signer.message(TOPIC, bytes(largest + 32))


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        rpc = parse(data)
    except ProtocolViolation:
        return
    for message in rpc.publish:
        with pytest.raises(ProtocolViolation):
            check(message)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_sender_and_key(sender: bytes, key: bytes) -> None:
    for one in (sender, b"\x00" + bytes([len(key)]) + key):
        with pytest.raises(ProtocolViolation):
            check(Message(from_id=one, seqno=bytes(8), signature=b"x", key=key))


# ---- memory ----


def test_seen_messages_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    seen.add(b"a", 0)
    seen.add(b"b", 1)
    seen.expire(SEEN_S)
    assert b"a" not in seen
    assert b"b" in seen
    monkeypatch.setattr(memory, "_MOST_SEEN", 2)
    for one in (b"c", b"d"):
        seen.add(one, 2)
    assert b"b" not in seen
    assert b"d" in seen


def test_recent_messages() -> None:
    recent = Recent()
    for beat in range(HISTORY + 1):
        recent.put(b"%d" % beat, TOPIC, b"frame")
        recent.put(b"other %d" % beat, "other", b"frame")
        if beat < HISTORY:
            recent.shift()
    assert recent.ids(TOPIC, 10) == [b"%d" % (HISTORY - age) for age in range(GOSSIP)]
    assert recent.ids(TOPIC, 2) == [b"5", b"4"]
    assert recent.give(b"0", peer(1)) is None
    assert recent.give(b"1", peer(1)) == b"frame"
    for _ in range(HISTORY):
        recent.shift()
    assert len(recent) == 0
    assert recent._bytes == 0


def test_recent_messages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MOST_BYTES", 100)
    monkeypatch.setattr(memory, "_MOST_MESSAGES", 5)
    recent = Recent()
    for number in range(20):
        recent.put(b"%d" % number, TOPIC, bytes(30))
        assert len(recent) <= 3
        assert recent._bytes <= 100
    for number in range(20, 40):
        recent.put(b"%d" % number, TOPIC, b"")
        assert len(recent) <= 5
    assert recent.ids(TOPIC, 10) == [b"%d" % number for number in range(39, 34, -1)]


# ---- mesh ----


def gossips(mesh: Mesh, count: int, *, now: float = 0.0) -> list[ID]:
    peers = [peer(number) for number in range(count)]
    for one in peers:
        mesh.add(one, gossips=True)
        mesh.subscribed(one, TOPIC, now)
    return peers


def new_mesh() -> Mesh:
    made = Mesh(chance=random.Random(1))
    made.join(TOPIC, 0.0)
    return made


def control(**entries: list[dict[str, object]]) -> ControlMessage:
    message = ControlMessage()
    for name, listed in entries.items():
        for one in listed:
            getattr(message, name).add(**one)
    return message


def grafted(taken: dict[ID, ControlMessage]) -> set[ID]:
    return {one for one, message in taken.items() if message.graft}


def pruned(taken: dict[ID, ControlMessage]) -> dict[ID, int]:
    return {one: message.prune[0].backoff for one, message in taken.items() if message.prune}


def test_the_mesh_is_filled_at_once_and_up_to_its_degree() -> None:
    made = new_mesh()
    gossips(made, 20)
    assert len(made.topics[TOPIC]) == 5
    assert grafted(made.take_control()) == made.topics[TOPIC]
    made.remove(next(iter(made.topics[TOPIC])))
    made.heartbeat(1.0)
    assert len(made.topics[TOPIC]) == DEGREE
    assert made.take_control()
    assert not made.take_control()


def test_a_mesh_that_is_too_large_is_cut() -> None:
    made = new_mesh()
    peers = gossips(made, 30)
    made.take_control()
    for one in peers[:DEGREE_HIGH]:
        made.control(one, control(graft=[{"topicID": TOPIC}]), 0.0)
    assert len(made.topics[TOPIC]) == DEGREE_HIGH
    made.control(peers[-1], control(graft=[{"topicID": TOPIC}]), 0.0)
    assert pruned(made.take_control()) == {peers[-1]: 60}
    made.topics[TOPIC].add(peers[-1])
    made.heartbeat(1.0)
    assert len(made.topics[TOPIC]) == DEGREE
    assert len(pruned(made.take_control())) == DEGREE_HIGH + 1 - DEGREE


def test_a_back_off_is_kept_by_both_sides() -> None:
    made = new_mesh()
    (one,) = gossips(made, 1)
    made.take_control()
    made.control(one, control(prune=[{"topicID": TOPIC, "backoff": 10}]), 0.0)
    made.heartbeat(9.0)
    assert not grafted(made.take_control())
    made.control(one, control(graft=[{"topicID": TOPIC}]), 9.0)  # too early
    assert pruned(made.take_control()) == {one: 60}
    made.heartbeat(68.0)
    assert not made.topics[TOPIC]
    made.heartbeat(70.0)
    assert made.topics[TOPIC] == {one}


def test_a_back_off_survives_a_reconnect_and_has_a_limit() -> None:
    made = new_mesh()
    (one,) = gossips(made, 1)
    made.control(one, control(prune=[{"topicID": TOPIC, "backoff": 2**63}]), 0.0)
    made.remove(one)
    gossips(made, 1)
    assert not made.topics[TOPIC]
    made.heartbeat(3601.0)
    assert made.topics[TOPIC] == {one}


def test_who_gets_what() -> None:
    made = new_mesh()
    peers = gossips(made, 20)
    flood = peer(100)
    made.add(flood, gossips=False)
    assert flood not in made.receivers(TOPIC, source=None)
    made.subscribed(flood, TOPIC, 0.0)
    member, refusing = sorted(made.topics[TOPIC], key=ID.to_bytes)[:2]
    made.control(refusing, control(prune=[{"topicID": TOPIC}]), 0.0)
    assert set(made.receivers(TOPIC, source=None)) == {*peers, flood}
    forwarded = set(made.receivers(TOPIC, source=peers[-1], origin=peer(999)))
    assert forwarded == {*made.topics[TOPIC], flood, refusing} - {peers[-1]}
    assert flood not in made.receivers(TOPIC, source=flood)
    assert member not in made.receivers(TOPIC, source=flood, origin=member)
    made.control(refusing, control(graft=[{"topicID": TOPIC}]), 100.0)
    made.heartbeat(101.0)
    assert refusing not in made._refused[TOPIC]


def test_who_may_rely_on_us_gets_everything_also_when_the_mesh_is_full() -> None:
    made = new_mesh()
    gossips(made, 20)
    late = peer(100)
    made.add(late, gossips=True)
    made.subscribed(late, TOPIC, 0.0)
    assert late not in made.receivers(TOPIC, source=peer(0))
    made.trusts(late, True)
    assert late in made.receivers(TOPIC, source=peer(0))
    made.trusts(late, False)
    assert late not in made.receivers(TOPIC, source=peer(0))


def test_leaving_and_parting() -> None:
    made = new_mesh()
    peers = gossips(made, 4)
    made.take_control()
    made.unsubscribed(peers[0], TOPIC)
    made.part(peers[1])
    assert made.topics[TOPIC] == set(peers[2:])
    made.heartbeat(1.0)
    assert made.topics[TOPIC] == set(peers[1:])
    made.leave(TOPIC, 2.0)
    assert pruned(made.take_control()) == dict.fromkeys(peers[1:], 10)
    assert made.receivers(TOPIC, source=peers[1]) == []
    made.control(peers[1], control(graft=[{"topicID": TOPIC}], ihave=[{"topicID": TOPIC, "messageIDs": [b"x"]}]), 3.0)
    assert not made.take_control()


def test_gossip_goes_to_whom_the_mesh_leaves_out() -> None:
    made = new_mesh()
    gossips(made, 40)
    made.take_control()
    made.seen.add(b"id", 0.0)
    made.recent.put(b"id", TOPIC, b"frame")
    made.heartbeat(1.0)
    told = {one for one, message in made.take_control().items() if message.ihave}
    assert len(told) == 8  # a quarter of 34
    assert not told & made.topics[TOPIC]
    one = told.pop()
    assert made.control(one, control(iwant=[{"messageIDs": [b"id", b"unknown"]}]), 1.0) == [b"frame"]


def test_floods_of_ihave_and_iwant_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "_MOST_WANTED", 50)
    monkeypatch.setattr(mesh, "_MOST_GIVEN", 20)
    made = new_mesh()
    one, other = gossips(made, 2)
    made.take_control()

    def wanted(of: ID) -> int:
        return sum(len(iwant.messageIDs) for iwant in made.take_control().get(of, ControlMessage()).iwant)

    for number in range(100):
        ids = [b"%d %d" % (number, index) for index in range(20)]
        made.control(one, control(ihave=[{"topicID": TOPIC, "messageIDs": ids}]), 0.0)
    assert wanted(one) == 50
    made.control(other, control(ihave=[{"topicID": TOPIC, "messageIDs": [b"0 0", b"new", b"x" * 200]}]), 0.0)
    assert wanted(other) == 1  # what was asked for is not asked for again at once
    made.heartbeat(4.0)
    made.control(other, control(ihave=[{"topicID": TOPIC, "messageIDs": [b"0 0"]}]), 4.0)
    assert wanted(other) == 1
    for number in range(10):
        made.recent.put(b"%d" % number, TOPIC, b"frame")
    given = made.control(one, control(iwant=[{"messageIDs": [b"%d" % (n % 10) for n in range(1000)]}]), 4.0)
    assert len(given) == 20


def test_what_peers_can_make_us_remember_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "_MOST_BACKOFFS", 50)
    made = new_mesh()
    (one,) = gossips(made, 1)
    made.take_control()
    for number in range(1000):
        made.subscribed(one, f"topic {number}", 0.0)
        made.control(one, control(prune=[{"topicID": f"topic {number}"}], graft=[{"topicID": f"topic {number}"}]), 0.0)
    made.subscribed(one, "x" * 1000, 0.0)
    for number in range(1000):
        made.unsubscribed(one, f"never {number}")
    assert set(made._refused) <= {TOPIC}
    assert len(made._peers[one].topics) == 128
    assert not made._backoff
    for number in range(100):
        made.add(peer(number), gossips=True)
        made.control(peer(number), control(prune=[{"topicID": TOPIC}]), 0.0)
    assert len(made._backoff) == 50
    made.take_control()
    for _ in range(100):
        made.control(one, control(graft=[{"topicID": TOPIC}]), 0.0)
    assert len(made.take_control()[one].prune) == 1
    made.control(one, control(idontwant=[{"messageIDs": [b"x"]}]), 0.0)


def test_control_of_floodsub_peers_is_ignored() -> None:
    made = new_mesh()
    made.add(peer(1), gossips=False)
    made.subscribed(peer(1), TOPIC, 0.0)
    made.control(peer(1), control(graft=[{"topicID": TOPIC}]), 0.0)
    assert not made.topics[TOPIC]
    assert not made.take_control()


# ---- rates ----


async def test_a_bucket(autojump_clock: trio.testing.MockClock) -> None:
    bucket = Bucket(rate=10.0, burst=5.0)
    began = trio.current_time()
    for _ in range(25):
        await bucket.take(1.0)
    assert trio.current_time() - began == pytest.approx(2.0)
    await trio.sleep(100)
    assert bucket.left() == 5.0


async def test_an_outbox_paces_messages_and_sends_control_first(autojump_clock: trio.testing.MockClock) -> None:
    outbox = Outbox()
    for number in range(100):
        outbox.add_message(b"%02d" % number)
    outbox.add_control(b"control")
    began = trio.current_time()
    first = await outbox.take()
    assert first == b"control" + b"".join(b"%02d" % number for number in range(16))
    sent = b""
    while len(outbox):
        sent += await outbox.take()
    assert sent == b"".join(b"%02d" % number for number in range(16, 100))
    assert trio.current_time() - began == pytest.approx(0.084, abs=0.002)


async def test_an_outbox_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    outbox = Outbox()
    for _ in range(20):
        outbox.add_message(bytes(1_000_000))
    assert (len(outbox), outbox.lost) == (16, 4)
    for _ in range(10_000):
        outbox.add_message(b"")
        outbox.add_control(b"c")
    assert len(outbox) == 4096
    taken = await outbox.take()
    assert taken.startswith(b"c" * 64)
    assert len(taken) <= 64 + 2_000_000
    outbox.add_control(b"c")
    outbox.drop_control()
    assert len(outbox)
    outbox.drop_messages()
    with trio.move_on_after(10) as waiting:
        await outbox.take()
    assert waiting.cancelled_caught
    assert outbox._bytes == 0


async def test_who_waits_for_an_empty_outbox_wakes(autojump_clock: trio.testing.MockClock) -> None:
    outbox, taken = Outbox(), []

    async def reader() -> None:
        while len(taken) < 2:
            taken.append(await outbox.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.sleep(1)
        outbox.add_message(b"one")
        await trio.sleep(1)
        outbox.add_control(b"two")
    assert taken == [b"one", b"two"]


def test_ids_are_those_of_go() -> None:
    message = Message(from_id=b"from", seqno=b"12345678")
    assert message_id(message) == b"from12345678"
    assert messages.frame(message)[0] == len(messages.frame(message)) - 1
