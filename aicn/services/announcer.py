"""What this node says of itself on the offers topic: at once when it changes, every ANNOUNCE_S, and when it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import trio

from aicn.domain.inference import Kind
from aicn.domain.offers import LIFE_S, NodeType, Offer, OfferedModel, OfferedProject
from aicn.domain.registration import KIND_OF_TYPE
from aicn.services.catalog import Catalog
from aicn.services.ports import Peers, Topics
from aicn.services.registration import Registration
from aicn.services.worker import Worker
from aicn.wire import offers as wire

ANNOUNCE_S = 30.0  # a third of LIFE_S
PAUSE_S = 0.5  # between two announcements: many registrations in a row make few of them
_LOOK_S = 0.5  # how often it is seen whether there is somebody to hear it now, or a model has got full
_ENVELOPE_BYTES = 4096  # room beside the projects: numbers, and names of protocols
_OURS = "/aicn/"  # what protocols begin with that matter to requesters


class Offered:
    """The models of this node with their load."""

    def __init__(self, registration: Registration, worker: Worker) -> None:
        self._registration = registration
        self._worker = worker

    def projects(self) -> Sequence[OfferedProject]:
        """By name; each model once per kind, in the order of registration, with the least context that its endpoints are known to take."""
        models: dict[str, dict[tuple[str, Kind], OfferedModel]] = {}
        for endpoint in self._registration.endpoints():
            slots, in_flight = self._worker.load(endpoint.project, endpoint.model)
            kind, of_project = KIND_OF_TYPE[endpoint.type], models.setdefault(endpoint.project, {})
            before = of_project.get((endpoint.model, kind))
            known = [one.context for one in (before, endpoint) if one is not None and one.context]
            of_project[endpoint.model, kind] = OfferedModel(
                endpoint.model, kind, slots, in_flight, min(known, default=0)
            )
        return [OfferedProject(name, tuple(of_project.values())) for name, of_project in sorted(models.items())]


class Announcer:
    """Announces `offered` in the name of `peers`; what was said is in the catalog."""

    def __init__(
        self,
        peers: Peers,
        topics: Topics,
        catalog: Catalog,
        offered: Callable[[], Sequence[OfferedProject]],
        *,
        topic: str,
        node_type: NodeType,
    ) -> None:
        self._peers = peers
        self._topics = topics
        self._catalog = catalog
        self._offered = offered
        self._topic = topic
        self._node_type = node_type
        self._changed = trio.Event()
        self._seq = 0
        self._heard = False  # somebody was there to hear the last announcement
        self._full: frozenset[tuple[str, str]] = frozenset()  # models that it said were full
        self._left = False

    def changed(self) -> None:
        """What is offered is another than before: who asks this node hears it at once, others when it is announced."""
        self._catalog.change_own(self._fitting())
        self._changed.set()

    async def run(self) -> None:
        """Announce until cancelled; `leave` comes after it."""
        while True:
            self._changed = trio.Event()
            await self._announce(self._fitting())
            await trio.sleep(PAUSE_S)
            with trio.move_on_after(ANNOUNCE_S - PAUSE_S):
                await self._until_due()

    async def leave(self) -> None:
        """Withdraw all offers; nothing is announced any more."""
        if not self._left:
            self._left = True
            await self._announce((), leaving=True)

    async def _until_due(self) -> None:
        while not self._changed.is_set():
            if self._catalog.own_seq > self._seq:  # others hold what an earlier life of this node has said
                return
            if not self._heard and self._topics.subscribers(self._topic):
                return
            if self._full_ones() != self._full:
                return
            with trio.move_on_after(_LOOK_S):
                await self._changed.wait()

    def _full_ones(self) -> frozenset[tuple[str, str]]:
        """Models that are full; one that was said to be stays so until half of its places are free, or it would be news for ever."""
        return frozenset(
            (project.name, model.name)
            for project in self._offered()
            for model in project.models
            if model.in_flight >= (model.slots / 2 if (project.name, model.name) in self._full else model.slots)
        )

    def _fitting(self) -> tuple[OfferedProject, ...]:
        return wire.fit(self._offered(), spare=_ENVELOPE_BYTES)

    async def _announce(self, projects: tuple[OfferedProject, ...], *, leaving: bool = False) -> None:
        now = time.time()
        self._seq = max(self._catalog.own_seq + 1, int(now * 1000))
        self._full = self._full_ones()
        self._heard = bool(self._topics.subscribers(self._topic))
        offer = Offer(
            node=self._peers.id,
            seq=self._seq,
            issued=now,
            expires=now + LIFE_S,
            node_type=self._node_type | (NodeType.MODEL if projects else NodeType(0)),
            projects=projects,
            protocols=tuple(name for name in self._peers.info().protocols if name.startswith(_OURS)),
            leaving=leaving,
        )
        signed = await self._topics.publish(self._topic, wire.encode_offer(offer))
        if leaving or not self._left:  # it may have been decided while this one waited for its turn
            self._catalog.set_own(offer, signed)
