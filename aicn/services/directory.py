"""The directory: who offers what, all over the network.

open_directory
 ├─ cache.run        what is known, to the disk and back after a restart
 ├─ enquiries.run    questions to nodes that join, and to those that seem to be lost
 ├─ distances.run    round-trip times to nodes with models
 └─ announcer.run    this node's own offers; withdrawn as soon as the block ends, before the p2p host closes

A node whose directory is switched off announces its own offers, hands on those of others, and knows none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Message
from aicn.domain.offers import SKEW_S, Lost, Offer, OffersAsked, OffersPage, Provider
from aicn.errors import ProtocolViolation, Unsupported
from aicn.services.announcer import Announcer
from aicn.services.catalog import Catalog
from aicn.services.distances import Distances
from aicn.services.enquiries import Enquiries
from aicn.services.nodes import Nodes
from aicn.services.offer_cache import OfferCache
from aicn.services.ports import Links, OfferStore, Topics
from aicn.services.rates import Rates
from aicn.wire import control
from aicn.wire import offers as wire

log = logging.getLogger(__name__)

_LEAVE_S = 1.0  # for the withdrawal to be on its way
_WARN_S = 60.0  # between two remarks about clocks


class Directory:
    """What is known of the network. Made by `open_directory`."""

    def __init__(
        self,
        nodes: Nodes,
        links: Links,
        topics: Topics,
        catalog: Catalog,
        announcer: Announcer,
        *,
        network: str,
        enabled: bool,
    ) -> None:
        self.catalog = catalog
        self.announcer = announcer
        self.enabled = enabled
        self.topic = wire.topic(network)
        self._topics = topics
        self._network = network
        self._distances = Distances(links, catalog)
        self.enquiries = Enquiries(nodes, links, topics, catalog, self.hear, topic=self.topic)
        self._offers = Rates(rate=3.0, burst=20)  # of one node: half as many again as it may announce
        self._losses = Rates(rate=1.0, burst=20)  # said by one node
        self._lost = Rates(rate=0.5, burst=4)  # said of one node
        self._refutations = Rates(rate=0.1, burst=1)
        self._warnings = Rates(rate=1 / _WARN_S, burst=1)
        self._repeated: Callable[[Message], PeerId | None] = lambda _: None
        self._farewell: Callable[[], Awaitable[None]] | None = None

    # ---- for facades and services ----

    def projects(self) -> list[str]:
        """Names of all projects, sorted. Unsupported, as the next two, when this node keeps no directory."""
        self._check_enabled()
        return self.catalog.projects()

    def models(self, project: str) -> list[str]:
        """Names of the project's models, sorted."""
        self._check_enabled()
        return self.catalog.models(project)

    async def nearest(self, project: str, model: str | None, most: int) -> Sequence[Provider]:
        """At most `most` nodes that offer the model (None: any of the project), the nearest and healthiest first."""
        self._check_enabled()
        return await self._distances.nearest(project, model, most)

    def members(self) -> list[PeerId]:
        """All nodes of the network that are known, sorted: those with offers, connected ones, and this one."""
        return sorted({*self.catalog.nodes(), *self._topics.subscribers(self._network), self.catalog.own})

    # ---- what others say ----

    def accept(self, message: Message) -> bool:
        """A message of the offers topic; whether it is handed on: it is news, and its sender does not say too much."""
        try:
            said = wire.decode(message.data, message.sender)
        except ProtocolViolation as error:
            log.debug("%s on the offers topic: %s", message.sender, error.message)
            return False
        if isinstance(said, Lost):
            return self._losses.allow(message.sender) and self._said_to_be_lost(said)
        if not self._offers.allow(message.sender):
            return False
        if not self.enabled:
            return True
        news = self.catalog.take(said, message.signed)
        if not news:
            self._look_at_clock(said)
        return news

    def hear(self, signed: bytes, source: PeerId | None = None) -> PeerId | None:
        """An offer that `source` repeats, or makes: whose it is; None: it is known. ProtocolViolation: none of this network."""
        if self.catalog.holds(signed):
            return None
        message = self._topics.verify(signed)
        if message.topic == self._network:
            return self._repeated(message)
        said = wire.decode(message.data, message.sender)
        if message.topic != self.topic or not isinstance(said, Offer):
            raise ProtocolViolation("no offer of this network")
        if not self.catalog.take(said, signed, first_hand=message.sender == source):
            self._look_at_clock(said)
        return said.node

    def hear_heartbeats(
        self, repeated: Callable[[Message], PeerId | None], farewell: Callable[[], Awaitable[None]]
    ) -> None:
        """Be the directory of the existing network's nodes, too.

        `repeated`: what `hear` does with a message of their topic; without it they are passed over. `farewell` is said to them
        before this node withdraws its offers: nobody then takes it for news.
        """
        self._repeated, self._farewell = repeated, farewell

    async def tell(self, asked: OffersAsked) -> OffersPage:
        """The offers that a peer asks for."""
        if asked.only:
            signed = self.catalog.signed(PeerId(asked.only))
            return OffersPage((signed,) if signed else ())
        page, more_after = self.catalog.page(asked.after, most_bytes=wire.PAGE_BYTES)
        return OffersPage(tuple(page), more_after)

    def _said_to_be_lost(self, lost: Lost) -> bool:
        if not self._lost.allow(lost.node):
            return False
        if lost.node == self.catalog.own:
            if self._refutations.allow(""):
                self.announcer.changed()
            return False
        return not self.enabled or self.enquiries.said_to_be_lost(lost)

    def _look_at_clock(self, offer: Offer) -> None:
        """Say why a node cannot be seen whose clock is wrong, or that this one's is."""
        ahead = offer.issued - time.time()
        if ahead > SKEW_S and self._warnings.allow(""):
            log.info(  # no warning: anybody can say so
                "the clock of node %s is %.0f s ahead of this one's: its offers are not taken", offer.node, ahead
            )

    def _check_enabled(self) -> None:
        if not self.enabled:
            raise Unsupported("this node keeps no directory (directory.enabled = false)")

    # ---- life ----

    async def run(self, cache: OfferCache) -> None:
        """Keep the directory until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.run)
            nursery.start_soon(self.announcer.run)
            if self.enabled:
                nursery.start_soon(self.enquiries.run)
                nursery.start_soon(self._distances.run)

    async def leave(self) -> None:
        """Withdraw this node's offers; returns when that is on its way to the peers, or when they do not take it."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _LEAVE_S):
            if self._farewell is not None:
                await self._farewell()
            await self.announcer.leave()
            await self._topics.flush()


@asynccontextmanager
async def open_directory(
    directory: Directory, nodes: Nodes, links: Links, topics: Topics, store: OfferStore
) -> AsyncIterator[Directory]:
    """A directory at work while the block runs. What an earlier run knew is there at the beginning."""
    cache = OfferCache(store, directory.catalog, directory.hear)
    await cache.load()
    topics.join(directory.topic, directory.accept)
    if directory.enabled:
        nodes.answer(control.OFFERS, directory.tell)
        links.on_joined(directory.enquiries.joined)
        links.on_lost(directory.enquiries.lost)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(directory.run, cache)
        try:
            yield directory
        except Exception as error:  # noqa: BLE001 - raised again below: the nursery would wrap it in a group
            failure = error
        finally:
            await directory.leave()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
