"""Ping (libp2p specs, ping): what a peer sends comes back. Our own round trips are measured by the muxer's pings."""

from __future__ import annotations

import trio

from aicn.errors import DeadlineExceeded
from aicn.p2p.stream import Stream

PROTOCOL = "/ipfs/ping/1.0.0"
IDLE_S = 60.0  # between two pings on one stream, as in go


async def serve(stream: Stream) -> None:
    """Echo until the peer ends the stream. The specification has 32 bytes per ping; where they part is the asker's business."""
    try:
        while True:
            with trio.fail_after(IDLE_S):
                data = await stream.receive_some()
                if not data:
                    return
                await stream.send_all(data)
    except trio.TooSlowError:
        raise DeadlineExceeded(f"no ping came in {IDLE_S:g} s") from None
