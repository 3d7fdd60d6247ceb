"""Requests that peers have running here: what is the same for every protocol over which they come."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from aicn.domain.ids import PeerId
from aicn.errors import AicnError, AnswerBroken, DeadlineExceeded, InternalError
from aicn.services.arrivals import Arrivals
from aicn.services.ports import PeerStream

log = logging.getLogger(__name__)

_RECEIVE_S = 30.0  # a request must have arrived whole by then: 32 MiB over a 10 Mbit/s line
_RECEIVING_BYTES = 256 * 2**20  # of requests that are not complete yet, over all peers: eight of the largest size
_PEER_SHARE = 4  # a peer may hold the fourth part of that, or one request of the largest size
_TAKE_S = 75.0  # for the requester to take a piece: longer than a gateway waits for its own client; else a place is lost for ever
_TELL_S = 5.0  # to get a failure to a peer whose window may be full

Tell = Callable[[AicnError], Awaitable[None]]  # puts a failure on the stream


class Exchanges:
    """Bounded while their requests arrive, cancelled by resets, waited for at the end."""

    def __init__(self, *, request_bytes: int) -> None:
        self._arrivals = Arrivals(total=_RECEIVING_BYTES, per_peer=max(_RECEIVING_BYTES // _PEER_SHARE, request_bytes))
        self._active = 0
        self._idle = trio.Event()

    async def serve(self, stream: PeerStream, exchange: Callable[[], Awaitable[None]], tell: Tell) -> None:
        """Run `exchange`, or as much of it as there is time for until the requester resets `stream`; `tell` of its failure."""
        self._active += 1
        try:
            with trio.CancelScope() as scope:
                stream.cancel_on_reset(scope)
                try:
                    await exchange()
                except AicnError as error:
                    await _tell(stream, tell, error)
                except Exception:
                    log.exception("a request of peer %s failed", stream.peer)
                    await _tell(stream, tell, InternalError("the worker failed; its log says why"))
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()

    @contextmanager
    def arriving(self, peer: PeerId) -> Iterator[Callable[[int], None]]:
        """A block in which a request arrives whole, or DeadlineExceeded; it calls what it is given with the size of each piece (Busy)."""
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            held += size
            self._arrivals.add(peer, size)

        try:
            with trio.CancelScope(deadline=trio.current_time() + _RECEIVE_S) as scope:
                yield hold
        finally:
            self._arrivals.release(peer, held)
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"the request did not arrive within {_RECEIVE_S:g} s")

    async def drain(self) -> None:
        """Returns when none is running."""
        while self._active:
            self._idle = trio.Event()
            await self._idle.wait()


async def deliver(stream: PeerStream, data: bytes) -> None:
    """Hand a part of the answer to the requester; DeadlineExceeded, and a reset, when it does not take it."""
    with trio.CancelScope(deadline=trio.current_time() + _TAKE_S) as scope:
        await stream.send_all(data)
    if scope.cancelled_caught:
        stream.reset()  # a part of `data` may have left: nothing that makes sense can follow
        raise DeadlineExceeded(f"the requester takes nothing for {_TAKE_S:g} s")


async def _tell(stream: PeerStream, tell: Tell, error: AicnError) -> None:
    with trio.move_on_after(_TELL_S):
        try:
            await tell(error)
        except AnswerBroken:
            log.debug("peer %s has gone and is not told: %s", stream.peer, error.message)
        return
    stream.reset()
