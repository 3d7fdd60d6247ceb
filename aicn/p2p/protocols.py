"""The inbound side: which protocol a new stream is for, and a fence around whoever serves it.

In place of BasicHost._swarm_stream_handler (host/basic_host.py:1480), which lets a handler's exception end the connection, or the
whole host (tools/anyio_service/trio_manager.py:375), and negotiates byte by byte. A stream whose first bytes came with it, as ours
do, is with its handler after one pass of the scheduler.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Container
from typing import cast

import trio
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.protocol_muxer.multiselect import Multiselect
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
    """The protocols that this node serves: ours, and those of the library's own services."""

    def __init__(self) -> None:
        self._ours: dict[str, ConnectionHandler] = {}
        self.changed: Callable[[], None] = lambda: None  # told when `names` are others than before
        self._library = Multiselect()

    def attach(self, library: Multiselect) -> None:
        """Serve what the library's services register there; ours are listed there for identify."""
        self._library = library

    def serve(self, protocol: str, handler: Handler) -> None:
        """Serve one of our own protocols."""
        self.serve_connection(protocol, lambda _, stream: handler(stream))

    def serve_connection(self, protocol: str, handler: ConnectionHandler) -> None:
        """Serve a protocol whose handler wants to know on which connection the stream came."""
        self._ours[protocol] = handler
        self._library.add_handler(TProtocol(protocol), None)
        self.changed()

    def withdraw(self, protocol: str) -> None:
        """Serve it no longer; streams at work go on. Does nothing when it is not served."""
        self._ours.pop(protocol, None)
        self._library.remove_handler(TProtocol(protocol))
        self.changed()

    @property
    def names(self) -> tuple[str, ...]:
        """All protocols that are served, sorted."""
        return tuple(sorted(str(name) for name in self._library.get_protocols() if name is not None))

    async def handle(self, connection: Connection, stream: YamuxStream) -> None:
        """Serve one inbound stream to its end. Raises nothing: whatever happens costs the peer this stream at most."""
        try:
            protocol, agreement = await self._negotiate(connection, stream)
            ours = self._ours.get(protocol)
            if ours is not None:
                served = Stream(stream, connection.peer_id, prefix=agreement)
                await ours(connection, served)
                await served.finish()
            else:
                await stream.send_all(agreement)
                await self._handle_in_library(connection, stream, protocol)
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

    async def _negotiate(self, connection: Connection, stream: YamuxStream) -> tuple[str, bytes]:
        """The protocol agreed on, and the bytes of our agreement, which are still to be sent."""
        if connection.negotiating >= _MOST_NEGOTIATING:
            raise ProtocolViolation("too many streams that do not say what they want")
        responder = Responder(cast(Container[str], self._library.handlers))
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

    async def _handle_in_library(self, connection: Connection, stream: YamuxStream, protocol: str) -> None:
        """Run one of the library's handlers. They end their streams themselves, and let out any exception on junk."""
        handler: StreamHandlerFn | None = self._library.handlers.get(TProtocol(protocol))
        if handler is None:
            raise ProtocolViolation(f"{protocol} is no longer served")
        wrapped = await connection.net_stream(stream)
        wrapped.set_protocol(TProtocol(protocol))
        try:
            await handler(wrapped)
        except Exception as error:  # noqa: BLE001 - each has its own on junk
            log.debug("%s with %s ended: %r", protocol, connection.peer, error)
            stream.abort()
        finally:
            connection.remove_stream(wrapped)
