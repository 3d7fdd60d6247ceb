"""Who pays: the proof of an Ethereum wallet that a chat or image request may carry (spec 1: `wallet`, `signature`, `hash`).

`signature` is the wallet's personal_sign (EIP-191, version 0x45 "E"): over the text of `hash`, as libraries sign a string, or, where
that is 0x-hex, over the bytes it stands for, as wallets read the argument of the personal_sign call. Either is good; the clients of
the existing network have been seen to do both. The address recovered from it must be `wallet`.

The proof says who asks and nothing about what is asked: `hash` is the client's own affair, and a proof that was seen can be sent
again by whoever saw it.
"""

from __future__ import annotations

import re

from coincurve import PublicKey
from Crypto.Hash import keccak

from aicn.errors import AicnError, Forbidden
from aicn.wire.json_body import take

LONGEST_HASH = 1024  # characters; hashes have 66, hex of their text 134
MOST_COMMAS = 1_000_000  # of a body: a stranger's 32 MiB of empty lists would take 700 MB to read

_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{40}")
_SIGNATURE = re.compile(r"(?:0[xX])?[0-9a-fA-F]{130}")  # r, s: 32 bytes each, v: one
_HEX = re.compile(r"0[xX](?:[0-9a-fA-F]{2})+")
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # of secp256k1 (SEC 2, section 2.4.1)
_RECOVERY_IDS = {0: 0, 1: 1, 27: 0, 28: 1}  # by v: ledgers say 0 and 1, Ethereum (yellow paper, appendix F) 27 and 28


def check(body: bytes) -> str:
    """The wallet that a request's JSON object proves, as `0x` and lower-case hex. Forbidden names the member that is not good.

    About 0.15 ms, 0.3 ms for a proof that is wrong.
    """
    if body.count(b",") > MOST_COMMAS:
        raise Forbidden("this node asks for a wallet's proof, and the body has too many values to look for it")
    try:
        members, _ = take(body)
    except AicnError as error:
        raise Forbidden(f"this node asks for a wallet's proof, and the body cannot be read: {error.message}") from None
    return verify(members.get("wallet"), members.get("signature"), members.get("hash"))


def verify(wallet: object, signature: object, signed: object) -> str:
    """The address of `wallet` in lower case when `signature` is its signature of `signed`; Forbidden otherwise."""
    if not isinstance(wallet, str) or not _ADDRESS.fullmatch(wallet):
        raise Forbidden("wallet: this node asks for the address of an Ethereum wallet, 0x and 40 hex digits")
    if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        raise Forbidden("signature: the wallet's personal_sign of hash is needed, 65 bytes in hex")
    if not isinstance(signed, str) or not 0 < len(signed) <= LONGEST_HASH:
        raise Forbidden(f"hash: the text that was signed is needed, 1 to {LONGEST_HASH} characters")
    proof = bytes.fromhex(signature[-130:])
    recovery_id = _RECOVERY_IDS.get(proof[64])
    if recovery_id is None:
        raise Forbidden("signature: its last byte must be 0, 1, 27 or 28")
    if not 0 < int.from_bytes(proof[32:64]) <= _ORDER // 2:
        raise Forbidden("signature: s is zero or in the upper half of the group (EIP-2)")
    address = wallet[2:].lower()
    for message in _readings(signed):
        if _signer(message, proof[:64] + bytes([recovery_id])) == address:
            return f"0x{address}"
    raise Forbidden("signature: is not that of wallet over hash")


def _readings(signed: str) -> list[bytes]:
    """What may have been signed."""
    text = signed.encode(errors="surrogatepass")  # JSON can hold half a pair; it is nobody's signed text
    return [text, bytes.fromhex(signed[2:])] if _HEX.fullmatch(signed) else [text]


def _signer(message: bytes, signature: bytes) -> str | None:
    """The address whose signature (r, s, recovery id) of `message` it is; None when it is nobody's."""
    digest = _keccak(b"\x19Ethereum Signed Message:\n%d" % len(message) + message)
    try:
        key = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except ValueError:  # r is of no point of the curve
        return None
    return _keccak(key.format(compressed=False)[1:])[12:].hex()


def _keccak(data: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=data).digest()
