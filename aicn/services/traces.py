"""What became of the last requests: who was considered, who was asked, what came of it. `aicn why` reads it; nothing is kept on disk."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from aicn.domain.inference import InferenceRequest
from aicn.domain.routing import Attempt, Trace, Verdict
from aicn.domain.served import Served
from aicn.errors import InvalidRequest

MOST = 2000  # requests of this node's clients, and as many of others that its models answered
MOST_BYTES = 8 * 2**20  # of either: a request that has 64 candidates is some 16 KiB
MOST_WORKED = 8  # times that one request may have come to this worker: it names itself, so it may lie
_ENTRY_BYTES = 1024  # a record with its names and no candidates, measured generously
_LINE_BYTES = 256  # a candidate or an attempt
NAMED = "named by the client"


@dataclass(slots=True)
class Record:
    """All that is known of one request."""

    at: float  # Unix time of the last news
    trace: Trace | None = None  # its way from here
    served: Served | None = None  # what this node's client got
    worked: list[Served] = field(default_factory=list)  # what models of this node did for it

    @property
    def weight(self) -> int:
        """Bytes, about."""
        lines = len(self.trace.verdicts) + len(self.trace.attempts) if self.trace is not None else 0
        return _ENTRY_BYTES * (1 + len(self.worked)) + _LINE_BYTES * lines


class _Ring:
    """The last records, bounded in number and bytes."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._bytes = 0

    def change(self, request_id: str, at: float) -> Record:
        """The record of the request, out of the ring until `keep`."""
        record = self._records.pop(request_id, None)
        if record is None:
            return Record(at)
        self._bytes -= record.weight
        record.at = at
        return record

    def keep(self, request_id: str, record: Record) -> None:
        self._records[request_id] = record
        self._bytes += record.weight
        while len(self._records) > MOST or self._bytes > MOST_BYTES:
            _, oldest = self._records.popitem(last=False)
            self._bytes -= oldest.weight

    def get(self, request_id: str) -> Record | None:
        return self._records.get(request_id)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def since(self) -> float:
        """Unix time of the oldest; now when there is none."""
        return next(iter(self._records.values())).at if self._records else time.time()


class Traces:
    """The last requests. Those of clients and those of peers do not push each other out."""

    def __init__(self) -> None:
        self._asked = _Ring()
        self._worked = _Ring()

    def traced(self, trace: Trace, _request: InferenceRequest) -> None:
        """The way of a request has ended."""
        self._keep(trace)

    def _keep(self, trace: Trace) -> None:
        record = self._asked.change(trace.request_id, time.time())
        record.trace = trace
        self._asked.keep(trace.request_id, record)

    def served(self, served: Served) -> None:
        """A request of a client of this node has ended, or what a model of this node did for one."""
        ring = self._worked if served.surface == "worker" else self._asked
        record = ring.change(served.id, served.at)
        if served.surface != "worker":
            record.served = served
        elif len(record.worked) < MOST_WORKED:
            record.worked.append(served)
        ring.keep(served.id, record)

    def named(self, served: Served, began: float) -> None:
        """A request whose client has named the node has ended: there was one candidate and one attempt. `began`: trio.current_time()."""
        way = Trace(
            served.id, served.kind, served.project, served.model, served.stream, began, served.at - served.seconds
        )
        if served.node is not None:
            way.verdicts.append(Verdict(served.node, 0, 0.0, NAMED))
            attempt = Attempt(served.node, began, first_s=served.first_s, ended_s=served.seconds, error=served.code)
            way.attempts.append(attempt)
        way.error, way.ended_s = served.code, served.seconds
        self._keep(way)

    def knows(self, request_id: str) -> bool:
        """Whether the request has ended and is remembered."""
        return self._asked.get(request_id) is not None or self._worked.get(request_id) is not None

    def find(self, request_id: str) -> Record:
        """What is remembered of the request. InvalidRequest, which says how far back memory reaches."""
        asked, worked = self._asked.get(request_id), self._worked.get(request_id)
        if asked is None and worked is None:
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(min(self._asked.since, self._worked.since)))
            raise InvalidRequest(
                f"id: no such request that has ended; remembered are {len(self._asked)} of clients and {len(self._worked)} of peers"
                f" and clients on models of this node, since {since} UTC"
            )
        one = asked or worked
        assert one is not None
        return Record(one.at, one.trace, one.served, worked.worked if worked is not None else [])
