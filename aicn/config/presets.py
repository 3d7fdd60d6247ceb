"""The three roles that `aicn init` knows, as departures from the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from aicn.config.schema import P2P, Config, LocalModel


@dataclass(frozen=True, slots=True)
class Role:
    """What a node is for, and the configuration that fits."""

    doc: str
    config: Config


ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "input": Role(
            "takes questions over HTTP and passes them on; asks the DHT, serves it not",
            Config(p2p=P2P(dht_mode="client")),
        ),
        "worker": Role(
            "answers questions with the model endpoints registered on it, or its own model",
            Config(),
        ),
        "public": Role(
            "has a public address, serves the DHT, relays for those who have none, and is what others join through",
            Config(p2p=P2P(dht_mode="server", relay_service=True)),
        ),
    }
)


def preset(
    role: str, *, bootstrap: tuple[str, ...] = (), psk: str = "", psk_file: str = "", local_model: bool = False
) -> Config:
    """The configuration of a new node; `role` is one of ROLES."""
    config = ROLES[role].config
    return replace(
        config,
        p2p=replace(config.p2p, bootstrap=bootstrap, psk=psk, psk_file=psk_file),
        local_model=LocalModel(enabled=local_model),
    )
