"""What is kept of an exchange once it has ended: counts, what `aicn why` shows, and a line in the log. No prompts, no answers."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import trio

from aicn.domain.served import CANCELLED, Served
from aicn.node import Node

if TYPE_CHECKING:
    from aicn.gateway.exchange import GatewayRequest

log = logging.getLogger("aicn.gateway.exchange")

CLIENT_LEFT = 499  # nginx's number, in the log only: nobody is there to be told
NO_ROUTE = "(no route)"


class Reports:
    """Tells of exchanges."""

    def __init__(self, node: Node) -> None:
        self._metrics = node.metrics
        self._traces = node.traces

    def ended(self, request: GatewayRequest, status: int, *, began: float) -> None:
        """The exchange is over, but that its answer is still to be closed. `began`: trio.current_time()."""
        seconds = trio.current_time() - began
        route = request.url_rule.rule if request.url_rule is not None else NO_ROUTE
        self._metrics.answered(route, status)
        served = _served(request, status, began, seconds) if request.asked is not None else None
        if served is not None:
            self._metrics.served(served)
            self._traces.served(served)
            if request.answer is not None and request.answer.trace is None:
                self._traces.named(served, began)
        _log(request, route, status, seconds, served)


def _served(request: GatewayRequest, status: int, began: float, seconds: float) -> Served:
    asked, answer = request.asked, request.answer
    assert asked is not None
    end = answer.end if answer is not None else None
    return Served(
        id=request.id,
        surface="v1" if request.path.startswith("/v1/") else "v0",
        kind=asked.kind,
        project=asked.project,
        model=asked.model,
        stream=asked.stream,
        at=time.time(),
        seconds=seconds,
        node=answer.node if answer is not None else None,
        code=request.error or (CANCELLED if status == CLIENT_LEFT else ""),
        first_s=_first_s(request, began),
        queued_s=end.queued_ms / 1000 if end is not None else 0.0,
        usage=end.usage if end is not None else None,
        finish_reason=end.finish_reason if end is not None else "",
        key=request.key.id if request.key is not None else "",
    )


def _first_s(request: GatewayRequest, began: float) -> float | None:
    """Seconds to the first piece of a streamed answer: of the answer itself where that is known, since comments may come before it."""
    if request.first_at is None:
        return None
    trace = request.answer.trace if request.answer is not None else None
    attempts = trace.attempts if trace is not None else []
    begun = [one.began + one.first_s for one in attempts if one.first_s is not None]
    return min(begun, default=request.first_at) - began


def _log(request: GatewayRequest, route: str, status: int, seconds: float, served: Served | None) -> None:
    """One line; as JSON it has the fields that are known."""
    node = request.answer.node if request.answer is not None else None
    trace = request.answer.trace if request.answer is not None else None
    fields: dict[str, object] = {} if served is None else served.fields()
    fields |= {
        "id": request.id,
        "method": request.method,
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "node": node,
        "error": request.error if served is None else served.code,
        "key": request.key.id if request.key is not None else "",
        "attempts": None if trace is None else len(trace.attempts),
    }
    log.info(
        "%s %s %d %.1f ms id=%s%s%s",
        request.method,
        route,
        status,
        seconds * 1000,
        request.id,
        f" node={node}" if node else "",
        f" error={request.error}" if request.error else "",
        extra={"fields": {name: value for name, value in fields.items() if value not in (None, "")}},
    )
