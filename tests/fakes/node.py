"""A node whose services are scripted: what facades see, without a network, a database or a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import trio

from aicn.config.schema import Config
from aicn.domain.hardware import HostInfo
from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.nodes import Connection, Connectivity, Link, NodeInfo
from aicn.domain.offers import NodeType, Offer, OfferedProject, Provider
from aicn.domain.registration import Endpoint, Project
from aicn.domain.routing import Verdict
from aicn.errors import AicnError, InvalidRequest, NoNode, NotConnected, UnknownNode
from aicn.node import Node
from aicn.services.catalog import Catalog
from aicn.services.keys import Keys
from aicn.services.metrics import Metrics
from aicn.services.models import Models
from aicn.services.ports import Answer
from aicn.services.traces import Traces
from aicn.services.usage import Usage
from tests.fakes.hardware import EXAMPLE
from tests.fakes.stores import MemoryKeys, MemoryUsage

OWN = PeerId("16Uiu2HAm5cygUrKCBxtNSMKKvgdr1saPM6XWcgnPyTvK4sdrARGL")
OTHER = PeerId("16Uiu2HAmRTpigc7jAbsLndB2xDEBMAXLb887SBEFhfdJeEJNtqRM")


class FakePeers:
    """Knows itself and one connection; dials what ends in /p2p/."""

    def __init__(self) -> None:
        self.id = OWN
        self.dialled: list[str] = []
        self.open = [Connection(7, OTHER, "/ip4/122.99.183.54/tcp/6001", 0.208878448, "Inbound")]

    def info(self) -> NodeInfo:
        return NodeInfo(OWN, "aicn/0.0.1", "aicn/test", ("/ip4/127.0.0.1/tcp/6001",), ("/ipfs/ping/1.0.0",))

    async def connect(self, address: str) -> PeerId:
        if "/p2p/" not in address:
            raise InvalidRequest("node_addr: not a multiaddr that ends in /p2p/<id>")
        self.dialled.append(address)
        return OTHER

    def connections(self) -> Sequence[Connection]:
        return self.open


class FakeSwarm:
    """Is connected to OTHER until told to disconnect; the DHT has OTHER."""

    def __init__(self) -> None:
        self.disconnected: list[str] = []
        self.known: list[tuple[PeerId, list[str]]] = [(OWN, ["/ip4/127.0.0.1/tcp/6001"]), (OTHER, [])]
        self.met: list[PeerId] | AicnError = [OTHER]

    async def disconnect(self, address: str) -> None:
        if "/p2p/" not in address:
            raise InvalidRequest("node_addr: not a multiaddr that ends in /p2p/<id>")
        if self.disconnected:
            raise NotConnected("not connected")
        self.disconnected.append(address)

    async def known_addresses(self) -> Sequence[tuple[PeerId, Sequence[str]]]:
        return self.known

    async def rendezvous(self) -> Sequence[PeerId]:
        if isinstance(self.met, AicnError):
            raise self.met
        return self.met


class FakeTopics:
    """OTHER is subscribed to the network's topic."""

    def __init__(self, topic: str) -> None:
        self.members = {topic: [OTHER]}

    def subscribers(self, topic: str) -> Sequence[PeerId]:
        return self.members.get(topic, [])


class FakeInference:
    """`script(request)` gives the answer or raises."""

    def __init__(self) -> None:
        self.script: Callable[[InferenceRequest], Answer] = self._unknown
        self.requests: list[tuple[PeerId, InferenceRequest]] = []

    async def open(self, peer_id: PeerId, request: InferenceRequest) -> Answer:
        self.requests.append((peer_id, request))
        answer = self.script(request)
        answer.node = peer_id
        return answer

    def _unknown(self, request: InferenceRequest) -> Answer:
        raise UnknownNode("no script")


class FakeDispatch:
    """Finds OTHER, which answers as the script says."""

    def __init__(self, inference: FakeInference) -> None:
        self._inference = inference
        self.resumed = True  # the last request might have been

    async def open(self, request: InferenceRequest, *, resume: bool = True) -> Answer:
        self.resumed = resume
        return await self._inference.open(OTHER, request)

    def explain(self, project: str, model: str, kind: Kind) -> list[Verdict]:
        if kind is not Kind.CHAT:
            raise NoNode(f"no node offers model {model} of project {project}")
        return [
            Verdict(OTHER, 0, 0.25, "the only one"),
            Verdict(OWN, None, 1.0, "context of 8 tokens is too short"),
        ]


class FakeRegistration:
    """Registrations in memory."""

    def __init__(self) -> None:
        self.endpoints: dict[str, tuple[Endpoint, ...]] = {}

    async def register(self, project: str, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints[project] = tuple(endpoints)

    async def unregister(self, project: str, model: str | None = None) -> bool:
        return self.endpoints.pop(project, None) is not None

    def projects(self) -> Sequence[Project]:
        return [
            Project(name, tuple(endpoint.model for endpoint in endpoints)) for name, endpoints in self.endpoints.items()
        ]


class FakeWorker:
    """Every endpoint answers, unless a `failure` is set."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.probed: list[Endpoint] = []

    def load(self, project: str, model: str) -> tuple[int, int]:
        return (1, 0)

    async def probe(self, endpoints: Sequence[Endpoint]) -> None:
        self.probed.extend(endpoints)
        if self.failure is not None:
            raise self.failure


class FakeNodes:
    """Answers for itself only."""

    def __init__(self, registration: FakeRegistration) -> None:
        self.stopping = False
        self.host = EXAMPLE
        self.failure: Exception | None = None  # what every question raises
        self._registration = registration

    async def projects_of(self, node: PeerId) -> Sequence[Project]:
        self._know(node)
        return self._registration.projects()

    async def info_of(self, node: PeerId) -> NodeInfo:
        self._know(node)
        return FakePeers().info()

    async def host_info_of(self, node: PeerId) -> HostInfo:
        self._know(node)
        return self.host

    def _know(self, node: PeerId) -> None:
        if self.failure is not None:
            raise self.failure
        if node != OWN:
            raise UnknownNode(f"nobody knows peer {node}")


class FakeDirectory:
    """Offers that a test has put in; `failure`, when set, is what every question raises."""

    def __init__(self) -> None:
        self.offers: dict[str, dict[str, list[Provider]]] = {}  # project → model → nodes
        self.failure: Exception | None = None
        self.asked: list[tuple[str, str | None, int]] = []

    def projects(self) -> Sequence[str]:
        self._fail()
        return sorted(self.offers)

    def models(self, project: str) -> Sequence[str]:
        self._fail()
        return sorted(self.offers.get(project, {}))

    async def nearest(self, project: str, model: str | None, most: int) -> Sequence[Provider]:
        self._fail()
        self.asked.append((project, model, most))
        models = self.offers.get(project, {})
        return [one for name, found in models.items() if model in (None, name) for one in found][:most]

    def members(self) -> Sequence[PeerId]:
        return sorted((OWN, OTHER))

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class FakeNode:
    """The fakes by name, and `node` as facades get it."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.peers = FakePeers()
        self.swarm = FakeSwarm()
        self.topics = FakeTopics(self.config.p2p.topic)
        self.inference = FakeInference()
        self.dispatch = FakeDispatch(self.inference)
        self.registration = FakeRegistration()
        self.worker = FakeWorker()
        self.nodes = FakeNodes(self.registration)
        self.directory = FakeDirectory()
        self.keys = Keys(MemoryKeys())
        self.usage = Usage(MemoryUsage())
        self.metrics = Metrics(self.peers, self.registration.projects, self.worker.load, lambda: 1)
        self.traces = Traces()
        self.catalog = Catalog(OWN, lambda _: Link(Connectivity.CONNECTED, 0.01))

    def offer(self, *projects: OfferedProject, node: PeerId = OTHER) -> None:
        """What the models of `/v1` are: `node` offers these."""
        now = time.time()
        assert self.catalog.take(Offer(node, time.time_ns(), now, now + 60, NodeType.MODEL, projects))

    def node(self) -> Node:
        """Built inside the event loop, whose clock it notes."""
        return Node(
            config=self.config,
            peers=cast("Any", self.peers),
            swarm=cast("Any", self.swarm),
            topics=cast("Any", self.topics),
            registration=cast("Any", self.registration),
            worker=cast("Any", self.worker),
            inference=cast("Any", self.inference),
            dispatch=cast("Any", self.dispatch),
            nodes=cast("Any", self.nodes),
            directory=cast("Any", self.directory),
            models=Models(self.catalog, since=1_700_000_000.5),
            keys=self.keys,
            usage=self.usage,
            metrics=self.metrics,
            traces=self.traces,
            legacy=cast("Any", None),
            started_at=trio.current_time(),
        )
