"""What this node has seen of those that it asked: times, requests at work, failures. All of Router's state, bounded.

Each record is of one model of one node, and there is one of each model over all nodes, which stands in for nodes that were not
asked yet. A failure sets a node (or its model) aside, each one in a row for twice as long, and is forgotten in time:

    proven ──(failure)──► set aside ──(until)──► unproven ──(an answer)──► proven
                              ▲                     │ one request at a time
                              └─────(failure)───────┘
"""

from __future__ import annotations

from bisect import bisect_left, insort
from math import exp2
from typing import TypeVar

from aicn.domain.ids import PeerId
from aicn.domain.inference import Accepted
from aicn.domain.offers import Provider
from aicn.errors import AicnError, AnswerBroken, Busy, Fault, UnknownNode, Unreachable

K = TypeVar("K")
V = TypeVar("V")

MOST_RECORDS = 4096  # models of nodes: some 16 MB when all are known well
MOST_CONVERSATIONS = 4096
ENOUGH = 8  # observations that say something of the edges of a distribution
_WINDOW = 32  # observations kept: what a worker did before them says little of now
_FORGIVEN_S = 300.0  # half-life of failures; each answer halves them, too
_STALE_S = 600.0  # half-life of what was measured: a slow worker gets another chance
_OTHERS_S = 8.0  # half-life of what a worker said of the requests of others: an answer takes seconds
_FADING = 0.98  # of the longest prompt with each answer
_ASIDE_S = 0.5  # for the first failure
_MOST_FAILURES = 7.0  # so that it is a minute at most
_MOST_BUSY_S = 5.0  # for which a node's word that it is busy is believed: places become free before the advice ends
_OF_THE_NODE = (Unreachable, UnknownNode, AnswerBroken)  # failures that tell of all its models


class Recent:
    """Moving quantiles: the last observations, kept in order."""

    __slots__ = ("_next", "_ring", "_sorted")

    def __init__(self) -> None:
        self._ring: list[float] = []
        self._sorted: list[float] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._ring)

    def add(self, value: float) -> None:
        if len(self._ring) < _WINDOW:
            self._ring.append(value)
        else:
            del self._sorted[bisect_left(self._sorted, self._ring[self._next])]
            self._ring[self._next] = value
            self._next = (self._next + 1) % _WINDOW
        insort(self._sorted, value)

    def quantile(self, share: float) -> float:
        """The least observation that at least `share` of them do not exceed; there must be one."""
        return self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))]


class Health:
    """Failures of a node, or of a model of it. Times are trio.current_time()."""

    __slots__ = ("_failures", "failed_at", "proven", "until")

    def __init__(self) -> None:
        self._failures = 0.0
        self.failed_at = 0.0
        self.until = 0.0  # it is left alone till then
        self.proven = False  # it has answered since it failed last

    def failures(self, now: float) -> float:
        """How many there were, the older the less they count."""
        return self._failures and self._failures * exp2((self.failed_at - now) / _FORGIVEN_S)

    def failed(self, now: float) -> None:
        if self.until > now:  # requests of before the first failure: they say the same again
            return
        self._failures = min(_MOST_FAILURES, self.failures(now) + 1)
        self.failed_at = now
        self.until = now + _ASIDE_S * 2.0 ** (self._failures - 1)
        self.proven = False

    def answered(self) -> None:
        self.proven = True
        self.until = 0.0
        self._failures *= 0.5


class Record:
    """What was seen of a model of a node, or over all nodes."""

    __slots__ = (
        "_expected",
        "busy_until",
        "first",
        "health",
        "in_flight",
        "longest",
        "observed_at",
        "others",
        "others_at",
        "pace",
        "silence",
        "whole",
    )

    def __init__(self) -> None:
        self.health = Health()
        self.in_flight = 0  # requests that this node has running there
        self.others = 0  # requests of others that it ran or had waiting,
        self.others_at = -1.0  # when it said so last; negative: never
        self.busy_until = 0.0
        self.observed_at = 0.0
        self.longest = 0.0  # bytes of the longest body that was answered lately
        self.first = Recent()  # seconds to the first chunk of streamed answers
        self.whole = Recent()  # the same of plain ones, whose first chunk comes when the model is done
        self.pace = Recent()  # seconds per chunk after the first
        self.silence = Recent()  # longest one of each answer, seconds
        self._expected: dict[tuple[bool, float], float] = {}

    def admitted(self, now: float, accepted: Accepted) -> None:
        """It has taken a request, and said what else it has to do."""
        self.others = max(0, accepted.in_flight + accepted.queue_position - self.in_flight)
        self.others_at = now

    def running(self, now: float, announced: int) -> float:
        """Requests that it should have now. `announced` is what it has said to all, up to half a minute ago."""
        if self.others_at < 0:
            return max(self.in_flight, announced)
        return self.in_flight + self.others * exp2((self.others_at - now) / _OTHERS_S)

    def begun(self, now: float, seconds: float, *, stream: bool, size: int) -> None:
        """Its answer to a body of `size` bytes began after `seconds`."""
        (self.first if stream else self.whole).add(seconds)
        self.longest = max(size, self.longest * _FADING)
        self.observed_at = now
        self._expected.clear()

    def ended(self, *, chunks: int, seconds: float, silence_s: float) -> None:
        if chunks > 1:
            self.pace.add(seconds / (chunks - 1))
            self.silence.add(silence_s or seconds / (chunks - 1))
            self._expected.clear()

    def expected(self, share: float, *, stream: bool, chunks: int) -> float:
        """Seconds that an answer of `chunks` takes: not exceeded by `share` of those seen. 0: nothing of the kind was seen."""
        key = stream, share
        found = self._expected.get(key)
        if found is None:
            found = self._expected[key] = self._look_up(share, stream=stream, chunks=chunks)
        return found

    def _look_up(self, share: float, *, stream: bool, chunks: int) -> float:
        streamed = 0.0
        if self.first:
            streamed = self.first.quantile(share) + (chunks * self.pace.quantile(share) if self.pace else 0.0)
        plain = self.whole.quantile(share) if self.whole else 0.0
        return (streamed or plain) if stream else (plain or streamed)


def stale(age_s: float) -> float:
    """What share of a measurement of that age still counts."""
    if age_s <= 1:  # most of them: spare the power
        return 1.0
    return exp2(-age_s / _STALE_S)


class Scores:
    """The records. What was not used longest is forgotten when there are too many."""

    def __init__(self) -> None:
        self.records: dict[tuple[PeerId, str], Record] = {}  # by node and model
        self.nodes: dict[PeerId, Health] = {}  # those that have failed, or answered after that
        self.models: dict[str, Record] = {}  # over all nodes
        self.conversations: dict[int, PeerId] = {}  # who has answered last, by hash of what they begin with

    def opened(self, provider: Provider) -> Record:
        """The record, made if there is none; from now on the one that was used last."""
        key = provider.node, provider.model.name
        record = self.records.pop(key, None) or Record()
        _put(self.records, key, record, most=MOST_RECORDS)
        return record

    def of_model(self, name: str) -> Record:
        """The record of the model over all nodes, likewise."""
        record = self.models.pop(name, None) or Record()
        _put(self.models, name, record, most=MOST_RECORDS)
        return record

    def failed(self, provider: Provider, error: AicnError, now: float) -> None:
        """It did not answer, or not to the end. What is the caller's fault says nothing of a node."""
        if isinstance(error, Busy):
            self.opened(provider).busy_until = now + min(error.retry_after or 1.0, _MOST_BUSY_S)
        elif isinstance(error, _OF_THE_NODE):
            health = self.nodes.pop(provider.node, None) or Health()
            _put(self.nodes, provider.node, health, most=MOST_RECORDS)
            health.failed(now)
        elif error.fault is Fault.REMOTE:
            self.opened(provider).health.failed(now)

    def answered(self, provider: Provider) -> None:
        """It has begun an answer."""
        record = self.opened(provider)
        record.health.answered()
        record.busy_until = 0.0
        if provider.node in self.nodes:
            self.nodes[provider.node].answered()

    def remember(self, conversation: int, node: PeerId) -> None:
        """`node` holds the beginning of the conversation in its cache now."""
        self.conversations.pop(conversation, None)
        _put(self.conversations, conversation, node, most=MOST_CONVERSATIONS)


def _put(kept: dict[K, V], key: K, value: V, *, most: int) -> None:
    """As the newest, instead of the oldest if there are too many."""
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]
