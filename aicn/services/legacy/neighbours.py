"""What the nodes of the existing network offer, put into the catalog.

a heartbeat ────────────────────────────────────────► at once; its node speaks for itself, and in the order of its clock
a heartbeat that another node of ours repeats ──────► the same, with the time that its node has signed
a node that has just come, on a connection of ours ─► is asked: its next heartbeat may be minutes away
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Message
from aicn.domain.offers import SKEW_S, NodeType, Offer, OfferedModel, OfferedProject
from aicn.domain.registration import Project
from aicn.errors import AicnError, DeadlineExceeded, ProtocolViolation
from aicn.services.catalog import FRESH_S, Catalog
from aicn.services.errands import Errands
from aicn.services.legacy.conversation import Conversation
from aicn.services.ports import Links, Topics
from aicn.services.rates import Rates
from aicn.wire import control
from aicn.wire.legacy import bodies, envelope
from aicn.wire.legacy.envelope import Envelope, Type
from aicn.wire.offers import OFFER_BYTES

log = logging.getLogger(__name__)

_CLOCK_S = 3600.0  # by which the clock of a node may be wrong whose heartbeat comes by itself: nobody there minds
_ASK_S = 5.0  # for an answer; a node that has just come may not hear us yet …
_ATTEMPTS = 2  # … and is asked again
_JUST_S = 2.0  # what it has said so lately need not be asked
_AT_ONCE = 8
_PAUSE_S = 1.0  # before the next one is asked in its place: everybody on the topic gets the questions
_MOST_WAITING = 1024

Met = Callable[[bool], None]


class Neighbours:
    """Hears, and asks. What comes of it stands in the catalog."""

    def __init__(
        self,
        conversation: Conversation,
        links: Links,
        topics: Topics,
        catalog: Catalog,
        *,
        topic: str,
        keeps: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`keeps`: whether this node keeps a directory; without one it neither hears nor asks."""
        self._conversation = conversation
        self._links = links
        self._topics = topics
        self._catalog = catalog
        self._topic = topic
        self._keeps = keeps
        self._clock = clock
        self._questions = Errands("asking for projects", self._ask, at_once=_AT_ONCE, most=_MOST_WAITING)
        self._heartbeats = Rates(rate=3.0, burst=100)  # of one node: each registration makes one
        self._meetings = Rates(rate=0.2, burst=6)  # with one node: it can subscribe again and again
        self._met: list[Met] = []
        self._first: list[Callable[[int], None]] = []

    def on_met(self, tell: Met) -> None:
        """Call `tell` for each peer that comes to the topic with whether it is one of the existing network's.

        A peer may come again. `tell` neither waits nor raises.
        """
        self._met.append(tell)

    def on_first(self, tell: Callable[[int], None]) -> None:
        """Call `tell` with the number of all known nodes when the first one of the existing network is heard of."""
        self._first.append(tell)

    def any(self) -> bool:
        """Whether the existing network has nodes here, as far as is known; without a directory little is."""
        return not self._keeps or bool(self._catalog.legacy_nodes()) or any(map(self._is_legacy, self.members()))

    def members(self) -> Sequence[PeerId]:
        """Connected peers on the topic."""
        return self._topics.subscribers(self._topic)

    async def run(self) -> None:
        """Ask those that come, until cancelled."""
        self._topics.on_member(lambda topic, peer: self._come(peer) if topic == self._topic else None)
        self._links.on_joined(lambda peer: self._come(peer) if peer in self.members() else None)
        for peer in self.members():
            self._come(peer)
        await self._questions.run()

    # ---- what is heard ----

    def heard(self, message: Message, said: Envelope) -> None:
        """A heartbeat of its sender. ProtocolViolation: it is none."""
        if not self._keeps or not self._heartbeats.allow(said.sender):
            return
        now = self._clock()
        if abs(said.timestamp - now) > _CLOCK_S:
            log.debug("heartbeat of %s: its clock is wrong by %.0f s", said.sender, said.timestamp - now)
            return
        self._take(message, said, now)

    def repeated(self, message: Message) -> PeerId | None:
        """A signed heartbeat that somebody hands on: whose it is; None: it is no news. ProtocolViolation: it is none."""
        said = envelope.decode(message.data)
        if not said.is_heartbeat or said.sender != message.sender:
            raise ProtocolViolation("no heartbeat of the existing network")
        known = self._catalog.offer(said.sender)
        now = self._clock()
        if not self._keeps or said.timestamp > now + SKEW_S or (known is not None and _seq(said) <= known.seq):
            return None
        self._take(message, said, min(now, said.timestamp))
        return said.sender

    def _take(self, message: Message, said: Envelope, heard: float) -> None:
        signed = message.signed if len(message.signed) <= OFFER_BYTES else b""  # more than others take at once
        self._hear(_offer(said.sender, _seq(said), heard, *bodies.decode_projects(said.body)), signed)

    def _hear(self, offer: Offer, signed: bytes = b"", *, first_hand: bool = False) -> None:
        first = not self._catalog.legacy_nodes()
        if self._catalog.hear(offer, signed, first_hand=first_hand) and first:
            for tell in self._first:
                tell(len(self._catalog.nodes()))

    # ---- who comes ----

    def _come(self, peer: PeerId) -> None:
        legacy = self._is_legacy(peer)
        if not self._meetings.allow(peer):
            return
        for tell in self._met:
            tell(legacy)
        if legacy and self._keeps:
            self._questions.add(peer, again=True)

    def _is_legacy(self, peer: PeerId) -> bool:
        """Whether a member of the topic is known to make no offers of its own."""
        return self._links.is_identified(peer) and control.PROTOCOL not in self._links.protocols_of(peer)

    def _is_enough(self, known: Offer) -> bool:
        return not known.legacy or known.issued > self._clock() - _JUST_S

    async def _ask(self, peer: PeerId) -> None:
        for _ in range(_ATTEMPTS):
            known = self._catalog.offer(peer)
            if peer not in self.members() or (known is not None and self._is_enough(known)):
                return
            try:
                plain = await self._conversation.ask(peer, Type.AI_PROJECT, bodies.EMPTY_QUESTION, within_s=_ASK_S)
                projects, node_type = bodies.decode_projects(plain)
            except DeadlineExceeded:
                continue
            except AicnError as error:
                log.debug("%s was asked for its projects: %s", peer, error.message)
                return
            if self._catalog.offer(peer) is not known:
                return  # a heartbeat has come meanwhile; the answer may be older
            if known is not None:  # an answer does not tell it
                node_type |= known.node_type
            self._hear(_offer(peer, 0, self._clock(), projects, node_type), first_hand=True)
            await trio.sleep(_PAUSE_S)
            return


def _seq(said: Envelope) -> int:
    return said.timestamp * 1000


def _offer(node: PeerId, seq: int, heard: float, projects: Sequence[Project], node_type: NodeType) -> Offer:
    """What was heard at that Unix time."""
    offered = tuple(
        OfferedProject(project.name, tuple(OfferedModel(model, None) for model in project.models))
        for project in projects
    )
    has_models = any(project.models for project in offered)
    node_type = node_type | NodeType.MODEL if has_models else node_type & ~NodeType.MODEL
    return Offer(node, seq, heard, heard + FRESH_S, node_type, offered, legacy=True)
