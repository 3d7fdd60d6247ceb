"""Corrections of py-libp2p 0.8.1 that must be made in place, one file per defect.

Each file says which upstream line is wrong, what goes wrong, and which test fails without it. What could be corrected by a class of
ours instead is not here: see swarm.py, connection.py, listener.py, upgrade.py, psk.py, muxer.py, protocols.py, peerbook.py,
identify.py, ping.py, dht/ and pubsub/ in aicn/p2p.
"""

from __future__ import annotations

import logging

from libp2p.peer.peerstore import PeerStore

from aicn.p2p.fixes import noise, rsa, tcp
from aicn.p2p.fixes.patch import expect


def apply() -> None:
    """Make all corrections; may be called again. StartupError when this libp2p is not the one they are made for."""
    expect(PeerStore, "add_addrs", "addrs", "_enforce_peer_limit", "clear_peerdata")
    tcp.apply()
    noise.apply()
    rsa.apply()
    # The library logs what any stranger can cause at WARNING and ERROR: a flood. What matters is logged by our own code.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
