"""What the operator and the others are told of how this node is reached."""

from __future__ import annotations

import logging

import pytest

from aicn.p2p.reachability import Reachability, State


@pytest.fixture
def reachability(caplog: pytest.LogCaptureFixture) -> Reachability:
    caplog.set_level(logging.INFO, "aicn.p2p.reachability")
    return Reachability(lambda: ["6001", "6001"])


def test_each_change_is_one_line(reachability: Reachability, caplog: pytest.LogCaptureFixture) -> None:
    reachability.say()
    for _ in range(3):
        reachability.set(State.PRIVATE)
        reachability.set_relays([])
    for _ in range(3):
        reachability.set_relays(["16Uiu2A", "16Uiu2B"])
    for _ in range(3):
        reachability.set(State.PUBLIC, "/ip4/8.8.4.4/tcp/6001")
    assert caplog.messages == [
        "reachable: at port 6001; no peer has said yet whether from outside",
        "reachable: only by peers that this node dials; add p2p.relays or forward port 6001",
        "reachable: through relay 16Uiu2A, 16Uiu2B (behind NAT)",
        "reachable: publicly at /ip4/8.8.4.4/tcp/6001",
    ]


def test_a_relay_of_a_node_that_knows_nothing_else(reachability: Reachability) -> None:
    reachability.set_relays(["16Uiu2A"])
    assert reachability.describe() == "reachable: through relay 16Uiu2A"


def test_a_node_without_a_listener_is_not_told_to_forward_a_port() -> None:
    reachability = Reachability(list)
    assert reachability.describe().startswith("reachable: nowhere")
    reachability.set(State.PRIVATE)
    assert reachability.describe() == "reachable: only by peers that this node dials; add p2p.relays"


def test_listeners_hear_the_state_now_and_when_it_changes(reachability: Reachability) -> None:
    heard: list[State] = []
    reachability.on_change(heard.append)
    reachability.set(State.PUBLIC, "/ip4/8.8.4.4/tcp/6001")
    reachability.set(State.PUBLIC, "/ip4/8.8.4.4/tcp/6002")
    reachability.set(State.PRIVATE)
    assert heard == [State.UNKNOWN, State.PUBLIC, State.PRIVATE]
