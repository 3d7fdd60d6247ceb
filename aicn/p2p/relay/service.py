"""Relays as one node has them: the service for others if configured, and places with others when this node needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from multiaddr import Multiaddr

from aicn.config.schema import P2P
from aicn.p2p import addresses
from aicn.p2p.protocols import Protocols
from aicn.p2p.relay.client import RelayClient
from aicn.p2p.relay.hop import Hop
from aicn.p2p.relay.ledger import Limits
from aicn.p2p.relay.messages import HOP, STOP
from aicn.p2p.swarm import Swarm


class Relays:
    """Registers what it serves when it is made; `client.run` keeps the places."""

    def __init__(
        self,
        config: P2P,
        swarm: Swarm,
        protocols: Protocols,
        *,
        own: Callable[[], Sequence[Multiaddr]],
        direct: Callable[[], Sequence[Multiaddr]],
    ) -> None:
        self._mode = config.relay_client
        self._own = own  # the addresses of our interfaces, or announced: what peers see of us may lead nowhere
        self.public: bool | None = None  # whether others can dial this node; None: not known, its addresses decide
        self.client = RelayClient(
            swarm,
            [addresses.split_peer(text, field="p2p.relays") for text in config.relays],
            wanted=self._wanted,
        )
        swarm.dial_circuit = self.client.dial
        if self._mode != "off":
            protocols.serve_connection(STOP, self.client.serve_stop)
        self.hop: Hop | None = None
        if config.relay_service:
            self.hop = Hop(swarm, _limits(config), direct)
            protocols.serve_connection(HOP, self.hop.serve)

    def set_public(self, public: bool | None) -> None:
        """What is known of this node's reachability has changed."""
        self.public = public
        self.client.reconsider()

    def _wanted(self) -> bool:
        """Whether this node needs relays. One that is a relay itself is meant to be dialled."""
        if self._mode != "auto":
            return self._mode == "on"
        if self.public is None:
            return self.hop is None and not any(addresses.is_public(one) for one in self._own())
        return not self.public


def _limits(config: P2P) -> Limits:
    return Limits(
        reservations=config.relay_reservations,
        reservations_per_ip=config.relay_reservations_per_ip,
        circuits=config.relay_circuits,
        circuits_per_peer=config.relay_circuits_per_peer,
        circuit_s=config.relay_circuit_s,
        circuit_bytes=config.relay_circuit_bytes,
    )
