"""What a relay promises: limits as pure state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.peer.id import ID

from aicn.p2p.relay.ledger import Ledger, Limits

A, B, C, D = (ID(b"\x00\x01" + name) for name in (b"a", b"b", b"c", b"d"))
IP, OTHER_IP = "192.0.2.1", "192.0.2.2"


def a_ledger(*, gone: set[ID] | None = None, **limits: float) -> Ledger:
    absent = set() if gone is None else gone
    return Ledger(Limits(**limits), lambda peer: peer not in absent)  # type: ignore[arg-type]


def test_a_place_lapses_with_its_time() -> None:
    ledger = a_ledger(reservation_s=10)
    assert ledger.reserve(A, IP, now=0)
    assert ledger.holds(A, now=9.9)
    assert not ledger.holds(A, now=10)
    assert ledger.reservations == 0
    assert not ledger.holds(B, now=0)


def test_a_place_is_renewed_also_when_all_are_taken() -> None:
    ledger = a_ledger(reservations=1, reservation_s=10)
    assert ledger.reserve(A, IP, now=0)
    assert ledger.reserve(A, IP, now=8)
    assert ledger.holds(A, now=15)
    assert ledger.reservations == 1


def test_a_place_ends_with_the_connection() -> None:
    gone: set[ID] = set()
    ledger = a_ledger(gone=gone)
    ledger.reserve(A, IP, now=0)
    gone.add(A)
    assert not ledger.holds(A, now=1)


@pytest.mark.parametrize("why", ["lapsed", "gone"])
@pytest.mark.parametrize("limit", ["reservations", "reservations_per_ip"])
def test_there_is_room_again_when_a_place_has_ended(limit: str, why: str) -> None:
    gone: set[ID] = set()
    ledger = a_ledger(gone=gone, reservation_s=10, **{limit: 1})
    assert ledger.reserve(A, IP, now=0)
    assert not ledger.reserve(B, IP, now=1)
    assert not ledger.holds(B, now=1)
    if why == "gone":
        gone.add(A)
    assert ledger.reserve(B, IP, now=11 if why == "lapsed" else 1)
    assert ledger.reservations == 1


def test_places_of_one_address_leave_room_for_others() -> None:
    ledger = a_ledger(reservations_per_ip=2)
    assert [ledger.reserve(peer, IP, now=0) for peer in (A, B, C)] == [True, True, False]
    assert ledger.reserve(C, OTHER_IP, now=0)
    assert ledger.reserve(A, OTHER_IP, now=0)  # it moved
    assert ledger.reserve(D, IP, now=0)


def test_circuits_in_all() -> None:
    ledger = a_ledger(circuits=2)
    assert [ledger.open(A, B), ledger.open(A, B), ledger.open(C, D)] == [True, True, False]
    ledger.close(A, B)
    assert ledger.open(C, D)


def test_circuits_per_peer_count_at_both_ends() -> None:
    ledger = a_ledger(circuits_per_peer=2)
    assert ledger.open(A, B)
    assert ledger.open(C, A)
    assert not ledger.open(A, D)
    assert not ledger.open(D, A)
    assert ledger.open(C, D)
    ledger.close(C, A)
    assert ledger.open(D, A)


@given(st.lists(st.tuples(st.sampled_from("oc"), st.sampled_from([(A, B), (B, A), (A, C), (C, D)])), max_size=60))
def test_what_is_opened_and_closed_leaves_nothing(steps: list[tuple[str, tuple[ID, ID]]]) -> None:
    ledger, running = a_ledger(circuits=5, circuits_per_peer=3), []
    for step, pair in steps:
        if step == "o" and ledger.open(*pair):
            running.append(pair)
        elif step == "c" and pair in running:
            running.remove(pair)
            ledger.close(*pair)
        assert ledger.circuits == len(running) <= 5
        assert all(sum(peer in one for one in running) <= 3 for peer in (A, B, C, D))
    for pair in running:
        ledger.close(*pair)
    assert not ledger.circuits
    assert not ledger._circuits


@given(
    st.lists(
        st.tuples(
            st.sampled_from([A, B, C, D]), st.sampled_from([IP, OTHER_IP]), st.floats(0, 5), st.sampled_from("rhg")
        ),
        max_size=60,
    )
)
def test_places_never_exceed_their_limits(steps: list[tuple[ID, str, float, str]]) -> None:
    gone: set[ID] = set()
    ledger, now = a_ledger(gone=gone, reservations=3, reservations_per_ip=2, reservation_s=7), 0.0
    for peer, ip, pause, step in steps:
        now += pause
        if step == "g":
            gone ^= {peer}
        elif step == "h":
            ledger.holds(peer, now)
        elif peer not in gone and ledger.reserve(peer, ip, now):
            assert ledger.holds(peer, now)
        places = ledger._reservations.values()
        assert len(places) <= 3
        assert ledger._by_ip == {
            each: count for each in (IP, OTHER_IP) if (count := [p.ip for p in places].count(each))
        }
        assert all(count <= 2 for count in ledger._by_ip.values())
