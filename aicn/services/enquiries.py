"""Questions to nodes about offers: to those that join, what they hold; to those that seem to be lost, whether they are.

a peer has joined ──► its own offer, and all that it holds if this node has not heard enough lately
the connection to a node is lost ─┐                        (a node of the existing network: whether it can be reached)
somebody says that a node is lost ┴─(not connected to it)─► ask the node itself ─► alive: its offer is there
                                                                                └► silent: its offer is dropped
Only who has lost a connection itself tells others, and only what it has tried itself is believed.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable

import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connectivity
from aicn.domain.offers import Lost, Offer, OffersAsked
from aicn.errors import AicnError, DeadlineExceeded, ProtocolViolation, UnknownNode, Unreachable
from aicn.services.catalog import Catalog
from aicn.services.errands import Errands
from aicn.services.nodes import Nodes
from aicn.services.ports import Links, Topics
from aicn.services.rates import Rates
from aicn.wire import control
from aicn.wire import offers as wire

log = logging.getLogger(__name__)

_ASK_S = 2.5  # for a node that seems to be lost to prove the contrary: a dial over three continents and an answer
_JITTER_S = 0.3  # before it is asked, so that not everybody does it at once, and one `Lost` is enough for all
_ENOUGH = 3  # nodes that were asked for all that they hold …
_ENOUGH_S = 30.0  # … within this time: the rest comes with the next announcements
_MOST_PAGES = 256  # of 512 KiB: twice what a full catalog holds
_TELL_S = 20.0  # for one to tell it: a few that take their time must not keep the others waiting
_TRUST_S = 30.0  # a node that has just answered is not asked again because somebody says that it is lost
_AT_ONCE = 4
_DOUBTS_AT_ONCE = 16  # many may be lost with one cable, and each may take _ASK_S
_MOST_WAITING = 1024

Hear = Callable[[bytes, PeerId], object]


class Enquiries:
    """Asks, and tells `hear` what was said and by whom."""

    def __init__(self, nodes: Nodes, links: Links, topics: Topics, catalog: Catalog, hear: Hear, *, topic: str) -> None:
        self._nodes = nodes
        self._links = links
        self._topics = topics
        self._catalog = catalog
        self._hear = hear
        self._topic = topic
        self._questions = Errands("asking for offers", self._ask_joined, at_once=_AT_ONCE, most=_MOST_WAITING)
        self._doubts = Errands("asking whether it is lost", self._resolve, at_once=_DOUBTS_AT_ONCE, most=_MOST_WAITING)
        self._joins = Rates(rate=0.2, burst=4)  # per peer: identify can be told again and again
        self._endings = Rates(
            rate=1 / 60, burst=4
        )  # per node: connections that are closed as unneeded are not to come back
        self._tellings = Rates(rate=2.0, burst=32)  # of `Lost` by this node
        self._trusted = Rates(rate=1 / _TRUST_S, burst=1)
        self._whole: deque[float] = deque(maxlen=_ENOUGH)  # when nodes have told all that they hold
        self._said: set[PeerId] = set()  # nodes in doubt that others know of already

    def __contains__(self, node: PeerId) -> bool:
        """Whether it is being found out if the node is lost."""
        return node in self._doubts

    async def run(self) -> None:
        """Ask until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._questions.run)
            nursery.start_soon(self._doubts.run)

    def joined(self, peer: PeerId) -> None:
        """A peer was connected, and what it serves is known."""
        if control.PROTOCOL in self._links.protocols_of(peer) and self._joins.allow(peer):
            self._questions.add(peer)

    def lost(self, peer: PeerId) -> None:
        """The last connection to a peer has ended."""
        if self._catalog.offer(peer) is not None and self._endings.allow(peer):
            self._doubts.add(peer)

    def said_to_be_lost(self, lost: Lost) -> bool:
        """Somebody says so; whether that is worth telling others."""
        offer = self._catalog.offer(lost.node)
        if offer is None or offer.seq > lost.seq:
            return False
        if self._connected(lost.node):
            return True
        if lost.node not in self._doubts and not (self._trusted.allow(lost.node) and self._doubts.add(lost.node)):
            return False
        self._said.add(lost.node)
        return True

    # ---- peers that join ----

    async def _ask_joined(self, peer: PeerId) -> None:
        now = trio.current_time()
        enough = len(self._whole) == _ENOUGH and now - self._whole[0] < _ENOUGH_S
        try:
            with trio.move_on_after(_TELL_S):
                await self._ask(peer, only=peer)
                if not enough:
                    await self._ask(peer)
                    self._whole.append(now)
        except AicnError as error:
            log.debug("%s was asked for offers: %s", peer, error.message)

    async def _ask(self, peer: PeerId, *, only: str = "") -> None:
        after = ""
        for _ in range(_MOST_PAGES):
            page = await self._nodes.offers_of(peer, OffersAsked(after, only))
            for signed in page.signed:
                self._hear(signed, peer)
                await trio.lowlevel.checkpoint()  # each costs a signature
            if only or not page.more_after:
                return
            if page.more_after <= after:
                raise ProtocolViolation(f"peer {peer}: its list of offers does not end")
            after = page.more_after

    # ---- nodes that may be lost ----

    async def _resolve(self, node: PeerId) -> None:
        try:
            await trio.sleep(random.uniform(0, _JITTER_S))  # noqa: S311 - no secret
            offer = self._catalog.offer(node)
            if offer is not None and not self._connected(node) and not await self._answers(node):
                await self._drop(offer)
        finally:
            self._said.discard(node)

    async def _answers(self, node: PeerId) -> bool:
        """Whether the node itself answers. That it does not like the question is an answer, too."""
        if node in self._catalog.legacy_nodes():
            with trio.move_on_after(_ASK_S):
                await self._links.measure(node)
            return self._connected(node)
        try:
            with trio.fail_after(_ASK_S):
                await self._ask(node, only=node)
        except (Unreachable, UnknownNode, DeadlineExceeded, trio.TooSlowError):
            return self._connected(node)  # it may have come back by itself meanwhile
        except AicnError as error:
            log.debug("%s was asked whether it is lost: %s", node, error.message)
        return True

    async def _drop(self, offer: Offer) -> None:
        """The node is gone. Without any peer it may be this one that is: what others say is believed again when there are some."""
        node, seq = offer.node, offer.seq
        alone = not self._topics.subscribers(self._topic)
        if self._catalog.lose(node, seq, for_good=not alone):
            log.info("node %s is gone: its offers are dropped", node)
            if not alone and node not in self._said and self._tellings.allow(""):
                said_until = int(time.time() * 1000) if offer.legacy else seq  # not all have heard the same heartbeats
                await self._topics.publish(self._topic, wire.encode_lost(Lost(node, said_until)))

    def _connected(self, node: PeerId) -> bool:
        return self._links.link(node).connectivity is Connectivity.CONNECTED
