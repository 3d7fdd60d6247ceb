"""Policies compared in the simulation of bench/routing.py, smaller: ours must be at least as good as the others, and stay so."""

from __future__ import annotations

from statistics import fmean

import pytest

from bench.routing import POLICIES, Result, Scene, Simulation, at


def first(result: Result, share: float) -> float:
    return at(sorted(result.first), share)


@pytest.mark.parametrize("load", [0.3, 0.8])
def test_ours_is_at_least_as_good_as_the_others(load: float) -> None:
    scene = Scene(workers=40, gateways=4, seconds=80.0, load=load, seed=7)
    results = {policy: Simulation(scene, policy).run() for policy in POLICIES}
    ours = results.pop("ours")
    assert ours.failed == 0
    for other in results.values():
        assert fmean(ours.first) <= 0.8 * fmean(other.first), other.policy
        assert first(ours, 0.95) <= 0.8 * first(other, 0.95), other.policy
        assert first(ours, 0.5) <= first(other, 0.5), other.policy
        assert fmean(ours.whole) <= 0.9 * fmean(other.whole), other.policy
        assert ours.retries <= other.retries, other.policy
        assert ours.failed <= other.failed, other.policy


def test_without_trouble_hardly_anybody_is_asked_twice() -> None:
    scene = Scene(workers=20, gateways=2, seconds=30.0, load=0.5, crash_every_s=1e9, freeze_every_s=1e9, seed=3)
    ours = Simulation(scene, "ours").run()
    assert (ours.broken, ours.failed) == (0, 0)
    assert ours.retries <= 3  # a slow worker, tried where others wait already
    assert len(ours.first) == len(ours.whole) > 300


def test_a_dead_worker_costs_little() -> None:
    """All others are healthy: each gateway finds out once per ever longer pause."""
    scene = Scene(
        workers=20, gateways=2, seconds=60.0, load=0.4, crash_every_s=30.0, freeze_every_s=1e9, down_s=60.0, seed=5
    )
    ours = Simulation(scene, "ours").run()
    assert ours.failed == 0
    assert ours.retries <= 0.04 * len(ours.first)


@pytest.mark.parametrize("seed", range(3))
def test_a_new_worker_has_its_first_request_soon_and_no_flood(seed: int) -> None:
    scene = Scene(workers=30, gateways=4, seconds=40.0, load=0.6, joins_at=30.0, seed=seed)
    asked = Simulation(scene, "ours").run().newcomer
    assert asked[0] - scene.joins_at <= 2.0
    before_its_first_answer = [time for time in asked if time < asked[0] + 0.05]  # it takes at least that long
    assert len(before_its_first_answer) <= scene.gateways
    assert len(asked) > 20  # it is one of the fast
