"""Reaching a peer: all its addresses, one after the other without waiting long for any, the first that works wins.

Upstream (network/swarm.py:886, :936, :950) tries the first TCP address only, always waits 250 ms, and then calls the peer
unreachable for a minute.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.errors import AicnError, DeadlineExceeded, UnknownNode, Unreachable
from aicn.p2p.connection import Connection

STAGGER_S = 0.25  # head start of an address over the next one (RFC 8305 5: connection attempt delay)
_ADDRESS_S = 10.0  # longest time for one address: connect and handshakes
_MOST_ADDRESSES = 16  # tried per dial: what a hostile record may make us connect to

Attempt = Callable[[ID, Multiaddr], Awaitable[Connection]]


@dataclass
class _Dial:
    """One dial under way, shared by all who ask for the peer."""

    lookup: bool  # ask the DHT when the known addresses do not do
    done: trio.Event = field(default_factory=trio.Event)
    tried: set[Multiaddr] = field(default_factory=set)
    connection: Connection | None = None
    error: AicnError | None = None
    failures: list[str] = field(default_factory=list)


class Dialer:
    """Dials peers, at most one dial per peer at a time."""

    def __init__(
        self,
        attempt: Attempt,
        candidates: Callable[[ID], Sequence[Multiaddr]],
        find: Callable[[ID], Awaitable[None]],
        *,
        deadline_s: float,
    ) -> None:
        self._attempt = attempt  # connects to one address; an AicnError when that fails
        self._candidates = candidates  # the known addresses of a peer, the best first
        self._find = find  # looks for further addresses; `candidates` knows them afterwards
        self._deadline_s = deadline_s
        self._running: dict[ID, _Dial] = {}

    async def dial(self, peer: ID, nursery: trio.Nursery, *, lookup: bool) -> Connection:
        """A new connection to `peer`. UnknownNode: no address; Unreachable; DeadlineExceeded.

        The dial runs in `nursery`, so that one who gives up does not end it for others.
        """
        while True:
            dial = self._running.get(peer)
            joined = dial is not None
            if dial is None:
                dial = self._running[peer] = _Dial(lookup)
                nursery.start_soon(self._run, peer, dial)
            await dial.done.wait()
            if dial.connection is not None:
                return dial.connection
            if joined and (lookup > dial.lookup or not dial.tried.issuperset(self._candidates(peer))):
                continue  # it failed without what we know or may ask
            assert dial.error is not None, "a dial ends with a connection or an error"
            raise type(dial.error)(dial.error.message)  # one each: a shared exception would collect tracebacks

    async def _run(self, peer: ID, dial: _Dial) -> None:
        try:
            with trio.move_on_after(self._deadline_s) as deadline:
                await self._try_all(peer, dial)
                if dial.connection is None and dial.lookup:
                    await self._find(peer)
                    await self._try_all(peer, dial)
            if dial.connection is None:
                dial.error = self._explain(peer, dial, late=deadline.cancelled_caught)
        finally:
            dial.error = dial.error or Unreachable(f"{peer}: the node is shutting down")
            del self._running[peer]
            dial.done.set()

    async def _try_all(self, peer: ID, dial: _Dial) -> None:
        async with trio.open_nursery() as nursery:
            while len(dial.tried) < _MOST_ADDRESSES:
                address = next((one for one in self._candidates(peer) if one not in dial.tried), None)
                if address is None:
                    return
                dial.tried.add(address)
                failed = trio.Event()
                nursery.start_soon(self._try, peer, address, dial, nursery.cancel_scope, failed)
                with trio.move_on_after(STAGGER_S):
                    await failed.wait()

    async def _try(
        self, peer: ID, address: Multiaddr, dial: _Dial, others: trio.CancelScope, failed: trio.Event
    ) -> None:
        try:
            with trio.fail_after(_ADDRESS_S):
                connection = await self._attempt(peer, address)
        except trio.TooSlowError:
            dial.failures.append(f"{address}: no answer")
        except AicnError as error:
            dial.failures.append(f"{address}: {error.message}")
        else:
            dial.connection = dial.connection or connection
            others.cancel()
        failed.set()

    @staticmethod
    def _explain(peer: ID, dial: _Dial, *, late: bool) -> AicnError:
        if not dial.tried:
            return UnknownNode(f"{peer}: no address is known")
        reasons = "; ".join(dial.failures[:4]) or "no answer"
        return (DeadlineExceeded if late else Unreachable)(f"{peer} cannot be reached: {reasons}")
