"""The DHT runs under our prefix.

kad_dht/kad_dht.py:269 only stores `protocol_prefix`; the protocol id is a constant that five modules hold, hence one prefix per
process. Test: tests/flow/test_host_network.py::test_the_dht_has_the_configured_prefix.
"""

from __future__ import annotations

from libp2p.custom_types import TProtocol
from libp2p.kad_dht import common, kad_dht, peer_routing, provider_store, value_store

from aicn.p2p.fixes.patch import replace


def apply(prefix: str) -> None:
    protocol = TProtocol(f"{prefix}/kad/1.0.0")
    for module in (common, kad_dht, peer_routing, provider_store, value_store):
        replace(module, "PROTOCOL_ID", protocol)
