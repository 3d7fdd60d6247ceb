"""What nodes offer each other: their models, with the room they have."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind
from aicn.domain.nodes import Link

LIFE_S = 90.0  # from `issued` to `expires` of what this node says: two announcements in a row may be lost
LONGEST_LIFE_S = 120.0  # of what others say: what is known of a node that nobody can ask is never older
SKEW_S = 60.0  # by which the clocks of two nodes may differ; home machines without NTP are off by more than they think


class NodeType(IntFlag):
    """What a node is for the others (wire.md: `node_type` of the existing network's heartbeat)."""

    PUBLIC = 1  # runs the relay service
    DIRECTORY = 2  # collects offers
    MODEL = 4  # has at least one model


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model of a project of a node."""

    name: str
    kind: Kind | None  # None: unknown, since heartbeats of the existing network only name models
    slots: int = 0  # requests that run at once, over all endpoints; 0: the node did not say
    in_flight: int = 0  # requests that ran or waited when the offer was made
    context: int = 0  # tokens; 0: unknown
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OfferedProject:
    """A project of a node."""

    name: str
    models: tuple[OfferedModel, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """All that `node` offers, from `issued` to `expires`."""

    node: PeerId
    seq: int  # grows, also over restarts; of two offers of a node the higher one counts
    issued: float  # Unix time
    expires: float  # Unix time
    node_type: NodeType
    projects: tuple[OfferedProject, ...]
    protocols: tuple[str, ...] = ()
    leaving: bool = False
    legacy: bool = False  # heard as a heartbeat of the existing network; `seq` is its time in milliseconds


@dataclass(frozen=True, slots=True)
class Lost:
    """Somebody says that it cannot reach `node` any more, whose offer `seq` it held."""

    node: PeerId
    seq: int


@dataclass(frozen=True, slots=True)
class OffersAsked:
    """Which offers a node is asked for."""

    after: str = ""  # those of nodes whose ids sort behind it
    only: str = ""  # of this node; empty: of all


@dataclass(frozen=True, slots=True)
class OffersPage:
    """Some of the offers that a node holds, by node id."""

    signed: tuple[bytes, ...] = ()  # pubsub messages, as their senders signed them
    more_after: str = ""  # where to go on; empty: that was all


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model of the network, over all nodes that offer it."""

    id: str  # what clients call it
    project: str
    name: str
    kinds: tuple[Kind, ...]  # empty: no node has said
    nodes: int
    slots: int  # requests that run at once, as far as the nodes said
    in_flight: int  # requests that ran or waited when they said so
    context: int  # tokens, of the node that takes most; 0: unknown
    aliases: tuple[str, ...]
    since: int  # Unix time from which on this node could know of it: nobody knows when it was made


@dataclass(frozen=True, slots=True)
class Provider:
    """A node that offers a model, and how near it is."""

    node: PeerId
    model: OfferedModel
    link: Link
