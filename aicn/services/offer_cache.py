"""Offers kept over a restart: what is in the catalog is written down now and then, off everybody's way."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from aicn.domain.ids import PeerId
from aicn.errors import AicnError, StorageError
from aicn.services.catalog import Catalog
from aicn.services.ports import OfferStore

log = logging.getLogger(__name__)

WRITE_S = 10.0  # between the first change and the write that it goes into; a crash loses as much
_LAST_WRITE_S = 2.0  # for what is left when the node stops

Hear = Callable[[bytes], PeerId | None]


class OfferCache:
    """`hear` takes a stored message as if somebody had repeated it: its signature and its expiry count, nothing else."""

    def __init__(self, store: OfferStore, catalog: Catalog, hear: Hear) -> None:
        self._store = store
        self._catalog = catalog
        self._hear = hear
        self._changed: set[PeerId] = set()
        self._something = trio.Event()

    async def load(self) -> None:
        """What an earlier run left, and is not over; the rest is forgotten with the first write."""
        try:
            stored = await self._store.load()
        except StorageError as error:
            log.warning("offers of an earlier run were not read: %s", error.message)
            return
        for signed in stored:
            try:
                node = self._hear(signed)
                if node is not None and not self._catalog.signed(node):
                    self._note(node)
            except AicnError as error:  # of another network, or of a version that had other limits
                log.debug("a stored offer: %s", error.message)
            await trio.lowlevel.checkpoint()

    async def run(self) -> None:
        """Write what changes, until cancelled."""
        self._catalog.on_change(self._note)
        try:
            while True:
                await self._something.wait()
                await trio.sleep(WRITE_S)
                await self._flush()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_WRITE_S):
                await self._flush()

    def _note(self, node: PeerId) -> None:
        self._changed.add(node)
        self._something.set()

    async def _flush(self) -> None:
        changed, self._changed = self._changed, set()
        self._something = trio.Event()
        kept = {node: signed for node in changed if (signed := self._catalog.signed(node))}
        gone = changed - kept.keys() - {self._catalog.own}
        if (
            self._catalog.own_signed and self._catalog.own in changed
        ):  # also when it said that it leaves: for its number
            kept[self._catalog.own] = self._catalog.own_signed
        try:
            await self._store.save(kept, gone)
        except StorageError as error:
            log.warning("offers were not written down: %s", error.message)
