"""How a request found its way: who was considered, who was asked, and what came of it.

One `Trace` per request, filled in while it runs. Scores, metrics, usage and `aicn why` read it; it holds no prompt and no answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind, Usage

MOST_VERDICTS = 64  # kept of one request


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was thought of one candidate."""

    node: PeerId
    rank: int | None  # 0: asked first; None: not asked
    score: float  # expected seconds, the less the better
    reason: str  # a short phrase: "best of two", "no room", "failed 2 s ago", "context of 4096 tokens is too short"


@dataclass(frozen=True, slots=True)
class Budget:
    """How long one attempt may take, seconds; learned from what was observed."""

    accept_s: float  # to reach the node and be admitted
    first_s: float  # from there to the first chunk
    gap_s: float  # between chunks
    hedge_s: float | None = None  # without a first chunk by then another node is asked as well; None: never


@dataclass(slots=True)
class Attempt:
    """One node was asked. Times are seconds since the attempt began; None: it did not come to that."""

    node: PeerId
    began: float  # trio.current_time()
    relayed: bool = False
    hedge: bool = False  # asked beside another that was slow to begin
    resumed: bool = False  # asked to go on where another broke off
    accepted_s: float | None = None
    first_s: float | None = None
    ended_s: float | None = None
    queued_ms: int = 0
    chunks: int = 0
    error: str = ""  # code word of errors.py; empty: it was not its fault that it ended


@dataclass(slots=True)
class Trace:
    """The whole way of one request."""

    request_id: str
    kind: Kind
    project: str
    model: str
    stream: bool
    began: float  # trio.current_time()
    at: float  # Unix time
    key: str = ""  # id of the API key; empty: none
    verdicts: list[Verdict] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage | None = None  # as told to the client
    finish_reason: str = ""
    error: str = ""  # code word of what the client was told; empty: a whole answer
    ended_s: float | None = None  # None: it runs
