"""The composition root: the whole wiring of a node.

serve
 ├─ signals                         the first one stops the node in order, a second one at once
 └─ open_node                       database → host → endpoints → directory → membership; closed in reverse
     ├─ local model                 the child process, if configured
     └─ HTTP gateway                ends first: running requests get their grace
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from aicn import __version__, logs
from aicn.backends.fetcher import ImageFetcher
from aicn.backends.ipfs import IpfsStore
from aicn.backends.openai_http import open_endpoints
from aicn.backends.peer_http import PeerHttp
from aicn.config.load import notify_socket
from aicn.config.schema import Config, Limits
from aicn.domain.ids import PeerId
from aicn.domain.keys import Key, Scope
from aicn.domain.offers import NodeType
from aicn.domain.registration import Endpoint
from aicn.errors import AicnError
from aicn.gateway import server
from aicn.gateway.app import create_app
from aicn.hardware.source import open_machine
from aicn.node import Node
from aicn.p2p import identity
from aicn.p2p.host import Host, open_host
from aicn.p2p.keyring import Keyring
from aicn.runtime.local_model import LocalModelServer
from aicn.services.announcer import Announcer, Offered
from aicn.services.catalog import Catalog
from aicn.services.directory import Directory, open_directory
from aicn.services.dispatch import Dispatch, open_dispatch
from aicn.services.images import Images
from aicn.services.inference import Inference
from aicn.services.keys import Keys
from aicn.services.legacy.answering import Answering
from aicn.services.legacy.asking import Asking
from aicn.services.legacy.conversation import Conversation
from aicn.services.legacy.dialect import Dialects
from aicn.services.legacy.heartbeats import Heartbeats
from aicn.services.legacy.membership import open_membership
from aicn.services.legacy.neighbours import Neighbours
from aicn.services.legacy.proxy import ProxyRequester, ProxyWorker
from aicn.services.metrics import Metrics
from aicn.services.models import Models
from aicn.services.nodes import Nodes
from aicn.services.registration import Registration
from aicn.services.routing import Router
from aicn.services.traces import Traces
from aicn.services.usage import Usage, open_usage
from aicn.services.worker import Worker
from aicn.storage.addresses import Addresses
from aicn.storage.database import open_database
from aicn.storage.keys import Keys as StoredKeys
from aicn.storage.offers import Offers
from aicn.storage.registrations import Registrations
from aicn.storage.usage import Usage as StoredUsage
from aicn.wire import control, inference, offers
from aicn.wire.legacy import chat_proxy

log = logging.getLogger(__name__)

_COLLECT_AFTER = 20_000  # new objects between garbage collections: the default of 700 costs a pause every few requests


def run(config: Config) -> int:
    """Run a node until a signal; the exit code. AicnError when it cannot start."""
    logs.set_up(config.logging)
    gc.set_threshold(_COLLECT_AFTER)
    _raise_file_limit()
    try:
        trio.run(partial(serve, config, ready=partial(announce, config)))
    except* AicnError as group:
        raise _first(group) from None
    return 0


def new_identity() -> tuple[str, str]:
    """A new private key as the text of a key file, and its peer id."""
    text = identity.generate_key()
    return text, identity.peer_id_of(identity.parse_key(text))


def identity_in(file: Path) -> tuple[str, str]:
    """The private key in `file`, also one of the Go program, in the same form. StartupError."""
    key = identity.load_key(file)
    return identity.key_text(key), identity.peer_id_of(key)


def identity_of(text: str) -> tuple[str, str]:
    """The private key that `text` holds, in the same form; ValueError, which does not repeat it."""
    key = identity.parse_key(text)
    return identity.key_text(key), identity.peer_id_of(key)


async def store_registrations(directory: Path, endpoints: Sequence[Endpoint]) -> None:
    """Register `endpoints` in the data directory of a node that does not run. InvalidRequest: too many; StartupError, StorageError."""
    async with open_database(directory) as database:
        registration = Registration(Registrations(database))
        await registration.load()
        for project in dict.fromkeys(endpoint.project for endpoint in endpoints):
            await registration.register(project, [endpoint for endpoint in endpoints if endpoint.project == project])


async def store_key(directory: Path, name: str, scope: Scope) -> tuple[Key, str]:
    """A new API key in the data directory of a node that does not run, and its secret. InvalidRequest, StartupError, StorageError."""
    async with open_database(directory) as database:
        keys = Keys(StoredKeys(database))
        await keys.load()
        return await keys.create(name, scope)


@asynccontextmanager
async def open_node(config: Config) -> AsyncIterator[Node]:
    """A running node without facades. StartupError."""
    key = identity.load_key(config.identity.key_file)
    limits = _limits(config)
    async with (
        open_database(config.storage.dir) as database,
        open_machine(config.hardware) as machine,
        open_host(config.p2p, key, agent_version=f"aicn/{__version__}", address_book=Addresses(database)) as host,
        open_endpoints(limits) as endpoints,
    ):
        registration = Registration(Registrations(database))
        await registration.load()
        keys, usage = Keys(StoredKeys(database)), Usage(StoredUsage(database))
        await keys.load()
        worker = Worker(
            registration,
            Images(
                endpoints,
                ImageFetcher(config.images, connect_s=limits.connect_s),
                IpfsStore(config.ipfs),
                ipfs=config.ipfs,
                limits=limits,
            ),
            limits,
            request_bytes=config.http.body_bytes,
            wallet_required=config.wallet.required,
        )
        conversation = Conversation(host.id, host.topics, Keyring(key), topic=config.p2p.topic)
        catalog = Catalog(host.id, host.links.link)
        asking = _asking(config, host, conversation, catalog) if config.legacy.enabled else None
        metrics, traces = Metrics(host, registration.projects, worker.load, lambda: len(catalog.nodes())), Traces()
        nodes = Nodes(host, registration, machine, share_host_info=config.hardware.share, legacy=asking)
        host.serve(inference.PROTOCOL, worker.serve)
        host.serve(control.PROTOCOL, nodes.serve)
        if config.legacy.enabled:
            host.serve(chat_proxy.PROTOCOL, ProxyWorker(worker, limits, body_bytes=config.http.body_bytes).serve)
        directory = _directory(config, host, nodes, Offered(registration, worker), catalog)
        registration.on_change(directory.announcer.changed)
        requests = Inference(host, worker, limits, legacy=asking)
        answering = Answering(host, nodes, registration, worker, limits)
        neighbours, heartbeats = _presence(config, host, conversation, directory, registration)
        async with (
            open_directory(directory, nodes, host.links, host.topics, Offers(database)),
            open_membership(
                conversation, answering, neighbours, heartbeats, enabled=config.legacy.enabled
            ) as membership,
            open_dispatch(
                directory.catalog,
                requests,
                Router(host.id, limits),
                own=host.id,
                links=host.links,
                limits=limits,
                routing=config.routing,
            ) as dispatch,
            open_usage(usage),
        ):
            _observe(worker, dispatch, metrics, traces)
            worker.serving.on_served(usage.served)
            yield Node(
                config=config,
                peers=host,
                swarm=host,
                topics=host.topics,
                registration=registration,
                worker=worker,
                inference=requests,
                dispatch=dispatch,
                nodes=nodes,
                directory=directory,
                models=Models(directory.catalog, since=time.time()),
                metrics=metrics,
                traces=traces,
                keys=keys,
                usage=usage,
                legacy=membership,
                started_at=trio.current_time(),
            )


def _observe(worker: Worker, dispatch: Dispatch, metrics: Metrics, traces: Traces) -> None:
    """Tell them what becomes of requests; the gateway tells of its own itself."""
    worker.serving.on_served(metrics.served)
    worker.serving.on_served(traces.served)
    dispatch.on_finished(metrics.traced)
    dispatch.on_finished(traces.traced)


def _asking(config: Config, host: Host, conversation: Conversation, catalog: Catalog) -> Asking:
    def heard(node: PeerId) -> bool:
        offer = catalog.offer(node)
        return (offer is not None and offer.legacy) or node in host.topics.subscribers(config.p2p.topic)

    proxy = ProxyRequester(host, PeerHttp(_limits(config)))
    return Asking(conversation, Dialects(host, host.links, heard), host.links, proxy.open)


def _presence(
    config: Config, host: Host, conversation: Conversation, directory: Directory, registration: Registration
) -> tuple[Neighbours, Heartbeats]:
    """What the existing network's nodes offer, and what they are told that this one does."""
    neighbours = Neighbours(
        conversation,
        host.links,
        host.topics,
        directory.catalog,
        topic=config.p2p.topic,
        keeps=config.directory.enabled,
    )
    heartbeats = Heartbeats(
        conversation,
        registration.projects,
        neighbours.any,
        neighbours.members,
        node_type=_node_type(config),
        every_s=config.legacy.heartbeat_s,
    )
    neighbours.on_met(heartbeats.met)
    neighbours.on_first(heartbeats.heard_of_first)
    if config.legacy.enabled:
        registration.on_change(heartbeats.changed)
        directory.hear_heartbeats(neighbours.repeated, heartbeats.leave)
    return neighbours, heartbeats


def _node_type(config: Config) -> NodeType:
    """What this node is for others, less whether it has models."""
    relay = NodeType.PUBLIC if config.p2p.relay_service else NodeType(0)
    return relay | NodeType.DIRECTORY if config.directory.enabled else relay


def _directory(config: Config, host: Host, nodes: Nodes, offered: Offered, catalog: Catalog) -> Directory:
    network, enabled = config.p2p.topic, config.directory.enabled
    announcer = Announcer(
        host, host.topics, catalog, offered.projects, topic=offers.topic(network), node_type=_node_type(config)
    )
    return Directory(nodes, host.links, host.topics, catalog, announcer, network=network, enabled=enabled)


async def serve(config: Config, *, ready: Callable[[Node, str], None]) -> None:
    """A whole node, until a signal. `ready` is called with the HTTP address once everything answers."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, stop)
        listener = server.bind(config.http.listen)  # first: the cheapest thing that can go wrong
        try:
            async with open_node(config) as node:
                await _serve_node(node, listener, stop, ready)
        finally:
            listener.close()
        nursery.cancel_scope.cancel()


async def _serve_node(
    node: Node, listener: socket.socket, stop: trio.Event, ready: Callable[[Node, str], None]
) -> None:
    config = node.config
    grace_s = config.limits.shutdown_grace_s
    async with trio.open_nursery() as background:
        if config.local_model.enabled:
            await background.start(_local_model(node).run)
        async with trio.open_nursery() as gateway:
            serve_http = partial(server.serve, create_app(node), config.http, listener, shutdown=stop, grace_s=grace_s)
            address = await gateway.start(serve_http)
            gc.freeze()  # what is there now stays: later collections need not look at it
            ready(node, address)
            await stop.wait()
            _notify_systemd("STOPPING=1")
            node.nodes.stopping = True
            await node.directory.leave()
            with trio.move_on_after(grace_s):
                async with trio.open_nursery() as draining:
                    draining.start_soon(node.worker.drain)
                    draining.start_soon(node.legacy.drain)
        background.cancel_scope.cancel()


def announce(config: Config, node: Node, address: str) -> None:
    """Tell the operator, and systemd, that the node is ready."""
    info = node.peers.info()
    print(f"aicn {__version__} is ready")
    print(f"  peer id  {info.peer_id}")
    for listening in info.addresses:
        print(f"  p2p      {listening}/p2p/{info.peer_id}")
    print(f"  openai   http://{address}/v1")
    print(f"  http     http://{address}/api/v0")
    if config.p2p.psk or config.p2p.psk_file:
        print("  private network: on")
    sys.stdout.flush()
    _notify_systemd("READY=1")


async def _watch_signals(stop: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():
                log.warning("a second signal: leaving at once")
                os._exit(128 + number)
            log.info("%s: stopping; running requests may finish", signal.Signals(number).name)
            stop.set()


def _local_model(node: Node) -> LocalModelServer:
    config = node.config.local_model

    async def up(url: str) -> None:
        node.registration.set_own(Endpoint(config.project, config.model, url, context=config.context))

    async def down() -> None:
        node.registration.set_own(None)

    return LocalModelServer(config, on_ready=up, on_down=down)


def _limits(config: Config) -> Limits:
    """The configured limits; the embedded model runs as many conversations as its server has room for, unless configured."""
    own = config.local_model
    if not own.enabled:
        return config.limits
    return replace(config.limits, model_concurrency={own.model: own.parallel, **config.limits.model_concurrency})


def _raise_file_limit() -> None:
    """Each connection is an open file, and shells start programs with 1024: take what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _notify_systemd(state: str) -> None:
    """sd_notify(3): one datagram to the socket that systemd names, if it does."""
    address = notify_socket()
    if address is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        try:
            notify.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
        except OSError as error:
            log.warning("systemd was not told %s: %s", state, error)


def _first(group: BaseExceptionGroup[AicnError]) -> AicnError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, AicnError)
    return error
