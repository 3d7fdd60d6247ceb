"""What a node would do, and what it has done."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from aicn.gateway.v0.schema.shapes import EXAMPLE_ID, Name, Ok, Operation, PeerId, Request, Told
from aicn.wire.v0.routing import LONGEST_MODEL
from aicn.wire.v0.tracing import LONGEST_ID


class Routed(Request):
    """What is asked for."""

    model: str = Field(min_length=1, max_length=LONGEST_MODEL, description="`model`, or `project/model` as in `/v1`.")
    project: Name | None = Field(default=None, description="With it `model` is the name within the project.")
    type: Literal[0, 1, 2, 3] = Field(default=0, description="As in register: chat, image, image edit, embedding.")


class Candidate(Told):
    """A node that offers the model, and what is thought of it."""

    node_id: PeerId
    rank: int | None = Field(description="0: asked first; null: not asked at all.")
    seconds: float = Field(ge=0, description="What an answer should take, as far as is known.")
    reason: str = Field(description="Why it has this place, in a few words.")


class Way(Told):
    """All candidates (64 at most), the first first."""

    project: str
    model: str
    nodes: list[Candidate]


class Explained(Ok):
    """Who would be asked."""

    data: Way


class Traced(Request):
    """Which request is meant."""

    id: str = Field(min_length=1, max_length=LONGEST_ID, description="`X-Request-Id` of its answer.")


class Tokens(Told):
    """As the model endpoint counted them."""

    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt


class Outcome(Told):
    """What a client of this node got, or what a model of this node did. Seconds since the request came."""

    surface: Literal["v0", "v1", "worker"]
    node_id: PeerId | None = Field(description="Who answered; of `worker`, who asked: null for this node itself.")
    kind: str
    project: str
    model: str
    stream: bool
    key: str = Field(description="Id of the API key; empty: none.")
    ended_at: float = Field(description="Unix time.")
    seconds: NonNegativeFloat
    queued_s: NonNegativeFloat
    first_s: NonNegativeFloat | None = Field(description="To the first piece; null: not known, or not streamed.")
    usage: Tokens | None
    finish_reason: str
    error: str = Field(description="The error's word, or `cancelled`; empty: a whole answer.")


class Asked(Told):
    """A node that was asked. Seconds since it was, null: it did not come to that."""

    node_id: PeerId
    after_s: float = Field(description="Seconds since the request came.")
    relayed: bool
    hedge: bool = Field(description="Asked beside another that was slow to begin.")
    resumed: bool = Field(description="Asked to go on where another broke off.")
    accepted_s: NonNegativeFloat | None
    queued_ms: NonNegativeInt
    first_s: NonNegativeFloat | None
    ended_s: NonNegativeFloat | None
    chunks: NonNegativeInt
    error: str


class Gone(Told):
    """The way of a request from this node."""

    began_at: float = Field(description="Unix time.")
    seconds: NonNegativeFloat | None
    error: str
    candidates: list[Candidate]
    attempts: list[Asked]


class History(Told):
    """What is remembered; each part may be missing."""

    id: str
    asked: Outcome | None = Field(description="What the client got.")
    way: Gone | None
    worked: list[Outcome] = Field(description="What models of this node did for it.")


class Remembered(Ok):
    """What became of a request."""

    data: History


_NODES = [
    {"node_id": EXAMPLE_ID, "rank": 0, "seconds": 1.0412, "reason": "better of two"},
    {
        "node_id": "16Uiu2HAmRTpigc7jAbsLndB2xDEBMAXLb887SBEFhfdJeEJNtqRM",
        "rank": 1,
        "seconds": 2.6,
        "reason": "failed 2 s ago, set aside for 1.9 s",
    },
]
_OUTCOME = {
    "surface": "v1",
    "node_id": EXAMPLE_ID,
    "kind": "chat",
    "project": "SuperImage",
    "model": "Llama3-8B",
    "stream": True,
    "key": "",
    "ended_at": 1763794081.5,
    "seconds": 1.2345,
    "queued_s": 0.0,
    "first_s": 0.2301,
    "usage": {"prompt_tokens": 12, "completion_tokens": 34},
    "finish_reason": "stop",
    "error": "",
}
_ASKED = {
    "node_id": EXAMPLE_ID,
    "after_s": 0.0002,
    "relayed": False,
    "hedge": False,
    "resumed": False,
    "accepted_s": 0.0041,
    "queued_ms": 0,
    "first_s": 0.2288,
    "ended_s": 1.2333,
    "chunks": 36,
    "error": "",
}
_WAY = {"began_at": 1763794080.2655, "seconds": 1.2344, "error": "", "candidates": _NODES, "attempts": [_ASKED]}
OPERATIONS = (
    Operation(
        "GET",
        "/api/v0/debug/route",
        "Models",
        Explained,
        errors=("invalid_request", "unknown_model", "no_node"),
        query=Routed,
        example={
            "answer": {
                "code": 0,
                "message": "ok",
                "data": {"project": "SuperImage", "model": "Llama3-8B", "nodes": _NODES},
            }
        },
    ),
    Operation(
        "GET",
        "/api/v0/debug/trace",
        "Models",
        Remembered,
        errors=("invalid_request",),
        query=Traced,
        example={
            "answer": {
                "code": 0,
                "message": "ok",
                "data": {"id": "0f5b9a4e6c3d4f7d9a1b2c3d4e5f6071", "asked": _OUTCOME, "way": _WAY, "worked": []},
            }
        },
    ),
)
