"""Private networks (libp2p spec, pnet/Private-Networks-PSK-V1): XSalsa20 under the security handshake.

Each direction begins with a random nonce of 24 bytes; everything after it is the XOR with that nonce's key stream. Nothing is
authenticated: a wrong key shows as junk where multistream-select should begin.
"""

from __future__ import annotations

import os
import struct
from typing import Protocol, cast

from Crypto.Cipher import Salsa20
from libp2p.abc import IRawConnection
from libp2p.io.exceptions import IncompleteReadError
from libp2p.network.connection.raw_connection import RawConnection

_NONCE = 24
_WORD = 0xFFFFFFFF
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
# the word indices of the quarter rounds of one double round: four columns, then four rows (Salsa20 specification, 4 to 6)
_QUARTERS = (
    *((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)),
    *((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)),
)


class Cipher(Protocol):
    """One direction's key stream."""

    def encrypt(self, plaintext: bytes) -> bytes:
        """XOR with the next bytes of the key stream; also the inverse."""


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """The subkey of 32 bytes that XSalsa20 derives from a key of 32 bytes and the first 16 bytes of its nonce."""
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", nonce)
    x = [_SIGMA[0], *k[:4], _SIGMA[1], *n, _SIGMA[2], *k[4:], _SIGMA[3]]
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            for target, left, right, turn in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
                total = (x[left] + x[right]) & _WORD
                x[target] ^= (total << turn) & _WORD | total >> (32 - turn)
    return struct.pack("<8I", *(x[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))


def xsalsa20(key: bytes, nonce: bytes) -> Cipher:
    """The key stream of a key (32 bytes) and a nonce (24 bytes)."""
    return cast(Cipher, Salsa20.new(key=hsalsa20(key, nonce[:16]), nonce=nonce[16:]))


class PrivateConnection(RawConnection):
    """A raw connection, enciphered."""

    def __init__(self, connection: IRawConnection, psk: bytes) -> None:
        # Unlike upstream's PskConn, everything a RawConnection promises is there: without it the connection has no addresses.
        super().__init__(cast(RawConnection, connection), connection.is_initiator)
        self._psk = psk
        self._sending: Cipher | None = None
        self._receiving: Cipher | None = None

    async def write(self, data: bytes) -> None:
        nonce = b""
        if self._sending is None:
            nonce = os.urandom(_NONCE)
            self._sending = xsalsa20(self._psk, nonce)
        await super().write(nonce + self._sending.encrypt(bytes(data)))

    async def read(self, n: int | None = None) -> bytes:
        if self._receiving is None:
            if self._sending is None:
                await self.write(b"")  # our nonce: js-libp2p says nothing, not even who dials, before it has it
            self._receiving = xsalsa20(self._psk, await self._read_nonce())
        return self._receiving.encrypt(await super().read(n))

    async def _read_nonce(self) -> bytes:
        nonce = b""
        while len(nonce) < _NONCE:
            part = await super().read(_NONCE - len(nonce))
            if not part:
                raise IncompleteReadError("closed inside the nonce", expected_bytes=_NONCE, received_bytes=len(nonce))
            nonce += part
        return nonce
