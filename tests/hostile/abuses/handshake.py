"""Abuses on the bare connection: before anybody knows who is there."""

from __future__ import annotations

import os

import coincurve
import pytest
import trio
from Crypto.Util.asn1 import DerSequence
from libp2p.abc import ISecureConn
from libp2p.crypto.keys import KeyPair, KeyType
from libp2p.crypto.pb.crypto_pb2 import PublicKey
from libp2p.crypto.secp256k1 import Secp256k1PrivateKey, Secp256k1PublicKey
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID

from aicn.p2p.multistream import HEADER, encode, proposal
from aicn.p2p.upgrade import Upgrader
from tests.hostile.attacker import STREAMS, Attacker, TurnedAway, connect_and_reset, new_key, varint
from tests.hostile.table import POUR_S, abuse, abuse_of_private_network

CROWD = 300  # connections of one attacker at a time; more than a node takes handshakes at once
NOISE = proposal("/noise")


async def is_closed(stream: trio.SocketStream, *, within_s: float = 5.0) -> None:
    """The victim closes the connection now."""
    with trio.fail_after(within_s):
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass  # reset: it had not read all that we said


@abuse
async def silent_crowd(attacker: Attacker) -> None:
    """Hundreds of connections that say nothing."""
    await attacker.many(CROWD, b"")


@abuse
async def half_a_greeting_held_open(attacker: Attacker) -> None:
    """Hundreds of connections that stop inside the first message."""
    await attacker.many(CROWD, HEADER[:7])


@abuse
async def greeting_byte_by_byte(attacker: Attacker) -> None:
    """Slow loris: a byte from each connection now and then."""
    streams = await attacker.many(50, b"")
    with trio.move_on_after(POUR_S):
        for byte in HEADER:
            for stream in streams:
                await stream.send_all(bytes((byte,)))
            await trio.sleep(0.05)


@abuse
async def http_at_the_wrong_door(attacker: Attacker) -> None:
    """A web client: closed at its first wrong byte."""
    for stream in await attacker.many(20, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        await is_closed(stream)


@abuse
async def random_bytes(attacker: Attacker) -> None:
    """64 KiB of noise, which is no Noise."""
    for _ in range(50):
        stream = await attacker.tcp()
        try:
            await stream.send_all(os.urandom(1 << 16))
        except trio.BrokenResourceError:
            continue
        await is_closed(stream)


@abuse
async def thousand_security_proposals(attacker: Attacker) -> None:
    """Any number of names for what nobody speaks."""
    stream = await attacker.tcp(HEADER)
    try:
        await stream.send_all(b"".join(encode(f"/security/{number}") for number in range(1000)))
    except trio.BrokenResourceError:
        return
    await is_closed(stream)


@abuse
async def endless_ls(attacker: Attacker) -> None:
    """`ls`, which asks for the list of all protocols, without end."""
    stream = await attacker.tcp(HEADER)
    with trio.move_on_after(POUR_S):
        while True:
            await stream.send_all(encode("ls") * 100)
    raise AssertionError("still taken")


@abuse
async def huge_name(attacker: Attacker) -> None:
    """A protocol name of a megabyte, announced and sent."""
    stream = await attacker.tcp(HEADER + varint(1 << 20))
    try:
        await stream.send_all(b"/" * (1 << 20))
    except trio.BrokenResourceError:
        return
    await is_closed(stream)


@abuse
async def endless_varint(attacker: Attacker) -> None:
    """A length that never ends."""
    await is_closed(await attacker.tcp(HEADER + b"\xff" * 1000))


@abuse
async def newline_games(attacker: Attacker) -> None:
    """Messages without a newline, with only one, with many, and empty ones."""
    for text in (b"\x06/noise", b"\x01\n" * 100, b"\x09/noise\n\n\n", b"\x00" * 100, b"\x03\xff\xfe\n"):
        stream = await attacker.tcp(HEADER + text)
        with trio.move_on_after(0.2):
            await stream.receive_some()


@abuse
async def junk_after_noise(attacker: Attacker) -> None:
    """Noise is agreed on; what follows is not Noise."""
    for size in (1, 31, 32, 33, 96, 1000, 65535):
        record = size.to_bytes(2, "big") + os.urandom(size)
        await is_closed(await attacker.tcp(NOISE + record + record))


@abuse
async def half_a_noise_message(attacker: Attacker) -> None:
    """Hundreds of connections that announce the largest record and send the half of it."""
    await attacker.many(CROWD, NOISE + b"\xff\xff" + bytes(30_000))


@abuse
async def noise_records_of_nothing(attacker: Attacker) -> None:
    """Empty records instead of a handshake."""
    stream = await attacker.tcp(NOISE + b"\0\0" * 10_000)
    await is_closed(stream)


class _Recorder(TrioTCPStream):
    """A connection that remembers what was written to it."""

    written = b""

    async def write(self, data: bytes) -> None:
        self.written += data
        await super().write(data)


@abuse
async def replayed_handshake(attacker: Attacker) -> None:
    """What another peer said in its handshake, word for word: fails, for the victim's part is fresh."""
    recorder = _Recorder(await attacker.tcp())
    upgrader = Upgrader(new_key(), psk=None, streams_per_connection=STREAMS)
    await upgrader.outbound(RawConnection(recorder, True), ID.from_base58(attacker.victim.started.peer_id))
    assert len(recorder.written) > 200
    for _ in range(20):
        await is_closed(await attacker.tcp(recorder.written))


class _GiantKey(Secp256k1PublicKey):
    """Says that it is an RSA key with an exponent of 72,000 bits: much work for whoever parses it."""

    _data = PublicKey(
        key_type=KeyType.RSA.value, data=DerSequence([(1 << 4095) + 1, (1 << 72_000) + 1]).encode()
    ).SerializeToString()

    def serialize(self) -> bytes:
        return self._data


class _OwnerOfGiantKey(Secp256k1PrivateKey):
    """The private half."""

    def get_public_key(self) -> _GiantKey:
        return _GiantKey(self.impl.public_key)


@abuse
async def keys_that_take_long_to_read(attacker: Attacker) -> None:
    """Handshakes with an identity key of 9 KB, each of which took the library 0.15 s."""
    private = _OwnerOfGiantKey(coincurve.PrivateKey())
    with trio.fail_after(3):
        for _ in range(25):
            with pytest.raises(TurnedAway):
                await attacker.session(KeyPair(private, private.get_public_key()))


@abuse
async def half_a_tls_hello(attacker: Attacker) -> None:
    """TLS is agreed on; the ClientHello stops in the middle."""
    await attacker.many(CROWD, proposal("/tls/1.0.0") + b"\x16\x03\x01\x40\x00\x01" + bytes(100))


@abuse
async def junk_instead_of_tls(attacker: Attacker) -> None:
    """TLS is agreed on; what follows is not TLS."""
    for _ in range(20):
        await is_closed(await attacker.tcp(proposal("/tls/1.0.0") + b"\x00\xff" * 4000))


async def secured(attacker: Attacker) -> ISecureConn:
    """A connection after the Noise handshake, before a muxer is agreed on."""
    raw = RawConnection(TrioTCPStream(await attacker.tcp()), True)
    upgrader = Upgrader(new_key(), psk=None, streams_per_connection=STREAMS)
    await raw.write(NOISE)
    for _ in range(len(NOISE)):
        await raw.read(1)
    peer = ID.from_base58(attacker.victim.started.peer_id)
    return await upgrader._security["/noise"].secure_outbound(raw, peer)


@abuse
async def no_muxer(attacker: Attacker) -> None:
    """The handshake succeeds, and then nothing more is said."""
    for _ in range(20):
        await secured(attacker)


@abuse
async def thousand_muxers(attacker: Attacker) -> None:
    """Muxers of all kinds are proposed, none of which we have."""
    connection = await secured(attacker)
    await connection.write(HEADER + b"".join(encode(f"/mplex/{number}") for number in range(1000)))
    with trio.fail_after(5):
        while await connection.read():
            pass


@abuse
async def junk_records(attacker: Attacker) -> None:
    """After the handshake, records that do not decrypt."""
    for _ in range(10):
        raw = await attacker.session()
        tcp = raw.conn.read_writer.read_write_closer  # type: ignore[attr-defined]
        await tcp.write(b"\x00\x40" + os.urandom(64))
        with trio.fail_after(5):
            while await tcp.read(65536):
                pass


@abuse
async def ten_thousand_connects(attacker: Attacker) -> None:
    """Ten thousand connections, each reset at once."""
    await trio.to_thread.run_sync(connect_and_reset, attacker.victim.started.port, 10_000)


@abuse
async def reconnect_storm(attacker: Attacker) -> None:
    """A peer that makes whole handshakes only to leave."""
    key = new_key()
    for _ in range(25):
        try:
            await (await attacker.session(key)).close()
        except TurnedAway:
            pass  # it may have had enough of us


@abuse
async def same_peer_many_times(attacker: Attacker) -> None:
    """One peer id, connected as often as it can be."""
    key = new_key()
    turned_away = 0
    for _ in range(20):
        try:
            await attacker.peer(key)
        except TurnedAway:
            turned_away += 1
    held = (await attacker.victim.counts()).connections
    assert held <= 16, held


@abuse
async def own_id(attacker: Attacker) -> None:
    """A stranger with the victim's own key: not let in, or harmless."""
    for _ in range(5):
        try:
            peer = await attacker.peer(attacker.own_key_of_victim())
        except TurnedAway:
            continue
        await peer.stream("/ipfs/ping/1.0.0", bytes(32))
    assert (await attacker.victim_info())["peer_id"] == attacker.victim.started.peer_id


@abuse_of_private_network
async def no_private_key_at_all(attacker: Attacker) -> None:
    """A peer of the public network: its greeting is a nonce there, and junk follows."""
    for _ in range(20):
        await is_closed(await attacker.tcp(HEADER + encode("/noise") + os.urandom(100)))


@abuse_of_private_network
async def half_a_nonce(attacker: Attacker) -> None:
    """Hundreds of connections that stop inside the nonce."""
    await attacker.many(CROWD, bytes(23))


@abuse_of_private_network
async def another_private_key(attacker: Attacker) -> None:
    """Peers of another private network: out at once, and the log does not fill."""
    other = os.urandom(32)
    before = len(attacker.victim.log)
    for _ in range(50):
        raw = RawConnection(TrioTCPStream(await attacker.tcp()), True)
        upgrader = Upgrader(new_key(), psk=other, streams_per_connection=STREAMS)
        try:
            await upgrader.outbound(raw, ID.from_base58(attacker.victim.started.peer_id))
        except Exception:
            continue
        raise AssertionError("let in with a wrong key")
    assert attacker.victim.log.count("\n", before) < 10


@abuse_of_private_network
async def nonce_and_megabytes(attacker: Attacker) -> None:
    """A nonce, and then all the bytes there are."""
    stream = await attacker.tcp(os.urandom(24))
    try:
        for _ in range(64):
            await stream.send_all(os.urandom(1 << 16))
    except trio.BrokenResourceError:
        return
    await is_closed(stream)


@abuse_of_private_network
async def reset_inside_the_private_handshake(attacker: Attacker) -> None:
    """Thousands of connections that end in the nonce."""
    await trio.to_thread.run_sync(connect_and_reset, attacker.victim.started.port, 2000)
