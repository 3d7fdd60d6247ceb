"""How long one attempt may take, from what was observed.

Too short a budget throws away work that would have come to an end; too long a one lets a client wait for a frozen node. So each is a
multiple of what nearly all answers took, never under a floor, and the configured limits while too little is known, after a pause
(the model may have been unloaded) and for a prompt that is much longer than those before.
"""

from __future__ import annotations

from collections.abc import Iterable

from aicn.config.schema import Limits
from aicn.domain.inference import InferenceRequest
from aicn.domain.nodes import Connectivity
from aicn.domain.offers import Provider
from aicn.domain.routing import Budget
from aicn.services.scores import ENOUGH, Recent, Scores

_MARGIN_S = 30.0  # beside the worker's own limits, so that its clear error comes before our guess
_COLD_S = 240.0  # without an answer a model may have been unloaded: Ollama does so after five minutes
_ACCEPT_S = 15.0  # a worker says at once whether it takes a request: more than a round trip is silence
_DIAL_S = 15.0  # to connect first
_BYTES_PER_S = 1e6  # at which a request goes out at least, 10 Mbit/s
_MOST = 0.95
_FIRST_TIMES, _FIRST_LEAST_S = 4.0, 5.0
_GAP_TIMES, _GAP_LEAST_S = 4.0, 1.0  # a second of silence is what a reader forgives
_HEDGE_LEAST_S = 0.05  # below that a second request costs more than the wait
_LONGER = 4  # times the longest prompt seen


def budget(provider: Provider, request: InferenceRequest, *, scores: Scores, limits: Limits, now: float) -> Budget:
    """The budget of one attempt. `now`: trio.current_time()."""
    connected = provider.link.connectivity is Connectivity.CONNECTED
    accept_s = _ACCEPT_S + (0 if connected else _DIAL_S) + len(request.body) / _BYTES_PER_S
    record = scores.records.get((provider.node, provider.model.name))
    of_all = scores.models.get(provider.model.name)
    first_s = limits.queue_s + limits.first_byte_s + _MARGIN_S
    gap_s = limits.gap_s + _MARGIN_S
    seen = [one for one in (record, of_all) if one is not None]
    firsts = _known(one.first if request.stream else one.whole for one in seen)
    silences = _known(one.silence for one in seen)
    cold = record is None or now - record.observed_at > _COLD_S
    hedge_s = None
    if firsts is not None and of_all is not None and len(request.body) <= _LONGER * of_all.longest:
        hedge_s = max(_HEDGE_LEAST_S, firsts.quantile(_MOST))
        if not cold:
            first_s = min(first_s, max(_FIRST_LEAST_S, _FIRST_TIMES * firsts.quantile(1.0)))
    if silences is not None:
        gap_s = min(gap_s, max(_GAP_LEAST_S, _GAP_TIMES * silences.quantile(_MOST)))
    return Budget(accept_s=accept_s, first_s=first_s, gap_s=gap_s, hedge_s=hedge_s)


def _known(seen: Iterable[Recent]) -> Recent | None:
    """The first of which there is enough: of the node, else of all nodes."""
    return next((one for one in seen if len(one) >= ENOUGH), None)
