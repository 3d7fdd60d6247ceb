"""Who is told what became of the requests that models of this node answer; and a line in the log for each that a peer has asked for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from aicn.domain.ids import PeerId
from aicn.domain.inference import End, InferenceRequest
from aicn.domain.served import Served

log = logging.getLogger("aicn.services.worker")


class Serving:
    """Tells its listeners of each request that has ended."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Served], None]] = []

    def on_served(self, tell: Callable[[Served], None]) -> None:
        """Call `tell` whenever a request has ended, however it did; also those that were refused. `tell` neither waits nor raises."""
        self._listeners.append(tell)

    def ended(
        self, request: InferenceRequest, asker: str, *, seconds: float = 0.0, end: End | None = None, code: str = ""
    ) -> None:
        """`asker`: for whom it was, empty: for this node itself. `seconds` since it was admitted; `end`: of a whole answer."""
        served = Served(
            id=request.id,
            surface="worker",
            kind=request.kind,
            project=request.project,
            model=request.model,
            stream=request.stream,
            at=time.time(),
            seconds=seconds,
            node=PeerId(asker) if asker else None,
            code=code,
            first_s=(end.queued_ms + end.first_byte_ms) / 1000 if end is not None and request.stream else None,
            queued_s=end.queued_ms / 1000 if end is not None else 0.0,
            usage=end.usage if end is not None else None,
            finish_reason=end.finish_reason if end is not None else "",
        )
        for tell in self._listeners:
            tell(served)
        level = logging.DEBUG if code else logging.INFO  # who asks for what is refused must not fill the log
        if asker and log.isEnabledFor(level):
            _log(served, level)


def _log(served: Served, level: int) -> None:
    """The peer has chosen id and names: quoted, they cannot forge a line."""
    log.log(
        level,
        "%s for %s %.1f ms id=%.66r model=%.130r%s",
        served.kind.name.lower(),
        served.node,
        served.seconds * 1000,
        served.id,
        f"{served.project}/{served.model}",
        f" error={served.code}" if served.code else "",
        extra={"fields": {name: value for name, value in served.fields().items() if value not in (None, "")}},
    )
