"""Proofs of wallets, with eth-account, which is what clients in Python sign with, as the oracle."""

from __future__ import annotations

import json
import random
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicn.errors import Forbidden
from aicn.services.wallet import LONGEST_HASH, MOST_COMMAS, check, verify
from tests.fakes.ethereum import new_account, personal_sign, proof, signer

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
RANDOM = random.Random(20)
HASH = "0x" + "5c" * 32


ALICE, BOB = new_account(RANDOM.randbytes(32)), new_account(RANDOM.randbytes(32))
GOOD = proof(ALICE, HASH)


def parts(signature: str) -> tuple[int, int, int]:
    raw = bytes.fromhex(signature[2:])
    return int.from_bytes(raw[:32]), int.from_bytes(raw[32:64]), raw[64]


def joined(r: int, s: int, v: int) -> str:
    return "0x" + (r.to_bytes(32) + s.to_bytes(32) + bytes([v])).hex()


def test_hundreds_of_wallets_each_for_itself_alone() -> None:
    for number in range(300):
        account = new_account(RANDOM.randbytes(32))
        text = [
            "0x" + RANDOM.randbytes(32).hex(),
            RANDOM.randbytes(16).hex(),
            f"héllo {number} 模型",
            "x" * LONGEST_HASH,
        ][number % 4]
        signature = personal_sign(account, text=text)
        assert verify(account.address, signature, text) == account.address.lower()
        with pytest.raises(Forbidden, match=r"^signature: is not that"):
            verify(BOB.address, signature, text)
        with pytest.raises(Forbidden):
            verify(account.address, signature, text[1:])


def test_hex_may_stand_for_the_signed_bytes() -> None:
    """As wallets read the argument of personal_sign; the existing web client sends the hex of the text that it has signed."""
    assert verify(ALICE.address, personal_sign(ALICE, hexstr=HASH), HASH)
    text = "a text that was signed"
    assert verify(ALICE.address, personal_sign(ALICE, text=text), "0x" + text.encode().hex())
    for odd in ("0xabc", "abcd", "0xzz"):  # text, and nothing else
        assert verify(ALICE.address, personal_sign(ALICE, text=odd), odd)


@pytest.mark.parametrize("shape", [str.lower, str.upper, lambda text: "0x" + text[2:].upper()])
def test_case_does_not_matter(shape: Any) -> None:
    assert verify(shape(ALICE.address), shape(GOOD["signature"]), HASH) == ALICE.address.lower()
    assert verify(ALICE.address, GOOD["signature"][2:], HASH)


def test_v_is_0_1_27_or_28() -> None:
    r, s, v = parts(GOOD["signature"])
    assert verify(ALICE.address, joined(r, s, v - 27), HASH)
    for other in set(range(256)) - {v, v - 27}:
        with pytest.raises(Forbidden, match=r"^signature: "):
            verify(ALICE.address, joined(r, s, other), HASH)


def test_signatures_that_cannot_be_or_could_be_made_of_another_are_refused() -> None:
    r, s, v = parts(GOOD["signature"])
    flipped = joined(r, ORDER - s, 55 - v)
    assert signer(HASH, flipped) == ALICE.address  # a second good one
    for wrong in (
        flipped,
        joined(r, 0, v),
        joined(r, ORDER, v),
        joined(0, s, v),
        joined(ORDER, s, v),
        joined(2**256 - 1, s, v),
    ):
        with pytest.raises(Forbidden, match=r"^signature: "):
            verify(ALICE.address, wrong, HASH)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        *(
            ({"wallet": wrong}, "wallet")
            for wrong in (None, "", 7, [], ALICE.address[:-1], ALICE.address[2:], ALICE.address + "0", " " + ALICE.address)
        ),
        *(
            ({"signature": GOOD["signature"][:cut] + more}, "signature")
            for cut, more in ((0, ""), (2, ""), (-2, ""), (None, "00"), (None, "\n"), (0, "0x" + "zz" * 65))
        ),
        ({"signature": None}, "signature"),
        ({"signature": 7}, "signature"),
        *(({"hash": wrong}, "hash") for wrong in (None, "", 7, {}, "x" * (LONGEST_HASH + 1))),
        *(({"hash": wrong}, "signature") for wrong in (HASH[2:], HASH[:-1], HASH + " ", HASH.upper(), "\ud800")),
        ({"wallet": BOB.address}, "signature"),
    ],
)  # fmt: skip
def test_what_is_no_proof_is_named(change: dict[str, Any], named: str) -> None:
    assert check(json.dumps(GOOD).encode()) == ALICE.address.lower()
    with pytest.raises(Forbidden) as caught:
        check(json.dumps({"messages": []} | GOOD | change).encode())
    assert caught.value.message.startswith(f"{named}: ")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"\xff", json.dumps(GOOD).encode()[:-1] + b',"wallet":"0x"}', b"[" * 100_000]
)
def test_a_body_that_says_nothing_or_two_things_proves_nothing(body: bytes) -> None:
    with pytest.raises(Forbidden, match="wallet"):
        check(body)


def test_a_body_of_millions_of_values_is_not_read() -> None:
    small = json.dumps(GOOD | {"x": [0] * (MOST_COMMAS // 2)}).encode()
    assert check(small)
    with pytest.raises(Forbidden, match="wallet's proof, and the body has too many values"):
        check(json.dumps(GOOD | {"x": [0] * (MOST_COMMAS + 1)}).encode())


@given(st.integers(0, 129), st.sampled_from("0123456789abcdef"))
@settings(max_examples=200, deadline=None)
def test_no_digit_of_a_signature_can_be_changed(at: int, digit: str) -> None:
    text = GOOD["signature"][2:]
    changed = text[:at] + digit + text[at + 1 :]
    if changed != text:
        with pytest.raises(Forbidden, match=r"^signature: "):
            verify(ALICE.address, changed, HASH)


@given(st.binary(min_size=64, max_size=64), st.sampled_from([0, 1, 27, 28]), st.text(min_size=1, max_size=80))
@settings(max_examples=200, deadline=None)
def test_random_signatures_mean_what_the_oracle_says(random_bytes: bytes, v: int, text: str) -> None:
    signature = "0x" + random_bytes.hex() + f"{v:02x}"
    ours = partial(verify, signature=signature, signed=text)
    try:
        theirs = signer(text, signature)
    except Exception:
        theirs = None
    if theirs is None or int.from_bytes(random_bytes[32:]) > ORDER // 2:  # the oracle takes the upper half, too
        with pytest.raises(Forbidden):
            ours(ALICE.address)
    else:
        assert ours(theirs) == theirs.lower()
