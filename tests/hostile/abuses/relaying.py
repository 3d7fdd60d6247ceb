"""Abuses of relays, AutoNAT and hole punching: of all that makes a node connect to somebody for somebody else."""

from __future__ import annotations

import os

import trio
from libp2p.host.autonat.pb.autonat_pb2 import Message as AutoNat
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, Limit, Status, StopMessage
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from multiaddr import Multiaddr

from aicn.p2p.multistream import proposal
from aicn.p2p.muxed_stream import YamuxStream
from tests.hostile.attacker import Attacker, Peer, enough, message, new_key, varint
from tests.hostile.table import POUR_S, abuse

HOP, STOP = "/libp2p/circuit/relay/0.2.0/hop", "/libp2p/circuit/relay/0.2.0/stop"
AUTONAT, DCUTR = "/libp2p/autonat/1.0.0", "/libp2p/dcutr"
THIRD = "127.0.0.77"  # a third party that must never hear of the victim
RESERVE = message(HopMessage(type=HopMessage.RESERVE).SerializeToString())


class ThirdParty:
    """Somebody who is in the victim's reach and has nothing to do with it; counts who connects."""

    def __init__(self) -> None:
        self.called = 0
        self.address = b""

    async def listen(self, nursery: trio.Nursery) -> None:
        """Listen until `nursery` ends."""
        listeners = await trio.open_tcp_listeners(0, host=THIRD)
        self.address = Multiaddr(f"/ip4/{THIRD}/tcp/{listeners[0].socket.getsockname()[1]}").to_bytes()
        nursery.start_soon(trio.serve_listeners, self._count, listeners)

    async def _count(self, stream: trio.SocketStream) -> None:
        self.called += 1
        await stream.aclose()


async def third_party(attacker: Attacker) -> ThirdParty:
    third = ThirdParty()
    await third.listen(attacker.nursery)
    return third


async def told(peer: Peer, protocol: str, data: bytes) -> bytes:
    """The first thing that the victim answers; nothing if it ends the stream instead."""
    with enough, trio.move_on_after(1):
        stream = await peer.stream(protocol, data)
        answer = b""
        while len(answer) <= len(proposal(protocol)):
            part = await stream.receive_some()
            if not part:
                break
            answer += part
        return answer.removeprefix(proposal(protocol))
    return b""


def connect_to(target: bytes) -> bytes:
    """The question for a circuit to the peer with the id `target`."""
    return message(HopMessage(type=HopMessage.CONNECT, peer={"id": target}).SerializeToString())


@abuse
async def relay_junk(attacker: Attacker) -> None:
    """Messages to the relay that are none, are too large, never end, or have no type, no peer, a status."""
    peer = await attacker.peer()
    status = message(HopMessage(type=HopMessage.STATUS, status=Status.OK).SerializeToString())
    junk = (
        message(os.urandom(300)),
        varint(1 << 30),
        b"\xff" * 20,
        message(b""),
        connect_to(b""),
        connect_to(bytes(4000)),
        status,
    )
    for protocol in (HOP, STOP):
        for data in junk:
            await told(peer, protocol, data)


@abuse
async def relay_question_held_open(attacker: Attacker) -> None:
    """Hundreds of questions to the relay that stop in the middle."""
    peer = await attacker.peer()
    for protocol in (HOP, STOP):
        for _ in range(200):
            await peer.stream(protocol, b"\x10\x08")


@abuse
async def reservation_flood(attacker: Attacker) -> None:
    """One peer that reserves again and again, and forty that each reserve and leave."""
    peer = await attacker.peer()
    with enough, trio.move_on_after(POUR_S):
        while True:
            (await peer.stream(HOP, RESERVE)).send_eof()
            await trio.lowlevel.checkpoint()
    for _ in range(40):
        other = await attacker.peer()
        await told(other, HOP, RESERVE)
        await other.muxer.close()


@abuse
async def circuits_to_nobody(attacker: Attacker) -> None:
    """Circuits to peers without a place, to the victim, to oneself."""
    key = new_key()
    peer = await attacker.peer(key)
    own = ID.from_pubkey(key.public_key)
    await told(peer, HOP, RESERVE)
    for target in (
        own,
        ID.from_base58(attacker.victim.started.peer_id),
        *(ID.from_pubkey(new_key().public_key) for _ in range(20)),
    ):
        answer = await told(peer, HOP, connect_to(target.to_bytes()))
        if answer:
            refusal = HopMessage.FromString(answer[1:])
            assert refusal.status != Status.OK


@abuse
async def circuit_whose_end_is_silent(attacker: Attacker) -> None:
    """A peer with a place that never answers the relay, and hundreds who want to be connected to it."""
    key = new_key()

    async def silent(stream: YamuxStream) -> None:
        await trio.sleep_forever()

    target = await attacker.peer(key, serve=silent)
    await told(target, HOP, RESERVE)
    source = await attacker.peer()
    for _ in range(300):
        await source.stream(HOP, connect_to(ID.from_pubkey(key.public_key).to_bytes()))


@abuse
async def circuit_filled_from_one_end(attacker: Attacker) -> None:
    """A circuit into which one end pours what the other never reads: the relay holds no more than its windows."""
    key = new_key()

    async def deaf(stream: YamuxStream) -> None:
        if STOP.encode() in await stream.receive_some():
            agreed = StopMessage(type=StopMessage.STATUS, status=Status.OK)
            await stream.send_all(proposal(STOP) + message(agreed.SerializeToString()))
        await trio.sleep_forever()

    target = await attacker.peer(key, serve=deaf)
    granted = HopMessage.FromString((await told(target, HOP, RESERVE))[1:])
    assert granted.status == Status.OK
    source = await attacker.peer()
    stream = await source.stream(HOP, connect_to(ID.from_pubkey(key.public_key).to_bytes()))
    poured = 0
    with trio.move_on_after(2 * POUR_S):
        while True:
            await stream.send_all(bytes(10_000))
            poured += 10_000
    assert 256 << 10 <= poured < 8 << 20


@abuse
async def uninvited_circuit(attacker: Attacker) -> None:
    """A relay that the victim never asked says that somebody connects, and then says nothing or junk."""
    peer = await attacker.peer()
    somebody = ID.from_pubkey(new_key().public_key).to_bytes()
    opening = StopMessage(type=StopMessage.CONNECT, peer={"id": somebody}, limit=Limit(duration=1, data=1))
    for tail in (b"", os.urandom(1000), proposal("/noise")):
        for _ in range(50):
            await peer.stream(STOP, message(opening.SerializeToString()) + tail)


@abuse
async def autonat_towards_a_third_party(attacker: Attacker) -> None:
    """The victim is asked to dial somebody else, under every name: nobody else is dialled."""
    third = await third_party(attacker)
    key = new_key()
    peer = await attacker.peer(key)
    for name in (ID.from_pubkey(key.public_key).to_bytes(), ID.from_pubkey(new_key().public_key).to_bytes(), b""):
        question = AutoNat(type=AutoNat.DIAL)
        question.dial.peer.id = name
        question.dial.peer.addrs.extend([third.address] * 20)
        for _ in range(10):
            await told(peer, AUTONAT, message(question.SerializeToString()))
    assert third.called == 0


@abuse
async def autonat_junk(attacker: Attacker) -> None:
    """Questions that are none, name a thousand addresses, or stop in the middle."""
    peer = await attacker.peer()
    question = AutoNat(type=AutoNat.DIAL)
    question.dial.peer.addrs.extend(os.urandom(20) for _ in range(100))
    for data in (message(os.urandom(300)), varint(1 << 30), message(b""), message(question.SerializeToString())):
        await told(peer, AUTONAT, data)
    for _ in range(200):
        await peer.stream(AUTONAT, b"\x20\x08")


@abuse
async def hole_punched_towards_a_third_party(attacker: Attacker) -> None:
    """Hole punching on a direct connection, where there is no hole, towards somebody else."""
    third = await third_party(attacker)
    peer = await attacker.peer()
    connect = message(HolePunch(type=HolePunch.CONNECT, ObsAddrs=[third.address] * 20).SerializeToString())
    sync = message(HolePunch(type=HolePunch.SYNC).SerializeToString())
    for _ in range(20):
        await peer.stream(DCUTR, connect + sync)
    await trio.sleep(POUR_S)
    assert third.called == 0


@abuse
async def hole_punching_junk(attacker: Attacker) -> None:
    """Messages that are none, and streams that stop in the middle of them."""
    peer = await attacker.peer()
    for data in (message(os.urandom(300)), varint(1 << 30), message(b""), b"\x20\x08", b"\xff" * 20):
        for _ in range(20):
            with enough:
                await peer.stream(DCUTR, data)
