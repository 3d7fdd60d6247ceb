"""Reaching a peer: all its addresses, one after the other without waiting long for any, the first that works wins.

Upstream (network/swarm.py:886, :936, :950) tries the first TCP address only, always waits 250 ms, and then calls the peer
unreachable for a minute.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.errors import AicnError, DeadlineExceeded, UnknownNode, Unreachable
from aicn.p2p import names
from aicn.p2p.backoff import Backoff
from aicn.p2p.connection import Connection

STAGGER_S = 0.25  # head start of an address over the next one (RFC 8305 5: connection attempt delay)
_ADDRESS_S = 10.0  # longest time for one address: connect and handshakes
_MOST_ADDRESSES = 16  # tried per dial: what a hostile record may make us connect to
_MOST_ATTEMPTS = 128  # at once, for all peers together: each holds a file descriptor and a handshake's work

Attempt = Callable[[ID, Multiaddr], Awaitable[Connection]]


@dataclass
class _Dial:
    """One dial under way, shared by all who ask for the peer."""

    lookup: bool  # ask the DHT when the known addresses do not do
    force: bool  # also try what has failed a moment ago
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
        self._attempts = trio.CapacityLimiter(_MOST_ATTEMPTS)
        self.backoff = Backoff()
        self.tell: Callable[[ID, Multiaddr, bool], None] = lambda *_: None  # told how each address did
        self.tell_failed: Callable[[ID], None] = lambda _: None  # told of each dial that came to nothing

    async def dial(self, peer: ID, nursery: trio.Nursery, *, lookup: bool, force: bool = False) -> Connection:
        """A new connection to `peer`. UnknownNode: no address; Unreachable; DeadlineExceeded.

        The dial runs in `nursery`, so that one who gives up does not end it for others. Addresses that have failed a moment ago
        are left out, and Unreachable says so at once when there are no others, unless `force`.
        """
        while True:
            dial = self._running.get(peer)
            joined = dial is not None
            if dial is None:
                dial = self._running[peer] = _Dial(lookup, force)
                nursery.start_soon(self._run, peer, dial)
            await dial.done.wait()
            if dial.connection is not None:
                return dial.connection
            if joined and (lookup > dial.lookup or not dial.tried.issuperset(self._candidates(peer))):
                continue  # it failed without what we know or may ask
            assert dial.error is not None, "a dial ends with a connection or an error"
            # one each: a shared exception would collect tracebacks
            raise type(dial.error)(dial.error.message, retry_after=dial.error.retry_after)

    async def _run(self, peer: ID, dial: _Dial) -> None:
        try:
            with trio.move_on_after(self._deadline_s) as deadline:
                await self._try_all(peer, dial)
                if dial.connection is None and dial.lookup and self.backoff.pause(peer, None) is None:
                    await self._look_up(peer, dial)
            if dial.connection is None:
                dial.error = self._explain(peer, dial, late=deadline.cancelled_caught)
                self.tell_failed(peer)
        finally:
            dial.error = dial.error or Unreachable(f"{peer}: the node is shutting down")
            del self._running[peer]
            dial.done.set()

    async def _look_up(self, peer: ID, dial: _Dial) -> None:
        started = trio.current_time()
        try:
            await self._find(peer)
            await self._try_all(peer, dial)
        finally:
            if dial.connection is None and self._candidates(peer):
                # A peer that nobody knows may be looked for as often as one likes: it may be about to join.
                self.backoff.failed(peer, None, took_s=trio.current_time() - started)

    async def _try_all(self, peer: ID, dial: _Dial) -> None:
        async def attempt(address: Multiaddr) -> bool:
            return await self._try(peer, address, dial)

        await race(attempt, self._untried(peer, dial))

    def _untried(self, peer: ID, dial: _Dial) -> Iterator[Multiaddr]:
        """The addresses to try, the best first; those become known meanwhile are among them."""
        while len(dial.tried) < _MOST_ADDRESSES:
            for address in self._candidates(peer):
                if address not in dial.tried and (dial.force or self.backoff.pause(peer, address) is None):
                    break
            else:
                return
            dial.tried.add(address)
            yield address

    async def _try(self, peer: ID, address: Multiaddr, dial: _Dial) -> bool:
        """Whether `peer` was reached at `address`."""
        async with self._attempts:
            started = trio.current_time()
            reached, reason = False, "no answer"
            try:
                with trio.move_on_after(_ADDRESS_S):
                    connection = await self._connect(peer, address)
                    dial.connection, reached = dial.connection or connection, True
            except AicnError as error:
                reason = error.message
            finally:
                if dial.connection is None:  # also when the time for the whole dial is over
                    self.backoff.failed(peer, address, took_s=trio.current_time() - started, reason=reason)
        if reached:
            self.backoff.forget(peer)
        else:
            dial.failures.append(f"{address}: {reason}")
        self.tell(peer, address, reached)
        return reached

    async def _connect(self, peer: ID, address: Multiaddr) -> Connection:
        """Connect to an address, or to one of those that its name stands for. Unreachable and others."""
        if not names.is_name(address):
            return await self._attempt(peer, address)
        connections: list[Connection] = []
        failures: list[str] = []

        async def attempt(resolved: Multiaddr) -> bool:
            try:
                connections.append(await self._attempt(peer, resolved))
            except AicnError as error:
                failures.append(f"{resolved}: {error.message}")
            return bool(connections)

        await race(attempt, await names.resolve(address))
        if not connections:
            raise Unreachable("; ".join(failures) or "the name has no address")
        return connections[0]

    def _explain(self, peer: ID, dial: _Dial, *, late: bool) -> AicnError:
        if dial.tried:
            reasons = "; ".join(dial.failures[:4]) or "no answer"
            return (DeadlineExceeded if late else Unreachable)(f"{peer} cannot be reached: {reasons}")
        pauses = {address: self.backoff.pause(peer, address) for address in self._candidates(peer)}
        waiting = {address: pause for address, pause in pauses.items() if pause is not None}
        if not waiting:
            return UnknownNode(f"{peer}: no address is known")
        wait_s = max(1, math.ceil(min(pause.until for pause in waiting.values()) - trio.current_time()))
        reasons = "; ".join(f"{address}: {pause.reason}" for address, pause in list(waiting.items())[:4])
        return Unreachable(
            f"{peer} could not be reached a moment ago, tried again in {wait_s} s: {reasons}", retry_after=wait_s
        )


async def race(attempt: Callable[[Multiaddr], Awaitable[bool]], candidates: Iterable[Multiaddr]) -> None:
    """Attempt one after the other, the next one as soon as one fails or STAGGER_S have passed, until one succeeds."""

    async def run(address: Multiaddr, over: trio.Event) -> None:
        if await attempt(address):
            nursery.cancel_scope.cancel()
        over.set()

    async with trio.open_nursery() as nursery:
        for address in candidates:
            over = trio.Event()
            nursery.start_soon(run, address, over)
            with trio.move_on_after(STAGGER_S):
                await over.wait()
