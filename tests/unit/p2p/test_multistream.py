import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.errors import ProtocolViolation, Unsupported
from aicn.p2p.multistream import HEADER, Responder, check_answer, encode, proposal, take_message

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=200)


def fed_in_pieces(responder: Responder, data: bytes, cuts: list[int]) -> bytes:
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return b"".join(responder.receive(data[a:b]) for a, b in zip(bounds, bounds[1:], strict=False))


def test_the_bytes_of_the_specification() -> None:
    assert HEADER == b"\x13/multistream/1.0.0\n"
    assert encode("na") == b"\x03na\n"
    assert encode("x" * 200) == b"\xc9\x01" + b"x" * 200 + b"\n"
    assert proposal("/noise") == b"\x13/multistream/1.0.0\n\x07/noise\n"


@given(NAMES, st.binary(max_size=100), st.lists(st.integers(0, 500), max_size=8))
def test_agreement_and_the_bytes_behind_it(name: str, rest: bytes, cuts: list[int]) -> None:
    responder = Responder({name})
    answer = fed_in_pieces(responder, proposal(name) + rest, cuts)
    assert responder.protocol == name
    assert responder.rest == rest
    assert answer == proposal(name)
    assert check_answer(answer + rest, name) == len(answer)
    for size in range(len(answer)):
        assert check_answer(answer[:size], name) is None


@given(st.lists(NAMES.filter(lambda name: name != "yes"), max_size=15), st.lists(st.integers(0, 5000), max_size=8))
def test_refusals_until_one_is_served(names: list[str], cuts: list[int]) -> None:
    responder = Responder({"yes"})
    answer = fed_in_pieces(responder, HEADER + b"".join(map(encode, [*names, "yes"])), cuts)
    assert answer == HEADER + encode("na") * len(names) + encode("yes")
    assert responder.refused is bool(names)


def test_it_is_refused_to_propose_for_ever() -> None:
    responder = Responder(())
    with pytest.raises(ProtocolViolation, match="too many"):
        responder.receive(HEADER + encode("/x") * 100)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_junk_agrees_to_nothing(junk: bytes, cuts: list[int]) -> None:
    for head in (b"", HEADER):
        responder = Responder({"/x"})
        try:
            fed_in_pieces(responder, head + junk, cuts)
        except ProtocolViolation:
            pass
        assert responder.protocol is None or encode("/x") in junk
        assert len(responder.rest) <= len(head) + len(junk)


def test_junk_is_noticed_at_its_first_byte() -> None:
    with pytest.raises(ProtocolViolation):
        Responder({"/x"}).receive(b"G")
    with pytest.raises(ProtocolViolation):
        check_answer(b"G", "/x")


@pytest.mark.parametrize("junk", [b"\x00", b"\xff\xff", b"\xff\xff\xff\xff\x01", b"\x81\x08", b"\x02ab"])
def test_no_messages(junk: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        take_message(junk)


@pytest.mark.parametrize("part", [b"", b"\x05", b"\x85", b"\x85\x01", b"\x05abc"])
def test_incomplete_messages(part: bytes) -> None:
    assert take_message(part) is None


def test_a_proposal_that_is_no_text() -> None:
    with pytest.raises(ProtocolViolation, match="no text"):
        Responder({"/x"}).receive(HEADER + b"\x03\xff\xfe\n")


def test_who_went_on_at_once_is_told_that_the_protocol_is_not_served() -> None:
    responder = Responder({"/x"})
    assert responder.receive(proposal("/y") + b"\x00a request of /y") == HEADER + encode("na")
    assert responder.refused
    with pytest.raises(ProtocolViolation):
        responder.receive(b"more of it")


def test_refusal() -> None:
    with pytest.raises(Unsupported, match="/x/1"):
        check_answer(HEADER + encode("na"), "/x/1")
    assert check_answer(HEADER, "/x/1") is None
    assert check_answer(HEADER + b"\x03n", "/x/1") is None


@given(st.binary(max_size=60))
def test_any_answer(data: bytes) -> None:
    for head in (b"", HEADER):
        try:
            size = check_answer(head + data, "/x/1")
        except (Unsupported, ProtocolViolation):
            continue
        assert size is None or (head + data).startswith(proposal("/x/1"))
