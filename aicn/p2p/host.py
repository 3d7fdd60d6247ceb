"""The p2p host: what services see of the network (services/ports.Peers and SwarmControl; `topics` and `links` are more of it).

open_host
 └─ nursery
     ├─ dht                  unless dht_mode is none
     ├─ topics.run           pubsub
     ├─ swarm.run            listeners, connections and their streams, dials, identify
     ├─ relays.client.run    places with relays
     ├─ nat.run              AutoNAT, port mapping, hole punching
     ├─ keep_connected       bootstrap peers
     └─ history.run          addresses that were good, in `address_book` if there is one
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import trio
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.secp256k1 import Secp256k1PrivateKey
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnError

from aicn.config.schema import P2P
from aicn.domain import nodes
from aicn.domain.ids import PeerId, parse_peer_id
from aicn.domain.nodes import PROTOCOL_VERSION, NodeInfo
from aicn.errors import AicnError, DeadlineExceeded, InvalidRequest, Unreachable, Unsupported
from aicn.p2p import addresses, fixes, ping
from aicn.p2p.bootstrap import keep_connected
from aicn.p2p.connection import Connection
from aicn.p2p.dht.rendezvous import meet, rendezvous_key
from aicn.p2p.dht.service import Dht
from aicn.p2p.history import History
from aicn.p2p.identify import Identify, PeerInfo
from aicn.p2p.identity import Key, peer_id_of
from aicn.p2p.links import Links
from aicn.p2p.listener import Listener, bind_all
from aicn.p2p.nat import Nat
from aicn.p2p.network_key import network_key
from aicn.p2p.own_addresses import OwnAddresses
from aicn.p2p.peerbook import PeerBook
from aicn.p2p.protocols import Handler, Protocols
from aicn.p2p.pubsub.service import Topics
from aicn.p2p.reachability import State
from aicn.p2p.redial import Redial
from aicn.p2p.relay.service import Relays
from aicn.p2p.stream import Stream
from aicn.p2p.swarm import Swarm
from aicn.p2p.upgrade import Upgrader
from aicn.services.ports import AddressBook

log = logging.getLogger(__name__)

_TRIES = 3  # to open a stream: a connection may end in the moment in which it is wanted
_MOST_MET, _MEET_S = (
    100,
    5.0,
)  # peers that an operator is told of who asks for the rendezvous, and the time for it (go: 100)
_KNOWN_S = 7200  # how long an address that a user named is remembered without a connection


class Host:
    """This node among its peers."""

    def __init__(
        self,
        config: P2P,
        key: Key,
        listeners: Sequence[Listener],
        *,
        agent_version: str,
        address_book: AddressBook | None,
    ) -> None:
        self._config = config
        self._id = peer_id_of(key)
        self._agent_version = agent_version
        self._protocols = Protocols()
        self._book = PeerBook()
        private = Secp256k1PrivateKey.new(key.secret)
        keys = KeyPair(private, private.get_public_key())
        self._book.add_key_pair(ID.from_base58(self._id), keys)
        psk = network_key(config)
        self._swarm = Swarm(
            ID.from_base58(self._id),
            self._book,
            Upgrader(keys, psk=psk, streams_per_connection=config.streams_per_connection),
            self._protocols,
            listeners=listeners,
            config=config,
        )
        announce = [addresses.parse(text, field="p2p.announce") for text in config.announce]
        self._own = OwnAddresses(announce, self._swarm.own_addresses)
        self._identify = Identify(
            self._swarm, self._book, self._protocols, keys, self._own, agent_version=agent_version
        )
        self._identify.identified = self._identified
        self._protocols.serve(ping.PROTOCOL, ping.serve)
        self._relays = Relays(config, self._swarm, self._protocols, own=self._own.configured, direct=self._own.direct)
        self._own.circuits = self._relays.client.addresses
        self._relays.client.changed = self._relays_changed
        self._history = None if address_book is None else History(self._swarm, address_book)
        self._dht = self._make_dht()
        self.topics = Topics(self._swarm, self._protocols, keys, router=config.pubsub_router)
        self.links = Links(self._swarm)
        self._redial = Redial(self._swarm, lambda peer: peer in self.topics.mesh.subscribers(config.topic))
        self._swarm.lost = self._disconnected

        self.nat = Nat(
            config,
            self._swarm,
            self._own,
            self._identify,
            self._protocols,
            psk=psk,
            trusted={addresses.split_peer(one)[0] for one in (*config.bootstrap, *config.relays)},
        )
        self.nat.reachability.on_change(self._on_reachability)

    def _on_reachability(self, state: State) -> None:
        """Whether others can dial this node is known, or otherwise than before."""
        self._relays.set_public(None if state is State.UNKNOWN else state is State.PUBLIC)
        if self._dht is not None and self._config.dht_mode == "auto" and state is not State.UNKNOWN:
            self._dht.set_server(state is State.PUBLIC)
        self._identify.changed()

    def _relays_changed(self) -> None:
        """This node has places with other relays than before."""
        self._identify.changed()
        self.nat.reachability.set_relays([str(relay) for relay in self._relays.client.relays])

    def _make_dht(self) -> Dht | None:
        mode = self._config.dht_mode
        if mode == "none":
            return None
        public = any(addresses.is_public(one) for one in self._own.advertised())
        dht = Dht(self._swarm, self._protocols, prefix=self._config.dht_prefix, advertised=self._own.advertised)
        dht.set_server(mode == "server" or (mode == "auto" and public))
        self._swarm.find = dht.find
        return dht

    def _identified(self, peer: ID) -> None:
        """Identify has told what `peer` serves."""
        self.nat.identified(peer)
        self._relays.client.reconsider()
        if self._dht is not None:
            self._dht.identified(peer)
        self.topics.identified(peer)
        self.links.identified(peer)
        if self._history is not None:
            self._history.met(peer)

    def _disconnected(self, connection: Connection) -> None:
        """The last connection to a peer has ended."""
        peer = connection.peer
        self._redial.lost(connection)  # first: the others forget the peer
        self._identify.disconnected(peer)
        if self._dht is not None:
            self._dht.disconnected(peer)
        self.topics.disconnected(peer)
        self.links.disconnected(peer)

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Be on the network until cancelled; then every connection and port is closed at once."""
        async with trio.open_nursery() as nursery:
            if self._dht is not None:
                nursery.start_soon(self._dht.run)
                nursery.start_soon(meet, self._dht, self._swarm, self._config.topic)
            await nursery.start(self.topics.run)
            nursery.start_soon(self._identify.run)
            await nursery.start(self._swarm.run)  # after those whom the first connection concerns
            peers = [addresses.split_peer(text, field="p2p.bootstrap") for text in self._config.bootstrap]
            nursery.start_soon(keep_connected, self._swarm, peers)
            if self._history is not None:
                self._swarm.on_dialled(self._history.note)
                nursery.start_soon(self._history.run)
            nursery.start_soon(self._relays.client.run)
            nursery.start_soon(self.nat.run)
            task_status.started()

    # ---- who we are ----

    @property
    def id(self) -> PeerId:
        return self._id

    @property
    def protocols(self) -> tuple[str, ...]:
        """All protocols that this node serves, sorted."""
        return self._protocols.names

    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs, without /p2p/<id>, under which others may reach this node."""
        return tuple(str(addresses.without_peer(one)) for one in self._own.advertised())

    def info(self) -> NodeInfo:
        return NodeInfo(
            peer_id=self._id,
            protocol_version=PROTOCOL_VERSION,
            agent_version=self._agent_version,
            addresses=self.addresses(),
            protocols=self.protocols,
        )

    # ---- others ----

    def connections(self) -> Sequence[nodes.Connection]:
        """The open connections, the oldest first."""
        return sorted(
            (
                nodes.Connection(
                    number=one.number,
                    peer=one.peer_id,
                    address=str(one.remote or ""),
                    rtt=one.muxer.rtt or 0.0,
                    direction=one.direction,
                )
                for one in self._swarm.open_connections()
            ),
            key=lambda one: one.number,
        )

    def peer_info(self, peer: PeerId) -> PeerInfo | None:
        """What `peer` has said of itself; None when it has said nothing yet."""
        return self._identify.info(_parse(peer))

    async def connect(self, address: str) -> PeerId:
        peer, transport = addresses.split_peer(address, field="node_addr")
        if str(peer) == self._id:
            raise InvalidRequest("node_addr: that is this node itself")
        self._swarm.admit(peer)
        self._book.add_addrs(peer, [transport], _KNOWN_S)
        await self._swarm.connect(peer, force=True)
        return PeerId(str(peer))

    async def disconnect(self, address: str) -> None:
        await self._swarm.dismiss(addresses.named_peer(address, field="node_addr"))

    async def known_addresses(self) -> Sequence[tuple[PeerId, Sequence[str]]]:
        known = {self._id: sorted(self.addresses())}
        for peer in self._book.peer_ids():
            await trio.lowlevel.checkpoint()  # there may be ten thousand; others have their turn meanwhile
            found = sorted({str(addresses.without_peer(one)) for one in self._book.known(peer)})
            if found and str(peer) != self._id:
                known[PeerId(str(peer))] = found
        return sorted(known.items())

    async def rendezvous(self) -> Sequence[PeerId]:
        if self._dht is None:
            raise Unsupported("this node has no part in the DHT: p2p.dht_mode is none")
        found = await self._dht.find_providers(rendezvous_key(self._config.topic), most=_MOST_MET, deadline_s=_MEET_S)
        return sorted({self._id, *(PeerId(str(one.peer)) for one in found)})

    async def reach(self, peer: PeerId) -> None:
        with trio.move_on_after(self._config.dial_s):
            await self._swarm.connect(_parse(peer), lookup=True)
            return
        raise DeadlineExceeded(f"{peer} was not reached within {self._config.dial_s:g} s")

    async def open_stream(self, peer: PeerId, protocol: str, *, limited: bool = True) -> Stream:
        peer_id = _parse(peer)
        if peer == self._id:
            raise InvalidRequest("node_id: that is this node itself")
        with trio.move_on_after(self._config.dial_s):
            for _ in range(_TRIES):
                connection = self._swarm.live(peer_id) or await self._swarm.connect(peer_id, lookup=True)
                if connection.limited and not limited:
                    connection = await self._without_limits(peer_id)
                try:
                    stream = await connection.open_stream(protocol)
                except MuxedConnError:
                    continue
                stream.hold()
                return stream
            raise Unreachable(f"{peer} closes every connection")
        raise DeadlineExceeded(f"{peer} was not reached within {self._config.dial_s:g} s")

    async def _without_limits(self, peer: ID) -> Connection:
        try:
            return await self._swarm.connect_directly(peer)
        except AicnError as error:
            raise Unreachable(
                f"{peer} is connected only through a relay that limits connections, and takes no such stream there: {error.message}"
            ) from None

    def serve(self, protocol: str, handler: Handler) -> None:
        def begin(stream: Stream) -> Awaitable[None]:
            stream.hold()
            return handler(stream)

        self._protocols.serve(protocol, begin)


@lru_cache(maxsize=4096)
def _parse(peer: PeerId) -> ID:
    """The library's form of a peer id; base58 costs more than opening a stream. InvalidRequest."""
    return ID.from_base58(parse_peer_id(peer))


@asynccontextmanager
async def open_host(
    config: P2P, key: Key, *, agent_version: str, address_book: AddressBook | None = None
) -> AsyncIterator[Host]:
    """Join the network as `key` while the block runs. `agent_version` is what identify tells others, such as aicn/0.1.0.

    StartupError when an address cannot be listened on (nothing was started then) or libp2p is not the version we correct.
    """
    fixes.apply()
    listeners = bind_all([addresses.parse(text, field="p2p.listen") for text in config.listen])
    failure: Exception | None = None
    try:
        host = Host(config, key, listeners, agent_version=agent_version, address_book=address_book)
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run)
            try:
                yield host
            except Exception as error:  # noqa: BLE001 - raised again below: the nursery would wrap it in a group
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        for listener in listeners:
            listener.stop()
    if failure is not None:
        raise failure
