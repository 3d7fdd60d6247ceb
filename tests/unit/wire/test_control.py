from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.registration import Project
from aicn.errors import AicnError, Busy, ProtocolViolation, Unsupported
from aicn.wire import control as wire
from aicn.wire.framing import FrameReader
from aicn.wire.pb import control_pb2 as pb


def one_frame(data: bytes) -> bytes:
    reader = FrameReader(1 << 20)
    reader.feed(data)
    frame = reader.next_frame()
    assert frame is not None
    return frame


def test_golden_frames() -> None:
    assert wire.encode_projects_request().hex() == "020a00"
    assert wire.encode_projects([Project("P", ("a", "b"))]).hex() == "0d0a0b0a090a01501201611201" + "62"


@given(st.lists(st.builds(Project, st.text(max_size=20), st.lists(st.text(max_size=20)).map(tuple)), max_size=20))
def test_projects_come_back_as_they_were(projects: list[Project]) -> None:
    assert list(wire.decode_projects(one_frame(wire.encode_projects(projects)))) == projects


def test_a_refusal_is_raised() -> None:
    with pytest.raises(Busy, match="later"):
        wire.decode_projects(one_frame(wire.encode_failure(Busy("later"))))


def test_a_question_of_the_future_is_unsupported() -> None:
    assert wire.decode_request(one_frame(wire.encode_projects_request())) == "projects"
    with pytest.raises(Unsupported):
        wire.decode_request(b"\x7a\x00")  # field 15, unknown here


@given(st.binary(max_size=200))
def test_junk_is_one_clear_error(junk: bytes) -> None:
    for decode in (wire.decode_request, wire.decode_projects):
        try:
            decode(junk)
        except AicnError as error:
            assert isinstance(error, (ProtocolViolation, Unsupported)) or pb.ControlResponse.FromString(junk).failure
