"""The key of a private network: its files, and the warning about others."""

from __future__ import annotations

import base64
import logging
import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from aicn.config.schema import P2P
from aicn.errors import StartupError
from aicn.p2p.network_key import Warnings, network_key, parse_network_key

KEY = bytes(range(200, 232))
HEAD = b"/key/swarm/psk/1.0.0/\n"


@pytest.mark.parametrize(
    "data",
    [
        KEY.hex().encode(),
        KEY.hex().upper().encode() + b"\n",
        HEAD + b"/base16/\n" + KEY.hex().encode(),
        HEAD + b"/base16/\n" + KEY.hex().encode() + b"\n",
        (HEAD + b"/base16/\n" + KEY.hex().encode() + b"\n").replace(b"\n", b"\r\n"),
        HEAD + b"/base64/\n" + base64.b64encode(KEY) + b"\n",
        HEAD + b"/bin/\n" + KEY,
        HEAD + b"/bin/\n" + KEY + b"\n",
        HEAD + b"/bin/\n" + KEY[:-1] + b"\n",
    ],
)
def test_every_form_of_a_key(data: bytes) -> None:
    expected = KEY[:-1] + b"\n" if data.endswith(KEY[:-1] + b"\n") else KEY
    assert parse_network_key(data) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "needed"),
        (KEY.hex().encode()[:-1], "hex digits"),
        (KEY.hex().encode()[:-2], "32 bytes are needed, not 31"),
        (b"zz" * 32, "hex digits"),
        (HEAD, "ends before"),
        (HEAD + b"/base16/", "ends before"),
        (HEAD + b"/base16/\n", "32 bytes"),
        (HEAD + b"/base16/\n" + KEY.hex().encode() + b"00", "32 bytes"),
        (HEAD + b"/base64/\n" + b"*" * 44, "base64"),
        (HEAD + b"/base32/\n" + KEY, "encoding"),
        (HEAD + b"/bin/\n" + KEY + b"\n\n", "32 bytes"),
        (b"/key/swarm/psk/2.0.0/\n/bin/\n" + KEY, "hex digits"),
    ],
)
def test_what_is_no_key(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_network_key(data)
    assert KEY.hex()[:20] not in str(caught.value)


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    assert network_key(P2P()) is None
    assert network_key(P2P(psk=KEY.hex())) == KEY
    file = tmp_path / "swarm.key"
    with pytest.raises(StartupError, match=r"swarm\.key: the private network key cannot be read: No such file"):
        network_key(P2P(psk_file=str(file)))
    file.write_bytes(b"hello")
    with pytest.raises(StartupError, match=r"swarm\.key: not a private network key: 64 hex digits"):
        network_key(P2P(psk_file=str(file)))
    file.write_bytes(HEAD + b"/base16/\n" + KEY.hex().encode())
    assert network_key(P2P(psk_file=str(file))) == KEY
    file.write_bytes(os.urandom(100_000))
    with pytest.raises(StartupError):
        network_key(P2P(psk_file=str(file)))


async def test_one_warning_per_address_and_time(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    caplog.set_level(logging.WARNING)
    warnings = Warnings()
    for _ in range(100):
        warnings.other_network("10.0.0.7")
        warnings.other_network("10.0.0.8")
    assert [record.getMessage() for record in caplog.records] == [
        f"a peer at 10.0.0.{number} speaks with another private network key, or none" for number in (7, 8)
    ]
    await trio.sleep(301)
    warnings.other_network("10.0.0.7")
    assert len(caplog.records) == 3


async def test_a_whole_network_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    warnings = Warnings()
    for number in range(5000):
        warnings.other_network(f"10.0.{number // 256}.{number % 256}")
        await trio.sleep(0.01)
    assert len(caplog.records) == 256
    assert len(warnings._warned) == 256
