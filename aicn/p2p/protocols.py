"""The inbound side: which protocol a new stream is for, and a fence around whoever serves it.

In place of BasicHost._swarm_stream_handler (host/basic_host.py:1480), which lets a handler's exception end the connection, or the
whole host (tools/anyio_service/trio_manager.py:375), and negotiates byte by byte. A stream whose first bytes came with it, as ours
do, is with its handler after one pass of the scheduler.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamError

from aicn.errors import AicnError, DeadlineExceeded, ProtocolViolation
from aicn.p2p.connection import Connection
from aicn.p2p.multistream import Responder
from aicn.p2p.muxed_stream import YamuxStream
from aicn.p2p.stream import Stream

log = logging.getLogger(__name__)

Handler = Callable[[Stream], Awaitable[None]]
ConnectionHandler = Callable[[Connection, Stream], Awaitable[None]]

NEGOTIATION_S = 10.0  # for a peer to name a protocol after it opened a stream
_MOST_NEGOTIATING = 1024  # streams of one connection that have not said what they want; a go peer opens 256 ahead


class Refused(ProtocolViolation):
    """The peer wants a protocol that is not served, and did not go on to another; it was told so."""


class Protocols:
    """The protocols that this node serves."""

    def __init__(self) -> None:
        self._handlers: dict[str, ConnectionHandler] = {}
        self.changed: Callable[[], None] = lambda: None  # told when `names` are others than before

    def serve(self, protocol: str, handler: Handler) -> None:
        """Serve a protocol."""
        self.serve_connection(protocol, lambda _, stream: handler(stream))

    def serve_connection(self, protocol: str, handler: ConnectionHandler) -> None:
        """Serve a protocol whose handler wants to know on which connection the stream came."""
        self._handlers[protocol] = handler
        self.changed()

    def withdraw(self, protocol: str) -> None:
        """Serve it no longer; streams at work go on. Does nothing when it is not served."""
        self._handlers.pop(protocol, None)
        self.changed()

    @property
    def names(self) -> tuple[str, ...]:
        """All protocols that are served, sorted."""
        return tuple(sorted(self._handlers))

    async def handle(self, connection: Connection, stream: YamuxStream) -> None:
        """Serve one inbound stream to its end. Raises nothing: whatever happens costs the peer this stream at most."""
        try:
            protocol, agreement = await self._negotiate(connection, stream)
            served = Stream(stream, connection.peer_id, prefix=agreement)
            await self._handler(protocol)(connection, served)
            await served.finish()
        except Refused:
            stream.finish()  # a reset could overtake our "na", and the peer that guessed would not learn why
        except (AicnError, MuxedStreamError) as error:
            log.debug("stream of %s: %s", connection.peer, error)
            stream.abort()
        except Exception:
            log.exception("a stream of %s broke its handler", connection.peer)
            stream.abort()
        except BaseException:
            stream.abort()
            raise

    def _handler(self, protocol: str) -> ConnectionHandler:
        handler = self._handlers.get(protocol)
        if handler is None:
            raise ProtocolViolation(f"{protocol} is no longer served")
        return handler

    async def _negotiate(self, connection: Connection, stream: YamuxStream) -> tuple[str, bytes]:
        """The protocol agreed on, and the bytes of our agreement, which are still to be sent."""
        if connection.negotiating >= _MOST_NEGOTIATING:
            raise ProtocolViolation("too many streams that do not say what they want")
        responder = Responder(self._handlers)
        connection.negotiating += 1
        try:
            with trio.fail_after(NEGOTIATION_S):
                while True:
                    answer = responder.receive(await self._more(stream))
                    if responder.protocol is not None:
                        break
                    if answer:
                        await stream.send_all(answer)
        except trio.TooSlowError:
            raise DeadlineExceeded("no protocol was named") from None
        except ProtocolViolation as error:
            raise Refused(error.message) if responder.refused else error from None
        finally:
            connection.negotiating -= 1
        if responder.rest:
            stream.unreceive(responder.rest)
        return responder.protocol, answer

    @staticmethod
    async def _more(stream: YamuxStream) -> bytes:
        data = await stream.receive_some()
        if not data:
            raise ProtocolViolation("the stream ended before a protocol was named")
        return data
