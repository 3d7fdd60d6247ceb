"""One test per correction of the library, each failing without it."""

import logging
import os
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from Crypto.Util.asn1 import DerSequence
from libp2p.crypto.exceptions import CryptographyError
from libp2p.crypto.keys import KeyType
from libp2p.crypto.pb.crypto_pb2 import PublicKey
from libp2p.crypto.rsa import create_new_key_pair as new_rsa_key
from libp2p.crypto.serialization import deserialize_public_key
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.noise.io import NoiseTransportReadWriter

from aicn.errors import StartupError
from aicn.p2p import fixes
from aicn.p2p.fixes.patch import replace


@pytest.fixture(autouse=True)
def _applied() -> None:
    fixes.apply()
    fixes.apply()  # changes nothing


class CountingSocket:
    """The stream of a socket, counting what is asked of the kernel."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.calls = 0
        self.socket = SimpleNamespace(getpeername=lambda: ("fd00::1", 4001, 0, 0))

    async def receive_some(self, _: int | None = None) -> bytes:
        self.calls += 1
        return self.pieces.pop(0) if self.pieces else b""


def tcp_stream(sock: CountingSocket) -> TrioTCPStream:
    stream: Any = sock
    return TrioTCPStream(stream)


async def test_tcp_reads_are_buffered() -> None:
    sock = CountingSocket(b"abcdef", b"gh")
    stream = tcp_stream(sock)
    assert [await stream.read(1), await stream.read(2), await stream.read(10)] == [b"a", b"bc", b"def"]
    assert sock.calls == 1
    assert await stream.read(0) == b""
    assert await stream.read() == b"gh"
    assert [await stream.read(5), await stream.read(5)] == [b"", b""]


async def test_ipv6_peer_has_an_address() -> None:
    stream = tcp_stream(CountingSocket())
    assert stream.get_remote_address() == ("fd00::1", 4001)
    stream.stream = SimpleNamespace(socket=None)  # type: ignore[assignment]
    assert stream.get_remote_address() == ("fd00::1", 4001)  # remembered


class PlainNoise:
    def decrypt(self, data: bytes) -> bytes:
        return data[::-1]


async def test_noise_records_arrive_whole() -> None:
    big = bytes(60_000)
    sock = CountingSocket(b"\x00", b"\x03cba\x00\x02", b"e", b"d" + len(big).to_bytes(2, "big") + big[:100], big[100:])
    noise: Any = PlainNoise()
    records = NoiseTransportReadWriter(RawConnection(tcp_stream(sock), True), noise)
    assert [await records.read_msg(), await records.read_msg(), await records.read_msg()] == [b"abc", b"de", big]
    assert sock.calls == 5


async def test_a_noise_record_may_come_in_many_pieces() -> None:
    big = bytes(range(256)) * 100
    pieces = [len(big).to_bytes(2, "big"), *(big[at : at + 100] for at in range(0, len(big), 100))]
    noise: Any = PlainNoise()
    records = NoiseTransportReadWriter(RawConnection(tcp_stream(CountingSocket(*pieces)), True), noise)
    assert await records.read_msg() == big[::-1]


def test_another_version_of_the_library_is_noticed() -> None:
    with pytest.raises(StartupError, match=r"TrioTCPStream.gone.*0\.8\.1"):
        replace(TrioTCPStream, "gone", None)


def test_the_library_does_not_flood_the_log() -> None:
    assert not logging.getLogger("libp2p.network.swarm").isEnabledFor(logging.ERROR)


async def test_a_reset_tcp_connection_is_an_error_and_a_closed_one_an_end() -> None:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    stream = TrioTCPStream(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
    theirs.close()
    assert await stream.read(1) == b""
    await stream.close()
    assert await stream.read(1) == b""


def rsa_key(exponent_bits: int) -> bytes:
    """The protobuf of an RSA key of 2048 bits with an odd exponent of `exponent_bits`."""
    modulus, exponent = (int.from_bytes(os.urandom(bits // 8), "big") | 1 for bits in (2048, exponent_bits))
    der = DerSequence([modulus | 1 << 2047, exponent]).encode()
    return PublicKey(key_type=KeyType.RSA.value, data=der).SerializeToString()


@pytest.mark.parametrize("exponent_bits", [2040, 480_000])
def test_an_rsa_key_costs_little(exponent_bits: int) -> None:
    hostile = rsa_key(exponent_bits)
    began = time.thread_time()
    with pytest.raises((CryptographyError, ValueError)):
        deserialize_public_key(hostile)
    assert time.thread_time() - began < 1


def test_an_ordinary_rsa_key_is_taken() -> None:
    keys = new_rsa_key(2048)
    taken = deserialize_public_key(keys.public_key.serialize())
    assert taken.verify(b"x", keys.private_key.sign(b"x"))
