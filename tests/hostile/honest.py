"""The honest peer, for whom all of it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from aicn.domain.ids import PeerId
from aicn.domain.inference import Chunk, End, InferenceRequest, Kind
from aicn.errors import Unsupported
from aicn.p2p.host import Host, open_host
from aicn.p2p.identity import Key, generate_key, parse_key
from aicn.p2p.keyring import Keyring
from aicn.services.legacy.conversation import Conversation, Said
from aicn.wire import control, inference
from aicn.wire.framing import FrameReader
from aicn.wire.legacy import bodies
from aicn.wire.legacy.envelope import Type
from tests.fakes.hosts import CONFIG, until
from tests.hostile.victim import MODEL, PROJECT, Victim

HONEST_S = 3.0  # an honest peer's longest wait, under abuse and after it: 1 s, and room for a loaded machine
_BODY = b'{"model":"M","stream":true,"messages":[{"role":"user","content":"Say hello."}]}'


class Honest:
    """One who is connected to the victim and uses it."""

    def __init__(self, host: Host, conversation: Conversation, victim: Victim) -> None:
        self._host = host
        self._conversation = conversation
        self._victim = victim
        self._peer = PeerId(victim.started.peer_id)

    async def is_served(self) -> float:
        """A chat over the connection that there is, a question on the topic, and one over a new connection; seconds that the slowest took."""
        began = trio.current_time()
        with trio.fail_after(HONEST_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._chat)
                nursery.start_soon(self._newcomer_asks)
                nursery.start_soon(self._ask_on_topic)
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

    async def _ask_on_topic(self) -> None:
        plain = await self._conversation.ask(self._peer, Type.AI_PROJECT, bodies.EMPTY_QUESTION)
        assert [project.name for project in bodies.decode_projects(plain)[0]] == [PROJECT]

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
async def open_honest_host(victim: Victim, key: Key | None = None) -> AsyncIterator[Host]:
    """A host that has a connection to the victim."""
    started = victim.started
    config = replace(CONFIG, dht_mode="none", psk=victim.psk.hex() if victim.psk else "")
    async with open_host(config, key or parse_key(generate_key()), agent_version="aicn/honest") as host:
        await host.connect(f"/ip4/127.0.0.1/tcp/{started.port}/p2p/{started.peer_id}")
        yield host


@asynccontextmanager
async def open_honest(victim: Victim) -> AsyncIterator[Honest]:
    """The honest peer, connected before anything bad happens, and a member of the topic."""
    key = parse_key(generate_key())
    async with open_honest_host(victim, key) as host, trio.open_nursery() as nursery:
        conversation = Conversation(host.id, host.topics, Keyring(key), topic=CONFIG.topic)
        conversation.join()
        await nursery.start(conversation.run, _keep_silent, _do_not_care)
        await until(lambda: host.topics.subscribers(CONFIG.topic))
        yield Honest(host, conversation, victim)
        nursery.cancel_scope.cancel()


async def _keep_silent(*_: object) -> Said:
    raise Unsupported("ask others")


def _do_not_care(*_: object) -> None:
    """Heartbeats, of whomever."""
