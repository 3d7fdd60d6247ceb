"""How far the nodes are that have models: measured in the background, so that whoever asks is answered at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connectivity
from aicn.domain.offers import NodeType, Provider
from aicn.services.catalog import Catalog
from aicn.services.ports import Links
from aicn.services.rates import Rates

_MOST_NEAR = 32  # nodes with models that this one keeps itself acquainted with
_ROUND_S = 10.0
_AGAIN_S = 300.0  # a node that could not be reached, or whose connection was closed as unneeded
_MEASURE_S = 20.0  # for one: a dial (p2p.dial_s) and a ping
_AT_ONCE = 4
_WANTED = 32  # nodes measured for one who asks,
_WANTED_AT_ONCE = 16  # so many at a time,
_WANTED_S = 1.0  # while he waits no longer than this,
_WAITED_FOR_S = 30.0  # and for the same node not again so soon


class Distances:
    """Connects to nodes with models, and pings them."""

    def __init__(self, links: Links, catalog: Catalog) -> None:
        self._links = links
        self._catalog = catalog
        self._tried = Rates(rate=1 / _AGAIN_S, burst=1)
        self._waited = Rates(rate=1 / _WAITED_FOR_S, burst=1)

    async def run(self) -> None:
        """Keep some distances known, until cancelled."""
        while True:
            await trio.sleep(_ROUND_S * random.uniform(0.5, 1.0))  # noqa: S311 - nodes that start together
            nodes = [node for node in self._catalog.nodes() if node != self._catalog.own and self._has_models(node)]
            room = _MOST_NEAR - sum(1 for node in nodes if self._known(node))
            far = [node for node in nodes if self._unknown(node)]
            random.shuffle(far)
            chosen = [node for node in far[: max(0, room)] if self._tried.allow(node)]
            await self._measure(chosen, at_once=_AT_ONCE)

    async def nearest(self, project: str, model: str | None, most: int) -> Sequence[Provider]:
        """`Catalog.providers`, once those that nothing is known of have had a moment to answer."""
        find: Callable[..., Sequence[Provider]] = partial(self._catalog.providers, project, model)
        far = [one.node for one in find(most=max(most, _WANTED)) if self._unknown(one.node)][:_WANTED]
        wanted = [node for node in far if self._waited.allow(node)]
        if wanted:
            with trio.move_on_after(_WANTED_S):
                await self._measure(wanted, at_once=_WANTED_AT_ONCE)
        return find(most=most)

    async def _measure(self, nodes: Sequence[PeerId], *, at_once: int) -> None:
        turns = trio.CapacityLimiter(at_once)

        async def measure(node: PeerId) -> None:
            async with turns:
                with trio.move_on_after(_MEASURE_S):
                    await self._links.measure(node)

        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(measure, node)

    def _has_models(self, node: PeerId) -> bool:
        offer = self._catalog.offer(node)
        return offer is not None and NodeType.MODEL in offer.node_type

    def _known(self, node: PeerId) -> bool:
        return self._links.link(node).connectivity is Connectivity.CONNECTED

    def _unknown(self, node: PeerId) -> bool:
        """Nothing was tried lately, or the connection is too young to have been measured."""
        link = self._links.link(node)
        return node != self._catalog.own and (
            link.connectivity is Connectivity.NOT_CONNECTED
            or (link.connectivity is Connectivity.CONNECTED and not link.rtt)
        )
