from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind
from aicn.domain.names import LONGEST_NAME, is_name
from aicn.domain.offers import (
    LONGEST_LIFE_S,
    Lost,
    NodeType,
    Offer,
    OfferedModel,
    OfferedProject,
    OffersAsked,
    OffersPage,
)
from aicn.errors import ProtocolViolation
from aicn.wire import offers
from aicn.wire.pb import control_pb2
from aicn.wire.pb import offers_pb2 as pb

NODE = PeerId("16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq")
OFFERED = [kind for kind in Kind if kind is kind.offered]
MODEL = OfferedModel("M", Kind.CHAT, 32, 3, 4096, ("alias",))
OFFER = Offer(NODE, 7, 1000.0, 1090.0, NodeType.MODEL | NodeType.DIRECTORY, (OfferedProject("P", (MODEL,)),), ("/p",))

NAMES = st.text(min_size=1, max_size=LONGEST_NAME).filter(is_name)
UINT32 = st.integers(0, 2**32 - 1)
MODELS = st.builds(
    OfferedModel, NAMES, st.sampled_from(OFFERED), UINT32, UINT32, UINT32, st.lists(NAMES, max_size=16).map(tuple)
)
PROJECTS = st.builds(
    OfferedProject, NAMES, st.lists(MODELS, max_size=5, unique_by=lambda one: (one.name, one.kind)).map(tuple)
)
OFFERS = st.builds(
    Offer,
    st.just(NODE),
    st.integers(1, 2**64 - 1),
    st.integers(0, 2**41).map(lambda ms: ms / 1000),
    st.just(0.0),
    st.integers(0, 7).map(NodeType),
    st.lists(PROJECTS, max_size=5, unique_by=lambda one: one.name).map(tuple),
    st.lists(st.text("/aicn1.0", min_size=1, max_size=128), max_size=32).map(tuple),
    st.booleans(),
).flatmap(
    lambda one: st.integers(1, int(LONGEST_LIFE_S)).map(
        lambda life: replace(one, expires=(round(one.issued * 1000) + life * 1000) / 1000)
    )
)


@given(OFFERS)
def test_an_offer_comes_back_as_it_was(offer: Offer) -> None:
    assert offers.decode(offers.encode_offer(offer), NODE) == offer


def test_a_loss_comes_back_as_it_was() -> None:
    assert offers.decode(offers.encode_lost(Lost(NODE, 9)), PeerId("somebody")) == Lost(NODE, 9)


def projects(*names: str) -> tuple[OfferedProject, ...]:
    return tuple(OfferedProject(name, (MODEL,)) for name in names)


def models(*names: str) -> tuple[OfferedProject, ...]:
    return (OfferedProject("P", tuple(OfferedModel(name, Kind.CHAT) for name in names)),)


MANY = [f"{number}" for number in range(offers.MOST_MODELS + 1)]
WRONG: dict[str, dict[str, Any]] = {
    "no seq": {"seq": 0},
    "ends before it begins": {"expires": 999.0},
    "ends as it begins": {"expires": 1000.0},
    "lives too long": {"expires": 1000.0 + LONGEST_LIFE_S + 0.001},
    "never ends": {"issued": 1e13, "expires": 1e13 + 1},
    "too many projects": {"projects": projects(*MANY[: offers.MOST_PROJECTS + 1])},
    "too many models": {"projects": models(*MANY)},
    "a project twice": {"projects": projects("P", "P")},
    "a model twice": {"projects": models("M", "M")},
    "no name of a project": {"projects": projects("")},
    "no name of a model": {"projects": models("")},
    "a long name": {"projects": models("x" * (LONGEST_NAME + 1))},
    "a control character": {"projects": models("a\nb")},
    "spaces at the end": {"projects": models("a ")},
    "an alias that is none": {"projects": (OfferedProject("P", (replace(MODEL, aliases=("",)),)),)},
    "too many aliases": {"projects": (OfferedProject("P", (replace(MODEL, aliases=("a",) * 17),)),)},
    "too many protocols": {"protocols": ("/p",) * 33},
    "a long protocol": {"protocols": ("/" * 129,)},
    "too large": {"projects": models(*("é" * 120 + name for name in MANY[:1000]))},
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_over_a_limit_is_refused(what: str) -> None:
    with pytest.raises(ProtocolViolation):
        offers.decode(offers.encode_offer(replace(OFFER, **WRONG[what])), NODE)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", offers.encode_lost(Lost(NODE, 0)), offers.encode_lost(Lost(PeerId("x"), 1))]
)
def test_what_is_no_announcement_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        offers.decode(data, NODE)


def test_what_later_versions_may_add_is_left_out() -> None:
    message = pb.Announcement.FromString(offers.encode_offer(OFFER))
    message.offer.projects[0].models.add(name="of a kind to come", kind=99)  # type: ignore[arg-type]
    message.offer.node_type |= 64
    assert offers.decode(message.SerializeToString(), NODE) == OFFER


@pytest.mark.parametrize("name", ["m", "é" * 100, "漢" * LONGEST_NAME])
def test_what_does_not_fit_is_cut_at_the_end(name: str) -> None:
    long = [OfferedModel(f"{name[: LONGEST_NAME - 4]}{number}", Kind.CHAT) for number in range(1000)]
    wanted = [OfferedProject("first", tuple(long)), OfferedProject("second", tuple(long))]
    fitting = offers.fit(wanted, spare=4096)
    decoded = offers.decode(offers.encode_offer(replace(OFFER, projects=fitting)), NODE)
    assert isinstance(decoded, Offer)
    assert decoded.projects == fitting
    assert list(fitting[0].models) == long[: len(fitting[0].models)]
    assert len(offers.encode_offer(replace(OFFER, projects=fitting))) > (
        10_000 if name == "m" else offers.OFFER_BYTES * 0.9
    )


def test_what_is_no_name_is_left_out_and_not_the_whole_announcement() -> None:
    wanted = [*projects("a\nb"), *models("M", " "), OfferedProject("empty", ())]
    assert offers.fit(wanted, spare=0) == models("M")


def test_the_question_for_offers() -> None:
    asked, page = OffersAsked(NODE, "x"), OffersPage((b"a", b"b"), NODE)
    assert offers.to_asked(offers.from_asked(asked)) == asked
    assert offers.to_page(offers.from_page(page)) == page
    with pytest.raises(ProtocolViolation):
        offers.to_asked(control_pb2.OffersRequest(after="x" * 100))
    for bad in (control_pb2.Offers(signed=[b""] * 10_000), control_pb2.Offers(more_after="x" * 100)):
        with pytest.raises(ProtocolViolation):
            offers.to_page(bad)
