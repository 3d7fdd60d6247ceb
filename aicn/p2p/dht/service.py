"""This node's part in the DHT: asking, answering when it is a server, and keeping the routing table."""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence

import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.errors import AicnError, DeadlineExceeded, ProtocolViolation
from aicn.p2p.background import step
from aicn.p2p.dht import wire
from aicn.p2p.dht.lookup import Lookup
from aicn.p2p.dht.providers import ProviderStore
from aicn.p2p.dht.table import RoutingTable, nearest
from aicn.p2p.dht.wire import Found
from aicn.p2p.messages import Messages
from aicn.p2p.opening import id_of, open_stream
from aicn.p2p.protocols import Protocols
from aicn.p2p.stream import Stream
from aicn.p2p.swarm import Swarm

log = logging.getLogger(__name__)

_PARALLEL = 5  # questions of one walk at a time
_ANSWER_S = 10.0  # for a peer to be reached and to answer, as the spec has it
_LOOKUP_S = 30.0  # for a whole walk
_AGAIN_S = 0.5  # before a walk that found nothing is repeated: who just joined is known only after identify
_HEARSAY_S = 600.0  # how long an address that somebody told us is kept
_ANNOUNCED_S = 24 * 3600.0  # how long the addresses of a provider are kept: as go
_REFRESH_S = 600.0  # between walks that keep the routing table filled: the spec's ten minutes
_REFRESH_KEYS = 3  # random keys per refresh, beside our own place
_PROVIDE_S = 12 * 3600.0  # between announcements of what we provide; records live 48 h
_PROVIDE_RETRY_S = 30.0  # after an announcement that nobody took; doubled each time up to _REFRESH_S
_MOST_STREAMS = 1024  # that ask us at a time, in all
_MOST_PER_PEER = 64  # of one peer: go's limit per peer and protocol
_IDLE_S = 60.0  # between two questions on one stream


class Dht:
    """Find peers and providers, be found; the routing table holds connected peers that serve the DHT, and nobody else."""

    def __init__(
        self, swarm: Swarm, protocols: Protocols, *, prefix: str, advertised: Callable[[], Sequence[Multiaddr]]
    ) -> None:
        self.protocol = f"{prefix}/kad/1.0.0"
        self.table = RoutingTable(swarm.own_id)
        self.filled = trio.Event()  # set once somebody can be asked
        self.providers = ProviderStore()
        self.server = False
        self._own = swarm.own_id
        self._swarm = swarm
        self._book = swarm.book
        self._protocols = protocols
        self._advertised = advertised
        self._provided: dict[bytes, float] = {}  # what we provide, and when it is to be announced again
        self._retry_s = _PROVIDE_RETRY_S  # the next one
        self._announce = trio.Event()  # there is something new in `_provided`
        self._streams: Counter[str] = Counter()  # that ask us, by peer

    # ---- life ----

    async def run(self) -> None:
        """Keep the routing table filled and our announcements fresh, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._refresh_for_ever)
            nursery.start_soon(self._announce_for_ever)

    def set_server(self, server: bool) -> None:
        """Answer others from now on, or no more. Identify tells them by the list of protocols, which changes here."""
        if server and not self.server:
            self._protocols.serve(self.protocol, self._serve)
        elif self.server and not server:
            self._protocols.withdraw(self.protocol)
        self.server = server

    def identified(self, peer: ID) -> None:
        """Identify has told what `peer` serves: if it is the DHT, and as long as it is connected, it can be asked."""
        if self._serves(peer) and self._swarm.is_connected(peer):
            if self.table.add(peer):
                self.filled.set()
        else:
            self.table.remove(peer)

    def disconnected(self, peer: ID) -> None:
        """The last connection to `peer` has ended."""
        self.table.remove(peer)

    async def _refresh_for_ever(self) -> None:
        await self.filled.wait()
        while True:
            await step("refreshing the routing table", self._refresh)
            await trio.sleep(_jittered(_REFRESH_S))

    async def _refresh(self) -> None:
        """Take in who is there, and meet those around our own place and around some others."""
        for peer in list(self._swarm.connections):  # a query that failed took out some that are there after all
            self.identified(peer)
        for key in (self._own.to_bytes(), *(os.urandom(32) for _ in range(_REFRESH_KEYS))):
            await self.closest(key)

    async def _announce_for_ever(self) -> None:
        await self.filled.wait()
        while True:
            self._announce = trio.Event()
            await step("announcing what is provided", self._announce_due)
            with trio.move_on_at(min(self._provided.values(), default=trio.current_time() + _PROVIDE_S)):
                await self._announce.wait()

    async def _announce_due(self) -> None:
        for key in [key for key, when in self._provided.items() if when <= trio.current_time()]:
            self._provided[key] = trio.current_time() + _jittered(self._retry_s)  # also when the next line breaks
            if await self._provide(key):
                self._provided[key] = trio.current_time() + _jittered(_PROVIDE_S)
                self._retry_s = _PROVIDE_RETRY_S
            else:
                self._retry_s = min(self._retry_s * 2, _REFRESH_S)

    # ---- asking ----

    async def find(self, peer: ID) -> None:
        """Look for further addresses of `peer`: afterwards the peer book has them, if anybody knew some."""
        before = set(self._book.known(peer))

        def found(_: Message) -> bool:
            return not before.issuperset(self._book.known(peer))

        for pause in (0.0, _AGAIN_S):
            await trio.sleep(pause)
            await self._walk(peer.to_bytes(), Message.FIND_NODE, found, skip=peer)
            if not before.issuperset(self._book.known(peer)):
                return

    async def closest(self, key: bytes) -> list[ID]:
        """The peers that are responsible for `key`, as far as they answered in time; the nearest first."""
        return await self._walk(key, Message.FIND_NODE, lambda _: False)

    async def find_providers(self, key: bytes, *, most: int = 20, deadline_s: float = _LOOKUP_S) -> list[Found]:
        """Who provides `key`, each once, without ourselves; what was found in time. They are not stored as told to us."""
        found: dict[ID, Found] = {
            peer: Found(peer, self._book.known(peer)) for peer in self.providers.providers(key, trio.current_time())
        }

        def look(answer: Message) -> bool:
            for one in wire.named(answer.providerPeers, wire.MOST_PROVIDERS):
                if one.peer != self._own:
                    self._hear(one)
                    found.setdefault(one.peer, one)
            return len(found) >= most

        if len(found) < most:
            await self._walk(key, Message.GET_PROVIDERS, look, deadline_s=deadline_s)
        return list(found.values())[:most]

    def provide(self, key: bytes) -> None:
        """Announce in the background that this node provides `key`, as soon as somebody can be told, and again every 12 h."""
        self._provided[key] = trio.current_time()
        self._announce.set()

    async def _provide(self, key: bytes) -> int:
        """Tell those who are responsible for `key`; how many were told."""
        told = 0
        message = wire.announcement(key, self._self())

        async def tell(peer: ID) -> None:
            nonlocal told
            try:
                await self._ask(peer, message, answers=False)
            except AicnError as error:
                log.debug("announcement to %s: %s", peer, error)
            else:
                told += 1

        async with trio.open_nursery() as nursery:
            for peer in await self.closest(key):
                nursery.start_soon(tell, peer)
        return told

    async def _walk(
        self,
        key: bytes,
        kind: Message.MessageType,
        enough: Callable[[Message], bool],
        *,
        skip: ID | None = None,
        deadline_s: float = _LOOKUP_S,
    ) -> list[ID]:
        """Ask towards `key` until an answer is `enough`, nobody is left or time is over; the nearest that answered."""
        lookup = Lookup(key, self._known(key), skip={self._own} | ({skip} if skip else set()))
        question = wire.question(kind, key)

        async def ask(peer: ID) -> None:
            try:
                answer = await self._ask(peer, question)
            except AicnError as error:
                log.debug("query of %s: %s", peer, error)
                lookup.failed(peer)
                self.table.remove(peer)
            else:
                lookup.answered(peer)
                closer = [one for one in wire.named(answer.closerPeers, wire.MOST_CLOSER) if one.peer != self._own]
                for one in closer:
                    self._hear(one)
                lookup.learn(one.peer for one in closer if self._may_serve(one.peer))
                if enough(answer):
                    nursery.cancel_scope.cancel()
            go_on()

        def go_on() -> None:
            while len(nursery.child_tasks) < _PARALLEL + 1 and (peer := lookup.next()) is not None:
                nursery.start_soon(ask, peer)

        with trio.move_on_after(deadline_s):
            async with trio.open_nursery() as nursery:
                go_on()
        return lookup.closest()

    async def _ask(self, peer: ID, message: bytes, *, answers: bool = True) -> Message:
        """One question on a stream of its own. The errors of `open_stream`; AnswerBroken, ProtocolViolation, Unsupported."""
        try:
            with trio.fail_after(_ANSWER_S):
                stream = await open_stream(self._swarm, peer, self.protocol)
                try:
                    messages = Messages(stream, limit=wire.LARGEST_ANSWER)
                    await messages.send(message)
                    answer = wire.parse(await messages.receive() if answers else b"")
                    await stream.finish()
                except BaseException:
                    stream.reset()
                    raise
        except trio.TooSlowError:
            raise DeadlineExceeded(f"{peer} did not answer in {_ANSWER_S:g} s") from None
        return answer

    def _known(self, key: bytes) -> list[ID]:
        """Whom to begin with: members of the table, and whoever is connected and has not been described yet."""
        connected = (one for one in self._swarm.connections if self._may_serve(one))
        return nearest(key, {*self.table.nearest(key), *connected})

    def _hear(self, found: Found) -> None:
        """Somebody says that a peer is there. It may be tried; it enters the table when it has been spoken with."""
        if found.addresses:
            self._book.add_addrs(found.peer, found.addresses, int(_HEARSAY_S))

    def _serves(self, peer: ID) -> bool:
        return self.protocol in self._book.protocols_of(peer)

    def _may_serve(self, peer: ID) -> bool:
        """Serves the DHT, or identify has not said yet."""
        return self._serves(peer) or not self._book.protocols_of(peer)

    # ---- answering ----

    async def _serve(self, stream: Stream) -> None:
        """Answer the questions on one stream."""
        peer = stream.peer
        if self._streams.total() >= _MOST_STREAMS or self._streams[peer] >= _MOST_PER_PEER:
            raise ProtocolViolation("too many DHT streams")
        self._streams[peer] += 1
        try:
            messages = Messages(stream, limit=wire.LARGEST_REQUEST)
            while True:
                with trio.fail_after(_IDLE_S):
                    data = await messages.receive_or_end()
                    if data is None:
                        return
                    answer = self._answer(id_of(peer), wire.parse(data))
                    if answer is not None:
                        await messages.send(answer)
        except trio.TooSlowError:
            raise DeadlineExceeded(f"no question came in {_IDLE_S:g} s") from None
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]

    def _answer(self, asker: ID, asked: Message) -> bytes | None:
        """None: there is none. ProtocolViolation: values, which nobody here stores; the stream is reset, as the spec has it."""
        key = asked.key
        if asked.type == Message.PING:
            return wire.answer(asked)
        if not key or asked.type == Message.PUT_VALUE:
            raise ProtocolViolation("DHT: no key, or a value to store")
        if asked.type == Message.ADD_PROVIDER:
            for one in wire.named(asked.providerPeers, wire.MOST_PROVIDERS):
                if one.peer == asker:  # nobody speaks for another
                    self._book.add_addrs(asker, one.addresses, int(_ANNOUNCED_S))
                    self.providers.add(key, asker, trio.current_time())
            return None
        closer = [one for one in map(self._found, self.table.nearest(key)) if one.peer != asker and one.addresses]
        if asked.type == Message.FIND_NODE:
            return wire.answer(asked, closer=[*self._target(key, closer), *closer])
        providers = self._providers_of(key, asker) if asked.type == Message.GET_PROVIDERS else []
        return wire.answer(asked, closer=closer, providers=providers)

    def _target(self, key: bytes, closer: list[Found]) -> list[Found]:
        """Who is looked for, if it is a peer that we can name and have not named: clients are in no routing table."""
        target = ID(key)
        if target == self._own:
            return [self._self()]
        if not wire.is_peer_id(key) or any(one.peer == target for one in closer):
            return []
        found = self._found(target)
        return [found] if found.addresses else []

    def _providers_of(self, key: bytes, asker: ID) -> list[Found]:
        peers = [one for one in self.providers.providers(key, trio.current_time()) if one != asker]
        some = random.sample(peers, min(len(peers), wire.MOST_PROVIDERS - 1))
        return [*([self._self()] if key in self._provided else []), *map(self._found, some)]

    def _found(self, peer: ID) -> Found:
        return Found(peer, self._book.known(peer))

    def _self(self) -> Found:
        return Found(self._own, list(self._advertised()))


def _jittered(seconds: float) -> float:
    """About as long, so that a network that started together does not go on together."""
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - not a secret
