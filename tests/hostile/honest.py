"""The honest peer, for whom all of it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from aicn.domain.ids import PeerId
from aicn.domain.inference import Chunk, End, InferenceRequest, Kind
from aicn.p2p.host import Host, open_host
from aicn.p2p.identity import generate_key, parse_key
from aicn.wire import control, inference
from aicn.wire.framing import FrameReader
from tests.fakes.hosts import CONFIG
from tests.hostile.victim import MODEL, PROJECT, Victim

HONEST_S = 3.0  # an honest peer's longest wait, under abuse and after it: 1 s, and room for a loaded machine
_BODY = b'{"model":"M","stream":true,"messages":[{"role":"user","content":"Say hello."}]}'


class Honest:
    """One who is connected to the victim and uses it."""

    def __init__(self, host: Host, victim: Victim) -> None:
        self._host = host
        self._victim = victim
        self._peer = PeerId(victim.started.peer_id)

    async def is_served(self) -> float:
        """A chat over the connection that there is, and a question over a new one; seconds that the slower of them took."""
        began = trio.current_time()
        with trio.fail_after(HONEST_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._chat)
                nursery.start_soon(self._newcomer_asks)
        return trio.current_time() - began

    async def _chat(self) -> None:
        stream = await self._host.open_stream(self._peer, inference.PROTOCOL)
        now = trio.current_time()
        request = InferenceRequest(
            id="honest", kind=Kind.CHAT, project=PROJECT, model=MODEL, body=_BODY, stream=True, deadline=now + 30
        )
        await stream.send_all(inference.encode_request(request, now=now))
        await stream.send_eof()
        reader, text, last = FrameReader(inference.ANSWER_FRAME_BYTES), b"", None
        while data := await stream.receive_some():
            reader.feed(data)
            while (frame := reader.next_frame()) is not None:
                last = inference.decode_answer(frame)
                text += last.data if isinstance(last, Chunk) else b""
        assert isinstance(last, End), last
        assert b"tok7" in text

    async def _newcomer_asks(self) -> None:
        async with open_honest_host(self._victim) as host:
            stream = await host.open_stream(self._peer, control.PROTOCOL)
            await stream.send_all(control.encode_request(control.PROJECTS, None))
            await stream.send_eof()
            reader = FrameReader(control.RESPONSE_FRAME_BYTES)
            while (frame := reader.next_frame()) is None:
                data = await stream.receive_some()
                assert data, "the victim ended its answer"
                reader.feed(data)
            assert [project.name for project in control.decode_answer(control.PROJECTS, frame)] == [PROJECT]
            stream.reset()


@asynccontextmanager
async def open_honest_host(victim: Victim) -> AsyncIterator[Host]:
    """A host that has a connection to the victim."""
    started = victim.started
    config = replace(CONFIG, dht_mode="none", psk=victim.psk.hex() if victim.psk else "")
    async with open_host(config, parse_key(generate_key()), agent_version="aicn/honest") as host:
        await host.connect(f"/ip4/127.0.0.1/tcp/{started.port}/p2p/{started.peer_id}")
        yield host


@asynccontextmanager
async def open_honest(victim: Victim) -> AsyncIterator[Honest]:
    """The honest peer, connected before anything bad happens."""
    async with open_honest_host(victim) as host:
        yield Honest(host, victim)
