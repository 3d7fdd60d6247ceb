import json
import struct
from pathlib import Path

import pytest
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import IncompleteReadError
from libp2p.network.connection.raw_connection import RawConnection

from aicn.p2p.psk import PrivateConnection, hsalsa20, xsalsa20

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "legacy" / "psk.json").read_text())
PSK = bytes.fromhex(VECTORS["psk_hex"])
RECORDED = [name for name, value in VECTORS.items() if isinstance(value, dict) and "bytes_hex" in value]


class Pipe(ReadWriteCloser):
    """A connection that gives what it was filled with, `step` bytes at a time, and keeps what is written."""

    def __init__(self, incoming: bytes = b"", step: int = 1 << 20) -> None:
        self.incoming, self.step, self.written, self.closed = incoming, step, b"", False

    async def read(self, n: int | None = None) -> bytes:
        size = self.step if n is None else min(n, self.step)
        data, self.incoming = self.incoming[:size], self.incoming[size:]
        return data

    async def write(self, data: bytes) -> None:
        self.written += data

    async def close(self) -> None:
        self.closed = True

    def get_remote_address(self) -> tuple[str, int]:
        return ("192.0.2.1", 5)


def test_hsalsa20_and_xsalsa20_are_nacls() -> None:
    # "Cryptography in NaCl" (D. J. Bernstein, 2009), sections 8 and 10
    key = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
    assert hsalsa20(key, nonce[:16]).hex() == "dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4"
    assert xsalsa20(key, nonce).encrypt(bytes(16)).hex() == "eea6a7251c1e72916d11c2cb214d3c25"


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_what_go_nodes_sent(name: str, step: int) -> None:
    vector = VECTORS[name]
    connection = PrivateConnection(RawConnection(Pipe(bytes.fromhex(vector["bytes_hex"]), step), False), PSK)
    plain = b""
    while part := await connection.read(1000):
        plain += part
    assert plain.hex() == vector["decrypted_hex"]


async def test_round_trip_whatever_the_pieces() -> None:
    pipe = Pipe()
    sender = PrivateConnection(RawConnection(pipe, True), PSK)
    plain = b"".join(struct.pack("!I", number) * number for number in range(50))
    at = 0
    for size in [1, 63, 64, 65, 300, 2000, 10_000]:
        await sender.write(plain[at : at + size])
        at += size
    assert len(pipe.written) == 24 + min(at, len(plain))
    receiver = PrivateConnection(RawConnection(Pipe(pipe.written, 37), False), PSK)
    got = b""
    while part := await receiver.read(50):
        got += part
    assert got == plain[:at]


async def test_each_connection_has_its_own_nonce() -> None:
    pipes = [Pipe(), Pipe()]
    for pipe in pipes:
        await PrivateConnection(RawConnection(pipe, True), PSK).write(b"same")
    assert pipes[0].written[:24] != pipes[1].written[:24]


async def test_who_reads_first_sends_its_nonce_first() -> None:
    sender = Pipe()
    await PrivateConnection(RawConnection(sender, True), PSK).write(b"hello")
    pipe = Pipe(sender.written)
    connection = PrivateConnection(RawConnection(pipe, False), PSK)
    assert await connection.read(5) == b"hello"
    assert len(pipe.written) == 24
    await connection.write(b"answer")
    assert xsalsa20(PSK, pipe.written[:24]).encrypt(pipe.written[24:]) == b"answer"


async def test_end_inside_the_nonce() -> None:
    connection = PrivateConnection(RawConnection(Pipe(b"short"), False), PSK)
    with pytest.raises(IncompleteReadError):
        await connection.read(1)


async def test_it_is_a_whole_raw_connection() -> None:
    pipe = Pipe()
    connection = PrivateConnection(RawConnection(pipe, True), PSK)
    assert connection.is_initiator
    assert connection.get_remote_address() == ("192.0.2.1", 5)
    assert [str(one) for one in connection.get_transport_addresses()] == ["/ip4/192.0.2.1/tcp/5"]
    await connection.close()
    assert pipe.closed
