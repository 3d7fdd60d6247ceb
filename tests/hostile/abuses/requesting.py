"""Abuses of our own protocols by one who asks."""

from __future__ import annotations

import os

import trio

from aicn.domain.inference import InferenceRequest, Kind
from aicn.errors import AicnError
from aicn.p2p.multistream import proposal
from aicn.p2p.muxed_stream import YamuxStream
from aicn.wire import control, inference
from aicn.wire.framing import FrameReader, encode_frame
from aicn.wire.pb import inference_pb2 as pb
from tests.hostile.abuses.negotiation import is_reset
from tests.hostile.attacker import Attacker, Peer, varint
from tests.hostile.table import POUR_S, abuse
from tests.hostile.victim import LONG_MODEL, MODEL, PROJECT

INFERENCE, CONTROL = inference.PROTOCOL, control.PROTOCOL
QUESTION = control.encode_request(control.PROJECTS, None)


def request(*, model: str = MODEL, seconds: float = 30, body: bytes = b'{"messages":[],"stream":true}') -> bytes:
    """A good request's frame."""
    good = InferenceRequest(
        id="abuse", kind=Kind.CHAT, project=PROJECT, model=model, body=body, stream=True, deadline=seconds
    )
    return inference.encode_request(good, now=0)


async def refusal(peer: Peer, data: bytes) -> AicnError:
    """What the victim refuses `data` with, before anything else."""
    with trio.fail_after(5):
        answer = await peer.ask(INFERENCE, data)
    reader = FrameReader(inference.ANSWER_FRAME_BYTES)
    reader.feed(answer)
    frame = reader.next_frame()
    assert frame is not None, answer
    told = inference.decode_answer(frame)
    assert isinstance(told, AicnError), told
    return told


@abuse
async def junk_requests(attacker: Attacker) -> None:
    """Bytes that are no frame, frames that are no message, messages that are no request: told so."""
    peer = await attacker.peer()
    codes = {
        (await refusal(peer, data)).code
        for data in (
            b"\xff" * 6,
            encode_frame(os.urandom(100)),
            encode_frame(b""),
            inference.encode_failure(AicnError("")),
        )
    }
    assert codes == {"protocol_violation"}


@abuse
async def requests_with_odd_fields(attacker: Attacker) -> None:
    """No model, no deadline, a kind from the future, names of a megabyte."""
    peer = await attacker.peer()
    good = {"id": "i", "kind": 1, "project": PROJECT, "model": MODEL, "deadline_ms": 1000, "body": b"{}"}
    for odd in ({"model": ""}, {"deadline_ms": 0}, {"kind": 77}, {"project": "P" * (1 << 20)}, {"id": "\0" * 257}):
        frame = pb.InferenceFrame(request=pb.Request(**(good | odd))).SerializeToString()
        assert (await refusal(peer, encode_frame(frame))).code == "invalid_request"


@abuse
async def requests_with_odd_parts(attacker: Attacker) -> None:
    """Files without a name, with a name of a megabyte, a thousand of them, and ten thousand empty ones."""
    peer = await attacker.peer()
    good = {"id": "i", "kind": 3, "project": PROJECT, "model": MODEL, "deadline_ms": 1000, "body": b"{}"}
    for parts in (
        [pb.Part()],
        [pb.Part(name="image", filename="f" * (1 << 20))],
        [pb.Part(name="image", content_type="a" * 300)],
        [pb.Part(name="image[]", data=bytes(1000))] * 1000,
        [pb.Part(name="i")] * 10_000,
    ):
        frame = pb.InferenceFrame(request=pb.Request(**good, parts=parts)).SerializeToString()
        assert (await refusal(peer, encode_frame(frame))).code == "invalid_request"


@abuse
async def request_over_the_limit(attacker: Attacker) -> None:
    """A request of a gigabyte: refused by its length alone."""
    peer = await attacker.peer()
    assert (await refusal(peer, varint(1 << 30))).code == "too_large"


@abuse
async def two_requests(attacker: Attacker) -> None:
    """Two requests on one stream, and one with something behind it."""
    peer = await attacker.peer()
    for data in (request() * 2, request() + b"\0"):
        assert (await refusal(peer, data)).code == "protocol_violation"


@abuse
async def endless_requests(attacker: Attacker) -> None:
    """Bodies of 30 MiB, twenty at once, that never end."""
    peer = await attacker.peer()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(_pour_body, peer)


async def _pour_body(peer: Peer) -> None:
    stream = await peer.stream(INFERENCE, varint(30 << 20))
    with trio.move_on_after(2 * POUR_S):
        while True:
            await stream.send_all(bytes(60_000))


@abuse
async def body_byte_by_byte(attacker: Attacker) -> None:
    """Slow loris: fifty requests that come a byte at a time."""
    peer = await attacker.peer()
    streams = [await peer.stream(INFERENCE) for _ in range(50)]
    with trio.move_on_after(POUR_S):
        for byte in request():
            for stream in streams:
                await stream.send_all(bytes((byte,)))


@abuse
async def deadline_of_weeks(attacker: Attacker) -> None:
    """A request that may take seven weeks: the victim has its own limit."""
    peer = await attacker.peer()
    answer = await peer.ask(INFERENCE, request(seconds=2**32 / 1000))
    assert b"tok7" in answer


@abuse
async def deadline_of_a_millisecond(attacker: Attacker) -> None:
    """Requests that are late when they arrive."""
    peer = await attacker.peer()
    for _ in range(100):
        await is_reset(await _asked(peer, request(seconds=0.001)))


async def _asked(peer: Peer, data: bytes) -> YamuxStream:
    stream = await peer.stream(INFERENCE, data)
    stream.send_eof()
    return stream


@abuse
async def ten_thousand_requests_for_no_model(attacker: Attacker) -> None:
    """Requests for a model that nobody has, all at once, ended without reading the answer."""
    peer = await attacker.peer()
    data = request(model="none")
    with trio.move_on_after(10 * POUR_S):
        for _ in range(100):
            streams = [await _asked(peer, data) for _ in range(100)]
            for stream in streams:
                await stream.receive_some()
                stream.abort()


@abuse
async def hang_up_at_each_point(attacker: Attacker) -> None:
    """Reset and half close at each byte of a request, and at each stage of its answer."""
    peer = await attacker.peer()
    data = request()
    for size in range(0, len(data), 3):
        (await peer.stream(INFERENCE, data[:size])).abort()
        (await peer.stream(INFERENCE, data[:size])).send_eof()
    for pieces in range(1, 4):
        stream = await _asked(peer, request(model=LONG_MODEL))
        for _ in range(pieces):
            await stream.receive_some()
        stream.abort()


@abuse
async def connection_lost_in_answers(attacker: Attacker) -> None:
    """Connections that die under ten running answers each."""
    for _ in range(3):
        peer = await attacker.peer()
        for _ in range(10):
            await _asked(peer, request(model=LONG_MODEL))
        await trio.sleep(0.05)
        await peer.muxer.secured_conn.close()


@abuse
async def requester_that_never_reads(attacker: Attacker) -> None:
    """Long answers that nobody takes."""
    peer = await attacker.peer()
    for _ in range(20):
        await _asked(peer, request(model=LONG_MODEL))
    await trio.sleep(POUR_S)


@abuse
async def control_junk(attacker: Attacker) -> None:
    """Questions that are none."""
    peer = await attacker.peer()
    for data in (b"\xff" * 6, encode_frame(os.urandom(50)), encode_frame(b""), varint(1 << 30)):
        stream = await peer.stream(CONTROL, data)
        stream.send_eof()
        await is_reset(stream)


@abuse
async def control_flood(attacker: Attacker) -> None:
    """The same question without a pause, the answers not read."""
    peer = await attacker.peer()
    stream = await peer.stream(CONTROL)
    with trio.move_on_after(POUR_S):
        while True:
            await stream.send_all(QUESTION * 1000)


@abuse
async def control_byte_by_byte(attacker: Attacker) -> None:
    """Half a question, a hundred times, held open."""
    peer = await attacker.peer()
    for _ in range(100):
        await peer.stream(CONTROL, QUESTION[:-1])


@abuse
async def control_thousand_streams(attacker: Attacker) -> None:
    """Thousands of streams with a question each, as fast as they go."""
    peer = await attacker.peer()
    with trio.move_on_after(3 * POUR_S):
        for _ in range(3000):
            stream = await peer.stream("", proposal(CONTROL) + QUESTION)
            stream.send_eof()
