"""Policies of choosing a worker, compared in a simulation: `python -m bench.routing [--seconds 300] [--workers 100]`.

Workers of three speeds with a few slots each take the requests of several gateways, which see only what they did themselves and what
workers announce (every 30 s, and within half a second when they are full or no longer). Workers crash (their answers break off, later
requests are refused at once) and freeze (nothing comes, nothing breaks), and stay in everybody's list meanwhile. Whatever the policy,
an attempt that has not begun after DEADLINE_S is given up, the next worker in its order is asked, and at most ATTEMPTS are.
What the policies see of a prompt cache, hedging and resuming is no part of it: this is about the choice alone.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from statistics import fmean

from aicn.domain.ids import PeerId
from aicn.domain.inference import Accepted, Kind
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import OfferedModel, Provider
from aicn.errors import AicnError, AnswerBroken, Busy, DeadlineExceeded, Unreachable
from bench.policies import ATTEMPTS, POLICIES

DEADLINE_S = 10.0
QUEUE = 64  # requests that wait at a worker; more are refused as busy
ANNOUNCE_S = 30.0
LOOK_S = 0.5
TOKENS = 100  # of an answer, in the mean
SPEEDS = ((0.1, 0.010), (0.3, 0.030), (1.5, 0.120))  # seconds to the first token and per token
SHARES = (20, 60, 20)  # of the workers, percent


@dataclass(frozen=True)
class Scene:
    """What happens, the same for all policies."""

    workers: int = 100
    gateways: int = 4
    seconds: float = 300.0
    load: float = 0.6  # of what all workers can do
    crash_every_s: float = 5.0
    freeze_every_s: float = 10.0
    down_s: float = 20.0
    joins_at: float = 0.0  # when a fast worker more comes; 0: never
    seed: int = 1


@dataclass(eq=False)
class Worker:
    """A node with a model."""

    node: PeerId
    first_s: float
    token_s: float
    slots: int
    joined: float = 0.0
    down_until: float = 0.0
    frozen_until: float = 0.0
    running: set[Job] = field(default_factory=set)
    waiting: list[Job] = field(default_factory=list)
    told: tuple[int, float] = (0, 0.0)  # in flight, and when, as last announced
    busy_s: float = 0.0
    asked: list[float] = field(default_factory=list)


@dataclass(eq=False)
class Job:
    """A request, at the worker where it is now."""

    gateway: int
    arrived: float
    tokens: int
    left: Iterator[Provider] = field(default_factory=lambda: iter(()))
    provider: Provider | None = None
    worker: Worker | None = None
    asked: float = 0.0
    first_at: float = 0.0  # when it begins, as things stand; 0: it waits
    began: float = 0.0  # when it did
    ends_at: float = 0.0
    turn: int = 0  # grows with each change: what was due before is not any more


@dataclass
class Result:
    """What came of one policy in one scene. Times in seconds."""

    policy: str
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    broken: int = 0  # after their beginning
    failed: int = 0  # nobody has begun
    retries: int = 0
    busy: dict[str, float] = field(default_factory=dict)  # share of its slots, by speed
    newcomer: list[float] = field(default_factory=list)  # when the worker that came later was asked

    def row(self) -> list[str]:
        first, whole = sorted(self.first), sorted(self.whole)
        return [
            self.policy,
            *(f"{value:.2f}" for value in (fmean(first), *(at(first, share) for share in (0.5, 0.95, 0.99)))),
            *(f"{value:.2f}" for value in (fmean(whole), *(at(whole, share) for share in (0.5, 0.95, 0.99)))),
            *(str(number) for number in (self.retries, self.broken, self.failed)),
            " / ".join(f"{share:.0%}" for share in self.busy.values()),
        ]


HEADER = (
    "policy", "first mean", "p50", "p95", "p99", "whole mean", "p50", "p95", "p99", "retries", "broken", "failed", "busy: fast / medium / slow",
)  # fmt: skip


def at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Simulation:
    """One policy in one scene."""

    def __init__(self, scene: Scene, policy: str) -> None:
        self.scene = scene
        self.now = 0.0
        self.result = Result(policy)
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._number = count()
        self._chance = random.Random(scene.seed)  # the same for all policies: they draw from their own
        self._workers = [self._a_worker(i, i * 100 // scene.workers) for i in range(scene.workers)]
        if scene.joins_at:
            self._workers.append(self._a_worker(scene.workers, 0, joined=scene.joins_at))
        capacity = sum(one.slots / (one.first_s + TOKENS * one.token_s) for one in self._workers[: scene.workers])
        self._every_s = scene.gateways / (capacity * scene.load)
        make = POLICIES[policy]
        self._policies = [make(random.Random(scene.seed + i), lambda: self.now) for i in range(scene.gateways)]
        self._links = {
            (gateway, one.node): Link(Connectivity.CONNECTED, self._chance.uniform(0.005, 0.15))
            for gateway in range(scene.gateways)
            for one in self._workers
        }
        self._lists: list[dict[PeerId, Provider]] = [{} for _ in range(scene.gateways)]
        self._by_node = {one.node: one for one in self._workers}

    def run(self) -> Result:
        scene, chance = self.scene, self._chance
        for one in self._workers:
            self._at(one.joined, self._announce, one)
            if not one.joined:
                self._at(chance.uniform(0, ANNOUNCE_S), self._announce_again, one)
        self._at(LOOK_S, self._look)
        for gateway in range(scene.gateways):
            for time in self._poisson(self._every_s):
                self._at(
                    time, self._arrive, Job(gateway, time, max(2, round(chance.lognormvariate(0, 0.7) * TOKENS / 1.28)))
                )
        for every_s, event in ((scene.crash_every_s, self._crash), (scene.freeze_every_s, self._freeze)):
            for time in self._poisson(every_s):
                self._at(time, event, self._workers[chance.randrange(scene.workers)])
        while self._events:
            self.now, _, event, args = heapq.heappop(self._events)
            if self.now > scene.seconds and event in (self._look, self._announce_again):
                continue
            event(*args)
        for name, speed in zip(("fast", "medium", "slow"), SPEEDS, strict=True):
            kind = [one for one in self._workers if one.first_s == speed[0] and not one.joined]
            self.result.busy[name] = sum(one.busy_s for one in kind) / sum(one.slots for one in kind) / scene.seconds
        self.result.newcomer = [time for one in self._workers if one.joined for time in one.asked]
        return self.result

    # ---- the world ----

    def _a_worker(self, number: int, percent: int, joined: float = 0.0) -> Worker:
        speed = SPEEDS[0] if percent < SHARES[0] else SPEEDS[1] if percent < SHARES[0] + SHARES[1] else SPEEDS[2]
        return Worker(PeerId(f"worker{number:04}"), *speed, slots=self._chance.choice((2, 4, 8)), joined=joined)

    def _poisson(self, every_s: float) -> Iterator[float]:
        time = self._chance.expovariate(1 / every_s)
        while time < self.scene.seconds:
            yield time
            time += self._chance.expovariate(1 / every_s)

    def _at(self, time: float, event: Callable[..., None], *args: object) -> None:
        heapq.heappush(self._events, (time, next(self._number), event, args))

    def _announce(self, worker: Worker) -> None:
        if max(worker.down_until, worker.frozen_until) > self.now:
            return
        load = len(worker.running) + len(worker.waiting)
        worker.told = load, self.now
        model = OfferedModel("M", Kind.CHAT, worker.slots, load)
        for gateway, known in enumerate(self._lists):
            known[worker.node] = Provider(worker.node, model, self._links[gateway, worker.node])

    def _announce_again(self, worker: Worker) -> None:
        self._announce(worker)
        self._at(self.now + ANNOUNCE_S, self._announce_again, worker)

    def _look(self) -> None:
        """What a worker's announcer does: being full is told at once, and that half of the places are free again."""
        for worker in self._workers:
            load, said = len(worker.running) + len(worker.waiting), worker.told[0] >= worker.slots
            if worker.joined <= self.now and (load >= worker.slots / 2 if said else load >= worker.slots) != said:
                self._announce(worker)
        self._at(self.now + LOOK_S, self._look)

    def _crash(self, worker: Worker) -> None:
        worker.down_until = self.now + self.scene.down_s
        for job in [*worker.running, *worker.waiting]:
            self._fail(job, AnswerBroken("crashed"))

    def _freeze(self, worker: Worker) -> None:
        if max(worker.down_until, worker.frozen_until) > self.now:
            return
        worker.frozen_until = self.now + self.scene.down_s
        for job in worker.running:
            job.turn += 1
            if job.began:
                self._at(self.now + DEADLINE_S, self._give_up, job, job.turn)
            else:
                self._at(job.asked + DEADLINE_S, self._give_up, job, job.turn)
        self._at(worker.frozen_until, self._thaw, worker)

    def _thaw(self, worker: Worker) -> None:
        while worker.waiting and len(worker.running) < worker.slots:
            self._start(worker.waiting.pop(0))

    # ---- one request ----

    def _arrive(self, job: Job) -> None:
        job.left = islice(self._policies[job.gateway].order(list(self._lists[job.gateway].values())), ATTEMPTS)
        self._ask_next(job)

    def _ask_next(self, job: Job) -> None:
        provider = next(job.left, None)
        if provider is None:
            self.result.failed += 1
            return
        worker = self._by_node[provider.node]
        job.provider, job.worker, job.asked, job.first_at = provider, worker, self.now, 0.0
        job.turn += 1
        worker.asked.append(self.now)
        self._policies[job.gateway].started(provider)
        self._at(self.now + provider.link.rtt, self._reach, job, job.turn)

    def _reach(self, job: Job, turn: int) -> None:
        worker = job.worker
        assert worker is not None
        if worker.down_until > self.now:
            self._fail(job, Unreachable("down"))
        elif worker.frozen_until > self.now:
            worker.waiting.append(job)
            self._at(job.asked + DEADLINE_S, self._give_up, job, turn)
        elif len(worker.running) < worker.slots:
            self._start(job)
            self._admit(job, 0)
        elif len(worker.waiting) < QUEUE:
            worker.waiting.append(job)
            self._admit(job, len(worker.waiting))
            self._at(job.asked + DEADLINE_S, self._give_up, job, turn)
        else:
            self._fail(job, Busy("full", retry_after=1.0))

    def _admit(self, job: Job, position: int) -> None:
        assert job.provider is not None
        assert job.worker is not None
        self._policies[job.gateway].admitted(job.provider, Accepted(position, len(job.worker.running)))

    def _start(self, job: Job) -> None:
        worker = job.worker
        assert worker is not None
        worker.running.add(job)
        job.turn += 1
        prompt_s = worker.first_s * self._spread(job)
        job.first_at = self.now + prompt_s
        job.ends_at = job.first_at + job.tokens * worker.token_s
        self._at(job.first_at, self._begin, job, job.turn)
        if prompt_s > DEADLINE_S:
            self._at(job.asked + DEADLINE_S, self._give_up, job, job.turn)

    def _spread(self, job: Job) -> float:
        """Prompts differ; the same for all policies."""
        return 0.5 + (job.arrived * 7919) % 1.0

    def _begin(self, job: Job, turn: int) -> None:
        if job.turn != turn:
            return
        assert job.provider is not None
        job.began = self.now
        self._policies[job.gateway].first_chunk(job.provider, self.now - job.asked)
        self.result.first.append(self.now - job.arrived)
        self._at(job.ends_at, self._end, job, turn)

    def _end(self, job: Job, turn: int) -> None:
        if job.turn != turn:
            return
        assert job.provider is not None
        self.result.whole.append(self.now - job.arrived)
        self._leave(job)
        self._policies[job.gateway].ended(job.provider, error=None, chunks=job.tokens, seconds=self.now - job.began)

    def _give_up(self, job: Job, turn: int) -> None:
        if job.turn == turn:
            self._fail(job, DeadlineExceeded("silence"))

    def _fail(self, job: Job, error: AicnError) -> None:
        assert job.provider is not None
        self._leave(job)
        self._policies[job.gateway].ended(job.provider, error=error, chunks=0, seconds=0.0)
        if job.began:
            self.result.broken += 1
        else:
            self.result.retries += 1
            self._ask_next(job)

    def _leave(self, job: Job) -> None:
        worker = job.worker
        assert worker is not None
        job.turn += 1
        if job in worker.waiting:
            worker.waiting.remove(job)
        if job in worker.running:
            worker.running.remove(job)
            worker.busy_s += self.now - (job.began or job.asked)
            frozen = max(worker.down_until, worker.frozen_until) > self.now
            if worker.waiting and not frozen:
                self._start(worker.waiting.pop(0))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare policies of choosing a worker.")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--gateways", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--load", type=float, nargs="*", default=[0.3, 0.6, 0.8])
    arguments = parser.parse_args()
    for load in arguments.load:
        scene = Scene(arguments.workers, arguments.gateways, arguments.seconds, load, seed=arguments.seed)
        results = [Simulation(scene, policy).run() for policy in POLICIES]
        print(
            f"\n{scene.workers} workers, {scene.gateways} gateways, load {load:.0%}, {len(results[0].first)} requests\n"
        )
        print("| " + " | ".join(HEADER) + " |")
        print("|" + "---|" * len(HEADER))
        for result in results:
            print("| " + " | ".join(result.row()) + " |")


if __name__ == "__main__":
    main()
