"""Node: the running services by name. It is all that facades see."""

from __future__ import annotations

from dataclasses import dataclass

from aicn.config.schema import Config
from aicn.services.directory import Directory
from aicn.services.dispatch import Dispatch
from aicn.services.inference import Inference
from aicn.services.keys import Keys
from aicn.services.legacy.membership import Membership
from aicn.services.metrics import Metrics
from aicn.services.models import Models
from aicn.services.nodes import Nodes
from aicn.services.ports import Peers, SwarmControl, Topics
from aicn.services.registration import Registration
from aicn.services.traces import Traces
from aicn.services.usage import Usage
from aicn.services.worker import Worker


@dataclass(frozen=True, slots=True)
class Node:
    """A running node."""

    config: Config
    peers: Peers
    swarm: SwarmControl
    topics: Topics
    registration: Registration
    worker: Worker
    inference: Inference
    dispatch: Dispatch
    nodes: Nodes
    directory: Directory
    models: Models
    metrics: Metrics
    traces: Traces
    keys: Keys
    usage: Usage
    legacy: Membership
    started_at: float  # trio.current_time()
