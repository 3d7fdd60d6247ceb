"""Workers that lie to our requester: a user of the victim asks the attacker's node."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import httpx
import trio
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID

from aicn.domain.inference import Accepted, Chunk, End
from aicn.p2p.multistream import proposal
from aicn.p2p.muxed_stream import YamuxStream
from aicn.wire import inference as wire
from aicn.wire.framing import encode_frame
from aicn.wire.pb import inference_pb2 as pb
from aicn.wire.pb.failure_pb2 import Failure
from tests.hostile.abuses.identifying import IDENTIFY, claim
from tests.hostile.attacker import Attacker, new_key, read_to_end, varint
from tests.hostile.table import POUR_S, abuse

Script = Callable[[YamuxStream], Awaitable[None]]
ACCEPTED, END = wire.encode_accepted(Accepted()), wire.encode_end(End())


def chunk(data: bytes) -> bytes:
    return wire.encode_chunk(Chunk(data))


def says(*pieces: bytes) -> Script:
    """Says `pieces` and ends the stream."""

    async def script(stream: YamuxStream) -> None:
        for piece in pieces:
            await stream.send_all(piece)
        stream.send_eof()

    return script


async def answer(attacker: Attacker, script: Script, *, stream: bool = False, within_s: float = 5.0) -> httpx.Response:
    """What the victim's user gets when the worker behaves like `script`; must come within `within_s`."""
    key = new_key()
    await lie_in_wait(attacker, key, script)
    body = {
        "node_id": str(ID.from_pubkey(key.public_key)),
        "project": "P",
        "model": "M",
        "messages": [{"role": "user", "content": "Say hello."}],
        "stream": stream,
    }
    with trio.fail_after(within_s):
        return await attacker.post("/chat/completion", body)


async def lie_in_wait(attacker: Attacker, key: KeyPair, script: Script) -> None:
    """Connect to the victim as a worker that behaves like `script`."""

    async def serve(stream: YamuxStream) -> None:
        hello = await stream.receive_some()
        if hello.startswith(proposal(wire.PROTOCOL)):
            await stream.send_all(proposal(wire.PROTOCOL))
            await script(stream)
        elif hello.startswith(proposal(IDENTIFY)):
            await claim(stream, wire.PROTOCOL)
        else:
            stream.abort()

    await attacker.peer(key, serve=serve)


def is_failure(response: httpx.Response) -> None:
    """The user is told that it went wrong, and that it was not the user's own fault."""
    assert response.status_code >= 500, (response.status_code, response.text[:200])
    assert response.json()["code"] != 0


def is_broken_stream(response: httpx.Response) -> None:
    """The user's stream ends with an error, not as if it were complete."""
    assert response.status_code != 200 or ("error" in response.text and "[DONE]" not in response.text)


@abuse
async def worker_says_junk(attacker: Attacker) -> None:
    """Bytes that are no frames."""
    is_failure(await answer(attacker, says(os.urandom(1000))))
    is_failure(await answer(attacker, says(b"\xff" * 10)))
    is_failure(await answer(attacker, says(encode_frame(b"\xff\xff"))))


@abuse
async def worker_agrees_to_something_else(attacker: Attacker) -> None:
    """Another protocol than the one proposed."""
    is_failure(await answer(attacker, says(proposal("/aicn/other/1.0.0"))))


@abuse
async def worker_ends_without_a_word(attacker: Attacker) -> None:
    """The end of the stream in place of an answer, and after half of one."""
    is_failure(await answer(attacker, says()))
    is_failure(await answer(attacker, says(ACCEPTED)))
    is_failure(await answer(attacker, says(ACCEPTED, chunk(b'{"choices":[{}]}'))))
    is_broken_stream(await answer(attacker, says(ACCEPTED, chunk(b"data: {}\n\n")), stream=True))


@abuse
async def worker_answers_without_accepting(attacker: Attacker) -> None:
    """A chunk first, an end first, Accepted twice."""
    is_failure(await answer(attacker, says(chunk(b"x"), END)))
    is_failure(await answer(attacker, says(END)))
    is_failure(await answer(attacker, says(ACCEPTED, ACCEPTED)))


@abuse
async def worker_never_accepts(attacker: Attacker) -> None:
    """Silence: the user who goes away is let go, whatever the worker does."""

    async def silent(stream: YamuxStream) -> None:
        await trio.sleep_forever()

    for script in (silent, says_and_waits(ACCEPTED), says_and_waits(ACCEPTED + varint(1000))):
        with trio.move_on_after(POUR_S):
            await answer(attacker, script)


def says_and_waits(data: bytes) -> Script:
    """Says `data` and nothing more."""

    async def script(stream: YamuxStream) -> None:
        await stream.send_all(data)
        await trio.sleep_forever()

    return script


@abuse
async def worker_sends_giant_frames(attacker: Attacker) -> None:
    """Frames over the limit, announced and sent."""

    async def script(stream: YamuxStream) -> None:
        await stream.send_all(ACCEPTED + varint(1 << 30))
        while True:
            await stream.send_all(bytes(60_000))

    is_failure(await answer(attacker, script))


@abuse
async def worker_sends_endless_answer(attacker: Attacker) -> None:
    """A plain answer without end: given up at the node's limit, far before memory is."""

    async def script(stream: YamuxStream) -> None:
        await stream.send_all(ACCEPTED)
        while True:
            await stream.send_all(chunk(b" " * 60_000))

    is_failure(await answer(attacker, script, within_s=14))


@abuse
async def worker_sends_after_the_end(attacker: Attacker) -> None:
    """Chunks behind the end are nobody's."""
    good = chunk(b'{"choices":[{"message":{"content":"x"}}]}')
    response = await answer(attacker, says(ACCEPTED, good, END, good * 10, os.urandom(100)))
    assert response.text.count("choices") <= 1


@abuse
async def worker_answers_no_json(attacker: Attacker) -> None:
    """A plain answer that is no JSON, or JSON that is no answer."""
    for body in (b"<html>", b"[1]", b"{}", b'{"choices":' + b"[" * 100_000, b"\xff\xfe", b'{"choices":NaN}'):
        is_failure(await answer(attacker, says(ACCEPTED, chunk(body), END)))


@abuse
async def worker_breaks_events(attacker: Attacker) -> None:
    """Server-sent events with nonsense in them: the user's connection ends in order."""
    for body in (b"data: " + b"x" * 200_000 + b"\n\n", b"\n\n\n\n", b"event: error\r\ndata: \0\n\n", os.urandom(500)):
        response = await answer(attacker, says(ACCEPTED, chunk(body), END), stream=True)
        assert response.status_code in (200, 500, 502)


@abuse
async def worker_sends_single_bytes(attacker: Attacker) -> None:
    """An answer in chunks of one byte and of none."""
    body = b'{"choices":[{"message":{"content":"' + b"x" * 3000 + b'"}}]}'
    frames = b"".join(chunk(body[at : at + 1]) + chunk(b"") for at in range(len(body)))
    response = await answer(attacker, says(ACCEPTED, frames, END))
    assert response.status_code == 200


@abuse
async def worker_refuses_at_length(attacker: Attacker) -> None:
    """A refusal with a text of a quarter of a megabyte, full of control characters."""
    refusal = pb.InferenceFrame(failure=Failure(code="busy", message="\x1b[2J\0" * 40_000))
    response = await answer(attacker, says(encode_frame(refusal.SerializeToString())))
    is_failure(response)
    assert len(response.content) < 10_000
    assert "\x1b" not in response.text


@abuse
async def worker_resets(attacker: Attacker) -> None:
    """A reset before the answer, and in it."""

    async def script(stream: YamuxStream) -> None:
        await stream.send_all(ACCEPTED)
        stream.abort()

    is_failure(await answer(attacker, script))


@abuse
async def worker_reads_nothing(attacker: Attacker) -> None:
    """A worker that takes nothing of a large request: its user may leave."""
    key = new_key()

    async def deaf(stream: YamuxStream) -> None:
        await trio.sleep_forever()

    await attacker.peer(key, serve=deaf)
    body = {
        "node_id": str(ID.from_pubkey(key.public_key)),
        "project": "P",
        "model": "M",
        "messages": [{"role": "user", "content": "x" * 4_000_000}],
    }
    with trio.move_on_after(POUR_S):
        await attacker.post("/chat/completion", body)


@abuse
async def asked_node_lies_about_its_projects(attacker: Attacker) -> None:
    """Control answers of junk, of a gigabyte, of nothing."""
    for data in (os.urandom(100), varint(1 << 30), encode_frame(b""), b""):
        key = new_key()

        async def serve(stream: YamuxStream, data: bytes = data) -> None:
            hello = await stream.receive_some()
            protocol = b"/aicn/control/1.0.0"
            if protocol in hello:
                await stream.send_all(proposal(protocol.decode()) + data)
                stream.send_eof()
                await read_to_end(stream)
            elif hello.startswith(proposal(IDENTIFY)):
                await claim(stream, protocol.decode())
            else:
                stream.abort()

        await attacker.peer(key, serve=serve)
        is_failure(await attacker.post("/ai/project/peer", {"node_id": str(ID.from_pubkey(key.public_key))}))
