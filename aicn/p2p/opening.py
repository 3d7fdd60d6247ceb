"""Streams to peers for our own services."""

from __future__ import annotations

from functools import lru_cache

from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnError

from aicn.domain.ids import PeerId
from aicn.errors import Unreachable
from aicn.p2p.stream import Stream
from aicn.p2p.swarm import Swarm


async def open_stream(swarm: Swarm, peer: ID, protocol: str) -> Stream:
    """A stream to `peer`, dialled at its known addresses if it is not connected. UnknownNode, Unreachable, DeadlineExceeded."""
    connection = await swarm.connect(peer)
    try:
        return await connection.open_stream(protocol)
    except MuxedConnError as error:
        raise Unreachable(f"{peer}: {error}") from None


@lru_cache(maxsize=4096)
def id_of(peer: PeerId) -> ID:
    """The library's form of the id of a peer that is connected."""
    return ID.from_base58(peer)
