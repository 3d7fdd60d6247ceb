"""A model request that has ended: what metrics, the log and `aicn why` keep of it. No prompt, no answer."""

from __future__ import annotations

from dataclasses import dataclass

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind, Usage

CANCELLED = "cancelled"  # beside the words of errors.py: whoever had asked left before the end


@dataclass(frozen=True, slots=True)
class Served:
    """One request as one side saw it: the gateway that a client asked, or the worker whose model answered."""

    id: str
    surface: str  # "v0" or "v1": this node's own HTTP API; "worker": a model of this node, whoever asked
    kind: Kind
    project: str
    model: str
    stream: bool
    at: float  # Unix time of the end
    seconds: float  # the whole of it
    node: PeerId | None = None  # the other side: who answered a gateway, who asked a worker; None: nobody, or not known
    code: str = ""  # code word of errors.py, or CANCELLED; empty: a whole answer
    first_s: float | None = None  # to the first chunk, of streamed answers
    queued_s: float = 0.0  # of it, waiting for a place
    usage: Usage | None = None
    finish_reason: str = ""
    key: str = ""  # id of the API key; empty: none

    def fields(self) -> dict[str, object]:
        """As members of a line in the log; None and empty: not known."""
        usage = self.usage
        return {
            "id": self.id,
            "kind": self.kind.name.lower(),
            "project": self.project,
            "model": self.model,
            "stream": self.stream,
            "node": self.node,
            "ms": round(self.seconds * 1000, 1),
            "queue_ms": round(self.queued_s * 1000),
            "first_ms": None if self.first_s is None else round(self.first_s * 1000, 1),
            "tokens_in": None if usage is None else usage.prompt_tokens,
            "tokens_out": None if usage is None else usage.completion_tokens,
            "finish": self.finish_reason,
            "error": self.code,
            "key": self.key,
        }
