from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn import errors
from aicn.domain.inference import MOST_PARTS, Accepted, Chunk, End, InferenceRequest, Kind, Part, Usage
from aicn.errors import AicnError, Busy, Fault, InvalidRequest, ModelFailed, ProtocolViolation
from aicn.wire import inference as wire
from aicn.wire.framing import FrameReader
from aicn.wire.pb import inference_pb2 as pb

REQUEST = InferenceRequest(
    id="r1", kind=Kind.CHAT, project="P", model="M", body=b'{"messages": []}', stream=True, deadline=110.0
)


def one_frame(data: bytes) -> bytes:
    reader = FrameReader(1 << 22)
    reader.feed(data)
    frame = reader.next_frame()
    assert frame is not None
    assert reader.pending == 0
    return frame


def test_golden_request() -> None:
    """Bytes that older and newer nodes must agree on."""
    encoded = wire.encode_request(REQUEST, now=100.0)
    assert encoded.hex() == "250a230a0272311001" + "1a0150" + "22014d" + "28904e" + "3001" + "3a10" + REQUEST.body.hex()


def test_golden_answer_frames() -> None:
    assert wire.encode_accepted(Accepted(2, 5)).hex() == "06120408021005"
    assert wire.encode_chunk(Chunk(b"data: x\n\n")).hex() == "0d1a0b0a09" + b"data: x\n\n".hex()
    assert (
        wire.encode_end(End("stop", Usage(1, 2, 3), 4, 5, 6)).hex() == "1622140a0473746f701206080110021803180420052806"
    )


@given(
    st.builds(
        InferenceRequest,
        id=st.text(min_size=1, max_size=50),
        kind=st.sampled_from(Kind),
        project=st.text(min_size=1, max_size=50),
        model=st.text(min_size=1, max_size=50),
        body=st.binary(max_size=500),
        stream=st.booleans(),
        deadline=st.just(7.5),
        parts=st.lists(
            st.builds(
                Part,
                name=st.text(min_size=1, max_size=50),
                filename=st.text(max_size=50),
                content_type=st.text(max_size=50),
                data=st.binary(max_size=500),
            ),
            max_size=MOST_PARTS,
        ).map(tuple),
    )
)
def test_a_request_comes_back_as_it_was(request: InferenceRequest) -> None:
    assert wire.decode_request(one_frame(wire.encode_request(request, now=5.0)), now=5.0) == request


@pytest.mark.parametrize(
    "message",
    [Accepted(), Accepted(3, 9), Chunk(b""), Chunk(bytes(range(256))), End(), End("length", Usage(7, 8, 15), 1, 2, 3)],
)
def test_an_answer_comes_back_as_it_was(message: Accepted | Chunk | End) -> None:
    encode = {Accepted: wire.encode_accepted, Chunk: wire.encode_chunk, End: wire.encode_end}[type(message)]
    assert wire.decode_answer(one_frame(encode(message))) == message  # type: ignore[operator]


def test_a_long_chunk_travels_in_parts_below_the_frame_limit() -> None:
    data = bytes(range(256)) * 3000
    reader = FrameReader(wire.ANSWER_FRAME_BYTES)
    reader.feed(wire.encode_chunk(Chunk(data)))
    parts = []
    while (frame := reader.next_frame()) is not None:
        part = wire.decode_answer(frame)
        assert isinstance(part, Chunk)
        parts.append(part.data)
    assert b"".join(parts) == data
    assert len(parts) == 3


ERRORS = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, AicnError)]


OURS = [cls for cls in ERRORS if cls.fault is errors.Fault.OURS]


@pytest.mark.parametrize("cls", [cls for cls in ERRORS if cls not in OURS and cls.__base__ is AicnError])
def test_every_error_comes_back_as_itself(cls: type[AicnError]) -> None:
    sent = cls("what happened", retry_after=2.5)
    received = wire.decode_answer(one_frame(wire.encode_failure(sent)))
    assert type(received) is cls
    assert isinstance(received, AicnError)
    assert (received.message, received.retry_after, received.fault) == ("what happened", 2.5, cls.fault)


def test_an_endpoint_that_is_down_is_a_failed_model_to_a_peer() -> None:
    received = wire.decode_answer(one_frame(wire.encode_failure(errors.EndpointDown("m"))))
    assert type(received) is errors.ModelFailed


@pytest.mark.parametrize("cls", OURS)
def test_what_broke_in_a_peer_did_not_break_here(cls: type[AicnError]) -> None:
    received = wire.decode_answer(one_frame(wire.encode_failure(cls("m"))))
    assert type(received) is errors.ModelFailed


def test_an_unknown_code_is_the_remotes_fault() -> None:
    frame = pb.InferenceFrame(failure={"code": "from_the_future", "message": "m"}).SerializeToString()
    error = wire.decode_answer(frame)
    assert isinstance(error, ModelFailed)
    assert error.fault is Fault.REMOTE


def test_a_peers_message_is_cut_and_cleaned() -> None:
    frame = pb.InferenceFrame(failure={"code": "busy", "message": "a\x1b[31m\n" + "x" * 5000}).SerializeToString()
    error = wire.decode_answer(frame)
    assert isinstance(error, Busy)
    assert error.message.startswith("a [31m x")
    assert len(error.message) == 1000


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"project": ""}, "project"),
        ({"model": "m" * 257}, "model"),
        ({"kind": 99}, "kind"),
        ({"kind": 0}, "kind"),
        ({"deadline_ms": 0}, "deadline_ms"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, object], field: str) -> None:
    message = pb.InferenceFrame.FromString(one_frame(wire.encode_request(REQUEST, now=100.0)))
    for name, value in change.items():
        setattr(message.request, name, value)
    with pytest.raises(InvalidRequest, match=f"^{field}:"):
        wire.decode_request(message.SerializeToString(), now=0)


def test_roles_are_kept() -> None:
    with pytest.raises(ProtocolViolation):
        wire.decode_request(one_frame(wire.encode_accepted(Accepted())), now=0)
    with pytest.raises(ProtocolViolation):
        wire.decode_answer(one_frame(wire.encode_request(REQUEST, now=0)))
    with pytest.raises(ProtocolViolation):
        wire.decode_answer(b"")


@given(st.binary(max_size=200))
def test_junk_is_one_clear_error(junk: bytes) -> None:
    for decode in (wire.decode_answer, lambda frame: wire.decode_request(frame, now=0)):
        try:
            decode(junk)
        except (ProtocolViolation, InvalidRequest):
            pass


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ([pb.Part(name="image")] * (MOST_PARTS + 1), "parts: 18"),
        ([pb.Part()], "parts"),
        ([pb.Part(name="x" * 257)], "parts"),
        ([pb.Part(name="image", filename="x" * 257)], "parts"),
        ([pb.Part(name="image", content_type="x" * 257)], "parts"),
    ],
)
def test_parts_that_cannot_be_are_refused(parts: list[pb.Part], what: str) -> None:
    request = pb.Request(id="r", kind=pb.KIND_IMAGE_EDIT, project="P", model="M", deadline_ms=1, parts=parts)
    with pytest.raises(InvalidRequest, match=what):
        wire.decode_request(pb.InferenceFrame(request=request).SerializeToString(), now=0)
