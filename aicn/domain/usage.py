"""Usage: what was asked of models, by hour, key, model and peer. No prompts, no answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PEER = "peer"  # in place of a key's id: another node has asked this one's models
HOUR_S = 3600
DAY_S = 86_400


class Row(NamedTuple):
    """Whose usage is counted together."""

    hour: int  # Unix time of its beginning
    key: str  # id of the API key; empty: none was shown; PEER
    project: str  # empty, as `model`: the request failed before a model answered
    model: str
    peer: str  # the node that answered; empty: none; with PEER, the node that asked


@dataclass(slots=True)
class Counts:
    """What was used."""

    requests: int = 0
    failed: int = 0  # of them: refused, broken, or left by the client
    prompt_tokens: int = 0  # as endpoints counted them
    completion_tokens: int = 0
    estimated_tokens: int = 0  # charged to keys with a limit where the endpoint did not count
    bytes_in: int = 0  # of requests
    bytes_out: int = 0  # of answers

    @property
    def charged(self) -> int:
        """Tokens that count against a key's limit."""
        return self.prompt_tokens + self.completion_tokens + self.estimated_tokens

    def add(self, other: Counts) -> None:
        """Count `other`, too."""
        self.requests += other.requests
        self.failed += other.failed
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.estimated_tokens += other.estimated_tokens
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
