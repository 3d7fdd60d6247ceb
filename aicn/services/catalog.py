"""The catalog: what each node of the network offers. Pure state; services/directory.py feeds it.

Of each node the offer with the highest seq counts, from whomever it came, until it expires:

    take      a newer one ─────────────► held ──(expiry + SKEW_S)──► forgotten
              one that says `leaving` ─► gone: nothing up to its seq is taken again
    lose      the node does not answer ► lost: nothing up to that seq is taken again, but from the node itself

Hearsay (the same signed bytes, repeated by anybody in any order) changes nothing: seq and expiry are inside the signature. What
is gone or lost is remembered for as long as any offer of before could live.

A node that makes no offers is known by its heartbeats of the existing network (`hear`), which name models and nothing else:

    hear      a later one, and no offer is held ──► held ──(FRESH_S)──► held without projects ──(KNOWN_S)──► forgotten

An offer takes the place of a heartbeat, whichever is newer; a heartbeat from before the node was gone or lost is not taken.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import LONGEST_LIFE_S, SKEW_S, NodeType, Offer, OfferedProject, Provider
from aicn.services.offer_index import OfferIndex, is_full

MOST_OFFERS = 10_000  # nodes
MOST_WEIGHT = 64 << 20  # bytes that all offers may take in memory, roughly
_MODEL_WEIGHT = 400  # bytes of a model beside its text
FRESH_S = 600.0  # how long what a heartbeat names counts, as with nodes of the existing network
KNOWN_S = 86_400.0  # how long its node is known, likewise
_MOST_TOMBSTONES = 20_000
_TOMBSTONE_S = {  # by whether it is of heartbeats: the latest that what was said before can be over, by our clock
    False: LONGEST_LIFE_S + 2 * SKEW_S,
    True: FRESH_S + SKEW_S,
}
_MOST_GIVING_WAY = 64  # heartbeats looked at to find room for one more
_OWN = Link(Connectivity.CONNECTED, 0.0)
_NEARER = {  # the order in which nodes are tried
    Connectivity.CONNECTED: 0,
    Connectivity.CAN_CONNECT: 1,
    Connectivity.NOT_CONNECTED: 2,
    Connectivity.CANNOT_CONNECT: 3,
}


@dataclass(frozen=True, slots=True)
class _Held:
    offer: Offer
    signed: bytes  # for handing it on; empty: it cannot be
    until: float  # Unix time
    weight: int


@dataclass(frozen=True, slots=True)
class _Tombstone:
    seq: int  # up to this one nothing is taken
    until: float  # Unix time
    lost: bool  # by our own judgement: the node itself may prove it wrong


class Catalog:
    """Offers by node. Reads answer from an index: they cost what they return."""

    def __init__(self, own: PeerId, link: Callable[[PeerId], Link], *, clock: Callable[[], float] = time.time) -> None:
        self.own = own
        self.own_seq = 0  # the highest that this node is known to have used, also in earlier lives
        self.own_signed = b""  # what it has announced last
        self._link = link
        self._clock = clock
        self._held: dict[PeerId, _Held] = {}
        self._tombstones: dict[tuple[PeerId, bool], _Tombstone] = {}  # True: of a node's heartbeats
        self._weight = 0
        self._next_expiry = math.inf  # not later than the first one's
        self._signed: set[bytes] = set()
        self._order: list[PeerId] | None = None  # of `page`, sorted
        self._legacy: dict[PeerId, None] = {}  # nodes that are known by a heartbeat, that of longest ago first
        self._index = OfferIndex()
        self._listeners: list[Callable[[PeerId], None]] = []

    def on_change(self, tell: Callable[[PeerId], None]) -> None:
        """Call `tell` whenever another offer of a node is held than before, or none any more. It neither waits nor raises."""
        self._listeners.append(tell)

    # ---- what is told ----

    def take(self, offer: Offer, signed: bytes = b"", *, first_hand: bool = False) -> bool:
        """An offer that its node has signed; whether it was news. `first_hand`: the node itself has just said it.

        Not taken: what is older than what is known, expired, of the future, or more than there is room for.
        """
        now = self._clock()
        if offer.node == self.own:  # an echo
            self.own_seq = max(self.own_seq, offer.seq)
            return False
        self.expire()
        until = offer.expires + SKEW_S
        if until <= now or offer.issued > now + SKEW_S or offer.expires - offer.issued > LONGEST_LIFE_S:
            return False
        held = self._held.get(offer.node)
        if held is not None and not held.offer.legacy and offer.seq <= held.offer.seq:
            return False
        tombstone = self._tombstones.get((offer.node, False))
        if tombstone is not None and offer.seq <= tombstone.seq and not (first_hand and tombstone.lost):
            return False
        if offer.leaving:
            if held is None or not held.offer.legacy or held.offer.seq <= offer.seq:
                self._forget(offer.node)
            self._bury(offer, lost=False)
            return True
        new = _Held(offer, signed, until, _weight(offer, signed))
        if not self._make_room(new, held):
            return False
        self._tombstones.pop((offer.node, False), None)
        self._hold(new)
        return True

    def hear(self, offer: Offer, signed: bytes = b"", *, first_hand: bool = False) -> bool:
        """A heartbeat, as a `legacy` offer that counts from `issued` by this node's clock for FRESH_S; whether it was news.

        Of two with the same `seq` the later one counts, but no longer than the first. `first_hand`: the node itself has just answered
        this; its `seq` says nothing.
        """
        self.expire()
        node, held = offer.node, self._held.get(offer.node)
        if node == self.own or (held is not None and not held.offer.legacy):
            return False
        if first_hand:
            offer = replace(offer, seq=0 if held is None else held.offer.seq)
            if held is not None and held.offer.projects == offer.projects:
                signed = held.signed
        elif any(
            offer.seq <= self._tombstones[key].seq for key in ((node, False), (node, True)) if key in self._tombstones
        ):
            return False
        elif held is not None and offer.seq <= held.offer.seq:
            if offer.seq < held.offer.seq or signed == held.signed:
                return False
            offer = replace(offer, expires=min(offer.expires, held.offer.expires))
        if offer.expires <= self._clock():
            offer = _faded(offer)
        new = _Held(offer, signed, _end(offer), _weight(offer, signed))
        if new.until <= self._clock() or not self._make_room(new, held):
            return False
        self._hold(new)
        return True

    def set_own(self, offer: Offer, signed: bytes) -> None:
        """What this node has just announced."""
        self.own_seq, self.own_signed = max(self.own_seq, offer.seq), signed
        if offer.leaving:
            self._remove(self.own)
            self._order = None
            self._tell(self.own)
        else:
            self._hold(_Held(offer, signed, offer.expires + SKEW_S, _weight(offer, signed)))

    def change_own(self, projects: tuple[OfferedProject, ...]) -> None:
        """What this node offers has changed; what it has announced is handed on until it has announced that."""
        held = self._held.get(self.own)
        if held is not None:
            self._hold(replace(held, offer=replace(held.offer, projects=projects)))

    def lose(self, node: PeerId, seq: int, *, for_good: bool = True) -> bool:
        """The node does not answer: its offers up to `seq` are dropped; whether there was one.

        `for_good`: what others say of it is not believed again. Not so when it may be this node that has lost the network.
        """
        held = self._held.get(node)
        if node == self.own or held is None or held.offer.seq > seq:
            return False
        self._forget(node)
        if for_good:
            self._bury(held.offer, lost=True)
        else:
            del self._tombstones[node, held.offer.legacy]
        return True

    def expire(self) -> None:
        """Forget what is over. Every reading method does it first."""
        now = self._clock()
        if now < self._next_expiry:
            return
        for node in [node for node, held in self._held.items() if held.until <= now]:
            self._fade(node)
        for key in [key for key, one in self._tombstones.items() if one.until <= now]:
            del self._tombstones[key]
        ends = [*(one.until for one in self._held.values()), *(one.until for one in self._tombstones.values())]
        self._next_expiry = min(ends, default=math.inf)

    # ---- what is asked ----

    def offer(self, node: PeerId) -> Offer | None:
        """The offer that counts now."""
        self.expire()
        held = self._held.get(node)
        return None if held is None else held.offer

    def signed(self, node: PeerId) -> bytes:
        """The same as its node has signed it; empty: there is none that could be handed on."""
        self.expire()
        held = self._held.get(node)
        return b"" if held is None else held.signed

    def legacy_nodes(self) -> Collection[PeerId]:
        """Nodes that are known by heartbeats only."""
        self.expire()
        return self._legacy.keys()

    def holds(self, signed: bytes) -> bool:
        """Whether this very message is what counts now: it need not be looked at again."""
        return signed in self._signed

    def nodes(self) -> Sequence[PeerId]:
        """All nodes whose offers are held, sorted; also those that have no model."""
        self.expire()
        if self._order is None:
            self._order = sorted(self._held)
        return self._order

    def projects(self) -> list[str]:
        """Names of all projects, sorted."""
        self.expire()
        return self._index.projects()

    def models(self, project: str) -> list[str]:
        """Names of the project's models over all nodes, sorted; aliases are not among them."""
        self.expire()
        return self._index.models(project)

    def projects_with(self, name: str) -> list[str]:
        """Names of the projects that have a model of that name or alias, sorted."""
        self.expire()
        return self._index.projects_with(name)

    def meant(self, project: str, name: str, kind: Kind | None = None) -> list[str]:
        """What the project's models of that kind are really called that have that name or alias, sorted; a name wins over aliases."""
        return self._index.meant(project, name, kind)

    def providers(self, project: str, model: str | None, *, kind: Kind | None = None, most: int) -> list[Provider]:
        """At most `most` nodes that offer the model (by name or alias; None: any of the project), each once, best first.

        This node comes first, then connected ones by their round-trip time, direct before relayed ones, then those that were
        connected before, unknown ones, and, after all those without room, those that could not be reached a moment ago.
        """
        self.expire()
        found = [
            Provider(node, one, self._link_to(node)) for node, one in self._index.find(project, model, kind).items()
        ]
        found.sort(key=self._distance)
        return found[:most]

    def page(self, after: str, *, most_bytes: int) -> tuple[list[bytes], str]:
        """Signed offers of the nodes behind `after`, at least one if there is any, and where to go on; "" at the end."""
        nodes = self.nodes()
        page: list[bytes] = []
        size = 0
        last = after
        for node in nodes[bisect_right(nodes, after) :]:
            signed = self._held[node].signed
            if page and size + len(signed) > most_bytes:
                return page, last
            if signed:
                page.append(signed)
                size += len(signed)
            last = node
        return page, ""

    # ---- inside ----

    def _link_to(self, node: PeerId) -> Link:
        return _OWN if node == self.own else self._link(node)

    def _distance(self, provider: Provider) -> tuple[bool, bool, bool, int, bool, float, str]:
        link = provider.link
        failed = link.connectivity is Connectivity.CANNOT_CONNECT
        own = provider.node == self.own
        rank, rtt = _NEARER[link.connectivity], link.rtt or math.inf
        return failed, is_full(provider.model), not own, rank, link.relayed, rtt, provider.node

    def _make_room(self, new: _Held, old: _Held | None) -> bool:
        """Whether there is room for `new` in place of `old`, or is made: see `_giving_way`."""
        weight = self._weight + new.weight - (old.weight if old is not None else 0)
        count = len(self._held) + (old is None)
        if weight <= MOST_WEIGHT and count <= MOST_OFFERS:
            return True
        for node in self._giving_way(new.offer):
            if weight <= MOST_WEIGHT and count <= MOST_OFFERS:
                break
            held = self._held[node]
            weight -= held.weight
            count -= 1
            self._forget(node)
            self._bury(held.offer, lost=True)
        return weight <= MOST_WEIGHT and count <= MOST_OFFERS

    def _giving_way(self, new: Offer) -> list[PeerId]:
        """Strangers that are dropped first when there is no room for `new`.

        For a connected node all of them, for another one's offer some that are known by heartbeats, for a heartbeat those of them
        that have not been heard of lately.
        """
        if self._near(new.node):
            strangers = [node for node in self._held if node != new.node and not self._near(node)]
            return sorted(strangers, key=lambda node: self._held[node].until)
        return [
            node
            for node in islice(self._legacy, _MOST_GIVING_WAY)
            if node != new.node and not self._near(node) and not (new.legacy and self._held[node].offer.projects)
        ]

    def _near(self, node: PeerId) -> bool:
        return self._link_to(node).connectivity is Connectivity.CONNECTED

    def _hold(self, new: _Held) -> None:
        node = new.offer.node
        before = self._remove(node)
        self._held[node] = new
        self._weight += new.weight
        if new.offer.legacy:
            self._legacy[node] = None
        self._next_expiry = min(self._next_expiry, new.until)
        if new.signed:
            self._signed.add(new.signed)
        self._index.add(new.offer)
        if before is None:
            self._order = None
        self._tell(node)

    def _forget(self, node: PeerId) -> None:
        """Hold nothing of the node any more, nor take what is older than what was held."""
        held = self._remove(node)
        if held is not None:
            self._bury(held.offer, lost=False)
            self._order = None
            self._tell(node)

    def _fade(self, node: PeerId) -> None:
        """What is held of the node is over; of a heartbeat's node remains that it was there."""
        held = self._held[node]
        left = _faded(held.offer)
        if held.offer.legacy and _end(left) > self._clock():
            self._hold(_Held(left, held.signed, _end(left), _weight(left, held.signed)))
        else:
            self._forget(node)

    def _remove(self, node: PeerId) -> _Held | None:
        held = self._held.pop(node, None)
        if held is not None:
            self._weight -= held.weight
            self._legacy.pop(node, None)
            self._signed.discard(held.signed)
            self._index.remove(held.offer)
        return held

    def _bury(self, offer: Offer, *, lost: bool) -> None:
        key = offer.node, offer.legacy
        self._tombstones.pop(key, None)
        until = self._clock() + _TOMBSTONE_S[offer.legacy]
        self._tombstones[key] = _Tombstone(offer.seq, until, lost)
        self._next_expiry = min(self._next_expiry, until)
        if len(self._tombstones) > _MOST_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]

    def _tell(self, node: PeerId) -> None:
        for tell in self._listeners:
            tell(node)


def _faded(offer: Offer) -> Offer:
    """What a heartbeat of some time ago says: that its node was there."""
    return replace(offer, projects=(), node_type=offer.node_type & ~NodeType.MODEL)


def _end(offer: Offer) -> float:
    """When a heartbeat is over; one that names nothing says that its node is there."""
    return offer.expires if offer.projects else offer.expires + KNOWN_S - FRESH_S


def _weight(offer: Offer, signed: bytes) -> int:
    return 2 * len(signed) + _MODEL_WEIGHT * (
        1 + sum(1 + len(model.aliases) for project in offer.projects for model in project.models)
    )
