"""Who is asked: the nodes that offer a model, in the order in which this node tries them, and why.

The order is by tier, then by the seconds that an answer should take; the first place is drawn:

    ready        ─ now and then one of the next tier, a trial
                 ─ else who answered this conversation last, when it is nearly as good as the best: its prompt cache is warm
                 ─ else the better of two drawn from those that are nearly as good as the best, so that many gateways that see
                   the same do not all ask the same node
    new          nothing is known of it, or it has failed and was set aside long enough
    full         all its places are taken, or it has just said that it is busy
    on trial     it has yet to prove itself, and is being asked
    tight        the prompt fits into its context, the longest answer asked for may not; some servers cut it, others refuse
    unreachable  the last attempt to connect, not long ago, has failed
    set aside    it has failed not long ago (see scores.py)

Whose context is too short for the prompt is not asked at all. Prompts are looked at for their length and the hash of their beginning; nothing of
them is kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import Accepted, InferenceRequest
from aicn.domain.nodes import Connectivity
from aicn.domain.offers import Provider
from aicn.domain.routing import MOST_VERDICTS, Budget, Verdict
from aicn.errors import AicnError
from aicn.services.budgets import budget
from aicn.services.prompts import answer_tokens, beginning, prompt_tokens
from aicn.services.scores import Health, Record, Scores, stale

READY, NEW, FULL, ON_TRIAL, TIGHT, UNREACHABLE, SET_ASIDE, TOO_SHORT = range(8)

TYPICAL_CHUNKS = 30  # of an answer: what the pace counts beside the first token
_UNKNOWN_S = 1.0  # what an answer of a model should take of which nothing was seen
_OPTIMISM = 0.25  # a node that nothing is known of is taken for one of the better ones
_SLOTS = 4  # of a node that does not say
_DIAL_S = 0.3  # to connect to a node first, some round trips
_RELAYED_S = 0.05  # by which a way through a relay is thought longer until it is measured
_NEARLY = 1.3  # times the best: the difference is within what one request more or less makes
_WARM = 1.2  # times the best: what a warm prompt cache is worth waiting for
_TRIALS = 0.1  # of the requests at most go to nodes that have yet to prove themselves
_MOST_TRIALS = 2.0  # in a row
_REASONS = {
    READY: "slower",
    NEW: "has yet to prove itself",
    FULL: "no room",
    ON_TRIAL: "has yet to prove itself, and is being asked",
    UNREACHABLE: "could not be reached",
}


class Standing(NamedTuple):
    """One candidate, as it is now. They sort by what comes first."""

    tier: int
    score: float  # expected seconds of an answer
    node: PeerId
    provider: Provider
    record: Record | None


class View(NamedTuple):
    """What is the same for all candidates of one request."""

    now: float  # trio.current_time()
    own: PeerId
    stream: bool
    prompt: int  # tokens that the request takes at least
    whole: int  # the same with the longest answer asked for
    unseen_s: float  # what an answer of a node should take of which nothing is known


def assess(provider: Provider, scores: Scores, view: View) -> Standing:
    """How the candidate stands."""
    node, model = provider.node, provider.model
    record = scores.records.get((node, model.name))
    health = scores.nodes.get(node)
    running: float = model.in_flight
    seconds = view.unseen_s
    proven = False
    if record is None:
        seconds += provider.link.rtt + _RELAYED_S * provider.link.relayed
    else:
        running = record.running(view.now, model.in_flight)
        proven = record.health.proven and (health is None or health.proven)
        if seen := record.expected(0.5, stream=view.stream, chunks=TYPICAL_CHUNKS):
            seconds += (seen - seconds) * stale(view.now - record.observed_at)
        seconds *= 1 + record.health.failures(view.now)
    if health is not None:
        seconds *= 1 + health.failures(view.now)
    if node != view.own and provider.link.connectivity is not Connectivity.CONNECTED:
        seconds += _DIAL_S
    slots = model.slots or _SLOTS
    if running < slots:
        seconds *= 1 + running / slots
    else:
        seconds *= 2 + (running + 1 - slots) / slots
    tier = _tier(provider, record, health, view, proven=proven, full=0 < model.slots <= running)
    return Standing(tier, seconds, node, provider, record)


def _tier(
    provider: Provider, record: Record | None, health: Health | None, view: View, *, proven: bool, full: bool
) -> int:
    now = view.now
    context = provider.model.context or view.whole
    if context < view.prompt:
        return TOO_SHORT
    if (health is not None and health.until > now) or (record is not None and record.health.until > now):
        return SET_ASIDE
    if provider.link.connectivity is Connectivity.CANNOT_CONNECT and provider.node != view.own:
        return UNREACHABLE
    if context < view.whole:
        return TIGHT
    if record is not None:
        if record.in_flight and not proven:
            return ON_TRIAL
        full = full or record.busy_until > now
    if full:
        return FULL
    return READY if proven else NEW


def near(standings: Sequence[Standing]) -> int:
    """How many of the sorted `standings`, at least one, are nearly as good as the first."""
    tier, most = standings[0].tier, standings[0].score * _NEARLY
    count = 1
    while count < len(standings) and standings[count].tier == tier and standings[count].score <= most:
        count += 1
    return count


def reason(standing: Standing, scores: Scores, now: float) -> str:
    """Why a candidate that is not among the best is not asked first."""
    model = standing.provider.model
    if standing.tier == SET_ASIDE:
        healths = [standing.record.health] if standing.record is not None else []
        if standing.node in scores.nodes:
            healths.append(scores.nodes[standing.node])
        last = max(healths, key=lambda health: health.until)
        return f"failed {now - last.failed_at:.0f} s ago, set aside for {last.until - now:.1f} s"
    if standing.tier in (TIGHT, TOO_SHORT):
        return f"context of {model.context} tokens {'is' if standing.tier == TOO_SHORT else 'may be'} too short"
    return _REASONS[standing.tier]


class Router:
    """Ranks nodes by what it was told of those that were asked."""

    def __init__(
        self,
        own: PeerId,
        limits: Limits,
        *,
        chance: random.Random | None = None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._own = own
        self._limits = limits
        self._chance = chance or random.Random()  # noqa: S311 - spreads load
        self._clock = clock
        self._scores = Scores()
        self._trials = _MOST_TRIALS  # requests that may go to nodes that have yet to prove themselves

    def rank(self, request: InferenceRequest, providers: Sequence[Provider]) -> tuple[list[Provider], list[Verdict]]:
        """Those to ask, the first first, and what was thought of each (of MOST_VERDICTS at most). Changes nothing.

        Nobody is left to ask when there is nobody, or all contexts are too short.
        """
        if not providers:
            return [], []
        now = self._clock()
        standings = sorted(self._assessed(request, providers, now))
        close = near(standings)
        first, why = self._choose(request, standings, close)
        if first:
            standings.insert(0, standings.pop(first))
            close += first >= close
        asked: list[Provider] = []
        verdicts: list[Verdict] = []
        for rank, one in enumerate(standings):
            fit = one.tier != TOO_SHORT
            if fit:
                asked.append(one.provider)
            if rank < MOST_VERDICTS:
                said = why if rank == 0 else reason(one, self._scores, now)
                if 0 < rank < close and one.tier == READY:
                    said = "among the best"
                verdicts.append(Verdict(one.node, rank if fit else None, one.score, said))
        return asked, verdicts

    def explain(self, request: InferenceRequest, providers: Sequence[Provider]) -> list[Verdict]:
        """What the next `rank` of them will say, which stays as it is: the dice are put back."""
        dice = self._chance.getstate()
        try:
            return self.rank(request, providers)[1]
        finally:
            self._chance.setstate(dice)

    def started(self, provider: Provider) -> None:
        """It is being asked. Each one ends with `ended`."""
        record = self._scores.opened(provider)
        record.in_flight += 1
        health = self._scores.nodes.get(provider.node)
        if record.health.proven and (health is None or health.proven):
            self._trials = min(_MOST_TRIALS, self._trials + _TRIALS)
        else:
            self._trials = max(0.0, self._trials - 1)

    def admitted(self, provider: Provider, accepted: Accepted) -> None:
        """It has taken the request, and says what it has to do. May be left out."""
        self._scores.opened(provider).admitted(self._clock(), accepted)

    def first_chunk(self, provider: Provider, request: InferenceRequest, seconds: float) -> None:
        """Its answer has begun, `seconds` after it was asked."""
        now = self._clock()
        self._scores.answered(provider)
        for record in (self._scores.opened(provider), self._scores.of_model(provider.model.name)):
            record.begun(now, seconds, stream=request.stream, size=len(request.body))
        if key := beginning(request.body):
            self._scores.remember(key, provider.node)

    def ended(
        self,
        provider: Provider,
        *,
        error: AicnError | None,
        chunks: int,
        seconds: float,
        silence_s: float = 0.0,
    ) -> None:
        """It is done with, `seconds` after its first chunk, of which it sent `chunks` in all; `silence_s`: the longest between two.

        `error`: why it did not answer to the end; None: it did, or it was not its fault (the client left, another was quicker than
        the hedge). Who was silent so long that a hedge overtook it is to have a DeadlineExceeded: a frozen node shows no other sign.
        """
        record = self._scores.opened(provider)
        record.in_flight = max(0, record.in_flight - 1)  # the record may be younger than the request
        if error is not None:
            self._scores.failed(provider, error, self._clock())
            return
        for one in (record, self._scores.of_model(provider.model.name)):
            one.ended(chunks=chunks, seconds=seconds, silence_s=silence_s)

    def budget(self, provider: Provider, request: InferenceRequest) -> Budget:
        """How long it may take; learned from what it has done, or else from what others have with the same model."""
        return budget(provider, request, scores=self._scores, limits=self._limits, now=self._clock())

    # ---- inside ----

    def _assessed(self, request: InferenceRequest, providers: Sequence[Provider], now: float) -> list[Standing]:
        told = max(provider.model.context for provider in providers)
        known = self._scores.models.get(providers[0].model.name)
        unseen_s = known and known.expected(_OPTIMISM, stream=request.stream, chunks=TYPICAL_CHUNKS)
        prompt = prompt_tokens(request.body) if told else 0
        whole = prompt + (answer_tokens(request.body) or 0) if told else 0
        view = View(now, self._own, request.stream, prompt, whole, unseen_s or _UNKNOWN_S)
        scores = self._scores
        return [assess(provider, scores, view) for provider in providers]

    def _choose(self, request: InferenceRequest, standings: Sequence[Standing], close: int) -> tuple[int, str]:
        """Which of the sorted `standings`, of which the first `close` are nearly equal, is asked first, and why."""
        best = standings[0]
        if len(standings) == 1 and best.tier in (READY, NEW):
            return 0, "the only one"
        if best.tier == READY:
            if self._trials >= 1 and (new := [place for place, one in enumerate(standings) if one.tier == NEW]):
                return self._chance.choice(new), "tried: it has yet to prove itself"
            if (warm := self._warm(request, standings)) is not None:
                return warm, "answered this conversation before"
        first = min(self._chance.sample(range(close), 2)) if close > 1 else 0
        if best.tier != READY:
            return first, reason(standings[first], self._scores, self._clock())
        return first, "better of two" if close > 1 else "best"

    def _warm(self, request: InferenceRequest, standings: Sequence[Standing]) -> int | None:
        if not self._scores.conversations or not (key := beginning(request.body)):
            return None
        node = self._scores.conversations.get(key)
        if node is None:
            return None
        most = standings[0].score * _WARM
        for place, one in enumerate(standings):
            if one.tier != READY or one.score > most:
                return None
            if one.node == node:
                return place
        return None
