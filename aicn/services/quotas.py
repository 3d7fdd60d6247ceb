"""What keys have used of their limits.

    enter ──► reserved: a request, a place, the tokens that it may take ──► settle: the tokens that it took
    enter raises RateLimited, which says when to come back

A limit cannot be passed by asking for much at once: what runs counts as if it took all it may. Plain state of one event loop.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aicn.domain.keys import Key, Scope
from aicn.domain.usage import DAY_S
from aicn.errors import Forbidden, RateLimited
from aicn.services import prompts

MINUTE_S = 60.0
_ANSWER_TOKENS = 1024  # that an answer takes which the client has not limited, as long as it runs


@dataclass(slots=True)
class Quota:
    """What one key has used."""

    recent: deque[float] = field(default_factory=deque)  # when its requests of the last minute came
    running: int = 0
    reserved: int = 0  # tokens
    day: int = 0  # since 1970, UTC
    spent: int = 0  # tokens, on that day


class Lease:
    """What one request holds of its key's limits, until `settle`."""

    def __init__(self, quotas: Quotas, quota: Quota, reserved: int) -> None:
        self.reserved = reserved  # tokens; 0: the key has no limit of them
        self._quotas = quotas
        self._quota = quota
        self._settled = False

    def settle(self, tokens: int) -> None:
        """Give the place back; `tokens` were taken. A second call does nothing."""
        if not self._settled:
            self._settled = True
            self._quota.running -= 1
            self._quota.reserved -= self.reserved
            self._quotas.charge(self._quota, tokens)


class Quotas:
    """The limits of all keys. `clock` is Unix time."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._quotas: dict[str, Quota] = {}

    def enter(self, key: Key, project: str, model: str, body: bytes) -> Lease:
        """Room for one request of `key`. Forbidden: not this model; RateLimited."""
        scope = key.scope
        if not scope.allows(project, model):
            raise Forbidden(f"model: API key {key.id} is not for {project}/{model}")
        quota = self._quotas.setdefault(key.id, Quota())
        if scope.concurrency and quota.running >= scope.concurrency:
            raise RateLimited(
                f"{quota.running} requests of this API key are at work, as many as it may have", retry_after=1.0
            )
        now = self._clock()
        self._check_minute(scope, quota, now)
        reserved = self._reserved(scope, quota, body, now) if scope.tokens_per_day else 0
        if scope.requests_per_minute:
            quota.recent.append(now)
        quota.running += 1
        quota.reserved += reserved
        return Lease(self, quota, reserved)

    def charge(self, quota: Quota, tokens: int) -> None:
        """Count `tokens` of today."""
        self._turn(quota, self._clock())
        quota.spent += tokens

    def spent_before(self, key_id: str, tokens: int) -> None:
        """Count what the key has spent today before this start."""
        self.charge(self._quotas.setdefault(key_id, Quota()), tokens)

    def forget(self, key_id: str) -> None:
        """The key is revoked."""
        self._quotas.pop(key_id, None)

    def _check_minute(self, scope: Scope, quota: Quota, now: float) -> None:
        recent = quota.recent
        while recent and not now - MINUTE_S < recent[0] <= now:  # those of the future: the clock was set back
            recent.popleft()
        if scope.requests_per_minute and len(recent) >= scope.requests_per_minute:
            raise RateLimited(
                f"this API key may send {scope.requests_per_minute} requests in a minute",
                retry_after=recent[0] + MINUTE_S - now,
            )

    def _reserved(self, scope: Scope, quota: Quota, body: bytes, now: float) -> int:
        """Tokens that the request may take: the prompt as estimated, the answer as limited by the client."""
        self._turn(quota, now)
        left = scope.tokens_per_day - quota.spent - quota.reserved
        answer = prompts.answer_tokens(body)
        prompt = prompts.prompt_tokens(body)
        wanted = prompt + (answer if answer is not None else min(_ANSWER_TOKENS, max(1, left - prompt)))
        if wanted > left:
            raise RateLimited(
                f"the request may take {wanted} tokens and this API key has {max(0, left)} of {scope.tokens_per_day} left for today (UTC)",
                retry_after=DAY_S - now % DAY_S,
            )
        return wanted

    def _turn(self, quota: Quota, now: float) -> None:
        day = int(now // DAY_S)
        if day > quota.day:  # a clock that is set back begins no new day
            quota.day, quota.spent = day, 0
