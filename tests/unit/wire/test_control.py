from __future__ import annotations

from typing import Any

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
    assert wire.encode_request(wire.PROJECTS, None).hex() == "020a00"
    assert wire.encode_request(wire.NODE_INFO, None).hex() == "021200"
    assert wire.encode_request(wire.HOST_INFO, None).hex() == "021a00"
    assert wire.encode_answer(wire.PROJECTS, [Project("P", ("a", "b"))]).hex() == "0d0a0b0a090a01501201611201" + "62"


@given(st.lists(st.builds(Project, st.text(max_size=20), st.lists(st.text(max_size=20)).map(tuple)), max_size=20))
def test_projects_come_back_as_they_were(projects: list[Project]) -> None:
    frame = one_frame(wire.encode_answer(wire.PROJECTS, projects))
    assert list(wire.decode_answer(wire.PROJECTS, frame)) == projects


@pytest.mark.parametrize("name", ["projects", "node_info", "host_info"])
def test_a_question_is_read_as_it_was_asked(name: str) -> None:
    question = wire.QUESTIONS[name]
    assert wire.decode_request(one_frame(wire.encode_request(question, None))) == (question, None)


@pytest.mark.parametrize("question", wire.QUESTIONS.values(), ids=wire.QUESTIONS)
def test_a_refusal_is_raised(question: wire.Question[Any, Any]) -> None:
    with pytest.raises(Busy, match="later"):
        wire.decode_answer(question, one_frame(wire.encode_failure(Busy("later"))))


def test_the_answer_to_another_question_is_none() -> None:
    frame = one_frame(wire.encode_answer(wire.PROJECTS, []))
    with pytest.raises(ProtocolViolation, match="node_info was answered with projects"):
        wire.decode_answer(wire.NODE_INFO, frame)
    with pytest.raises(ProtocolViolation, match="with nothing"):
        wire.decode_answer(wire.NODE_INFO, b"")


@pytest.mark.parametrize("frame", [b"\x7a\x00", b""], ids=["field 15", "empty"])
def test_a_question_of_the_future_is_unsupported(frame: bytes) -> None:
    with pytest.raises(Unsupported):
        wire.decode_request(frame)


@given(st.sampled_from(list(wire.QUESTIONS.values())), st.binary(max_size=200))
def test_junk_is_one_clear_error(question: wire.Question[Any, Any], junk: bytes) -> None:
    for decode in (wire.decode_request, lambda frame: wire.decode_answer(question, frame)):
        try:
            decode(junk)
        except AicnError as error:
            assert isinstance(error, (ProtocolViolation, Unsupported)) or pb.ControlResponse.FromString(junk).failure
