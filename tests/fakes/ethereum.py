"""Wallets that sign, made by eth-account, which is what clients in Python sign with.

Importing it raises the interpreter's recursion limit to 100 000 (py_ecc does), with which deeply nested JSON ends the process instead
of raising RecursionError. So tests get it from here, with the limit as it was.
"""

from __future__ import annotations

import sys
from typing import Any

_limit = sys.getrecursionlimit()
from eth_account import Account  # noqa: E402
from eth_account.messages import encode_defunct  # noqa: E402

sys.setrecursionlimit(_limit)


def new_account(key: bytes) -> Any:
    """The wallet of a private key of 32 bytes; `address` is its address."""
    return Account.from_key(key)


def personal_sign(account: Any, **message: Any) -> str:
    """0x-hex of the signature of `text=` or of the bytes of `hexstr=` (EIP-191)."""
    return "0x" + bytes(account.sign_message(encode_defunct(**message)).signature).hex()


def signer(text: str, signature: str) -> str:
    """The address that eth-account recovers; its errors pass."""
    return str(
        Account.recover_message(encode_defunct(text=text), signature=bytes.fromhex(signature.removeprefix("0x")))
    )


def proof(account: Any, signed: str) -> dict[str, str]:
    """The members of a request that prove `account`."""
    return {"wallet": account.address, "signature": personal_sign(account, text=signed), "hash": signed}
