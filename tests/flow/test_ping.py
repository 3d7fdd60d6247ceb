"""The ping protocol (libp2p specs, ping) between real hosts."""

from __future__ import annotations

import os

import pytest
import trio

from aicn.errors import AnswerBroken
from aicn.p2p import ping
from tests.fakes.hosts import full_address, open_test_host


async def test_pings_come_back_until_the_stream_ends() -> None:
    async with open_test_host() as a, open_test_host() as b:
        assert ping.PROTOCOL in b.protocols
        await a.connect(full_address(b))
        stream = await a.open_stream(b.id, ping.PROTOCOL)
        for _ in range(3):
            payload = os.urandom(32)
            await stream.send_all(payload[:20])
            await stream.send_all(payload[20:])
            echo = b""
            with trio.fail_after(5):
                while len(echo) < 32:
                    echo += await stream.receive_some()
            assert echo == payload
        await stream.send_eof()
        with trio.fail_after(5):
            assert await stream.receive_some() == b""


async def test_who_pings_no_more_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "IDLE_S", 0.1)
    async with open_test_host() as a, open_test_host() as b:
        await a.connect(full_address(b))
        stream = await a.open_stream(b.id, ping.PROTOCOL)
        await stream.send_all(bytes(32))
        with trio.fail_after(5), pytest.raises(AnswerBroken):
            while True:
                await stream.receive_some()
