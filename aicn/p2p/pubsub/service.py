"""Topics: joining, publishing, hearing; the streams to and from the peers that speak pubsub.

Topics.run
 ├─ _beat              once a second: the mesh's heartbeat
 └─ _talk, per peer    our stream to it: subscriptions first, then what its outbox holds; again when it breaks
_listen, per peer      the peer's stream to us, served by Protocols

What a peer sends too fast waits: we read no faster than the rates below, its stream's window fills, and what it has too much of is
its own to drop. A message that was not signed costs its sender as much waiting as fifty others. What cannot be an RPC ends the stream.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import trio
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID
from libp2p.pubsub.pb.rpc_pb2 import RPC
from libp2p.pubsub.pb.rpc_pb2 import Message as Signed

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Message
from aicn.errors import AicnError, InvalidRequest, ProtocolViolation
from aicn.p2p.background import step
from aicn.p2p.messages import Messages
from aicn.p2p.opening import id_of, open_stream
from aicn.p2p.protocols import Protocols
from aicn.p2p.pubsub import messages
from aicn.p2p.pubsub.bucket import Bucket
from aicn.p2p.pubsub.mesh import Mesh
from aicn.p2p.pubsub.messages import LARGEST_RPC, Signer
from aicn.p2p.pubsub.outbox import BURST, RATE, Outbox
from aicn.p2p.pubsub.subscription import Subscription
from aicn.p2p.stream import Stream
from aicn.p2p.swarm import Swarm
from aicn.wire.framing import encode_frame
from aicn.wire.legacy import chat_proxy

log = logging.getLogger(__name__)

FLOODSUB = "/floodsub/1.0.0"
_SPOKEN = {"gossipsub": ("/meshsub/1.1.0", "/meshsub/1.0.0", FLOODSUB), "floodsub": (FLOODSUB,)}  # the preferred first
HEARTBEAT_S = 1.0
# Of one peer, who may be the only one through whom a whole network speaks to us:
_MESSAGES, _MESSAGES_BURST = 2000.0, 4000.0  # messages and RPCs per second, and at once
_BYTES, _BYTES_BURST = float(16 << 20), float(64 << 20)  # bytes per second, and at once
_UNSIGNED = 50.0  # messages that one with a wrong signature counts for
_SEND_S = 30.0  # for a peer to take what is sent to it at once
_WRITTEN_S = 0.05  # for the connections to write what their streams were given
_AGAIN_S, _AGAIN_LONGEST_S = 0.1, 30.0  # before a stream to a connected peer is opened again

Accept = Callable[[Message], bool]
Met = Callable[[str, PeerId], None]  # topic, peer


class _Peer:
    """A connected peer that speaks pubsub."""

    def __init__(self, peer: ID, protocol: str) -> None:
        self.name = PeerId(str(peer))
        self.protocol = protocol
        self.outbox = Outbox()
        self.messages = Bucket(rate=_MESSAGES, burst=_MESSAGES_BURST)
        self.bytes = Bucket(rate=_BYTES, burst=_BYTES_BURST)
        self.scope = trio.CancelScope()  # of `_talk`
        self.listening: trio.CancelScope | None = None  # of `_listen`


class Topics:
    """This node's part in pubsub."""

    def __init__(
        self, swarm: Swarm, protocols: Protocols, keys: KeyPair, *, router: Literal["gossipsub", "floodsub"]
    ) -> None:
        self.mesh = Mesh()
        self._swarm = swarm
        self._own = swarm.own_id
        self._signer = Signer(keys)
        self._spoken: Sequence[str] = _SPOKEN[router]
        self._peers: dict[ID, _Peer] = {}
        self._accept: dict[str, Accept] = {}  # by topic
        self._subscriptions: defaultdict[str, list[Subscription]] = defaultdict(list)
        self._met: list[Met] = []
        self._pace = Bucket(rate=RATE, burst=BURST)
        self._nursery: trio.Nursery | None = None
        for protocol in self._spoken:
            protocols.serve(protocol, partial(self._listen, protocol))

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Speak with peers until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await self._beat()

    # ---- for services ----

    def join(self, topic: str, accept: Accept = lambda _: True) -> None:
        """Be a member of `topic`: hear its messages and hand them on.

        `accept` decides whether a message is handed on, to peers and subscriptions; it must neither wait nor raise.
        InvalidRequest: joined already.
        """
        if topic in self._accept:
            raise InvalidRequest(f"topic: {topic} is joined already")
        self._accept[topic] = accept
        self.mesh.join(topic, trio.current_time())
        self._announce(topic, member=True)

    def leave(self, topic: str) -> None:
        """Be no member any more. InvalidRequest: not joined."""
        if self._accept.pop(topic, None) is None:
            raise InvalidRequest(f"topic: {topic} is not joined")
        self.mesh.leave(topic, trio.current_time())
        self._announce(topic, member=False)

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[Subscription]:
        """The messages of others on `topic`, as long as the block runs; nothing comes while it is not joined."""
        subscription = Subscription(topic)
        self._subscriptions[topic].append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[topic].remove(subscription)

    async def publish(self, topic: str, data: bytes) -> bytes:
        """Sign `data` and send it to every subscriber of `topic` that is connected; the signed message.

        Bursts are paced to a message per millisecond.

        TooLarge: over LARGEST_RPC with its envelope. InvalidRequest: not joined.
        """
        if topic not in self._accept:
            raise InvalidRequest(f"topic: {topic} is not joined")
        message = self._signer.message(topic, data)
        await self._pace.take(1.0)
        self._hand_on(message, topic, source=None)
        return message.SerializeToString()

    def on_member(self, tell: Met) -> None:
        """Call `tell` whenever a connected peer says that it is a member of a topic. `tell` neither waits nor raises."""
        self._met.append(tell)

    async def flush(self) -> None:
        """Returns when what was published is on its way to the peers. They may not take it: the caller has a deadline."""
        for known in tuple(self._peers.values()):
            await known.outbox.emptied()
        await trio.sleep(_WRITTEN_S)

    def subscribers(self, topic: str) -> list[PeerId]:
        """Connected peers that are members of `topic`."""
        return [PeerId(str(peer)) for peer in self.mesh.subscribers(topic)]

    def verify(self, signed: bytes) -> Message:
        """The message that somebody else passes on, checked against its sender's signature. ProtocolViolation."""
        message = messages.parse_message(signed)
        return Message(messages.topic_of(message), PeerId(str(messages.check(message))), message.data, signed)

    # ---- peers ----

    def identified(self, peer: ID) -> None:
        """Identify has told what `peer` speaks."""
        protocols = self._swarm.book.protocols_of(peer)
        for protocol in self._spoken:
            if protocol in protocols:
                if self._meet(peer, protocol) is not None:
                    self.mesh.trusts(peer, _relies_on_direct_peers(protocols))
                return

    def disconnected(self, peer: ID) -> None:
        """The last connection to `peer` has ended."""
        if peer in self._peers:
            self._peers.pop(peer).scope.cancel()
            self.mesh.remove(peer)

    def _meet(self, peer: ID, protocol: str) -> _Peer | None:
        """The peer, now that it is known to speak `protocol`; None: it is not connected any more."""
        known = self._peers.get(peer)
        if known is None and self._nursery is not None and self._swarm.is_connected(peer):
            known = self._peers[peer] = _Peer(peer, protocol)
            self.mesh.add(peer, gossips=protocol != FLOODSUB)
            self._nursery.start_soon(self._talk, peer, known)
        return known

    async def _talk(self, peer: ID, known: _Peer) -> None:
        """Keep a stream to the peer, as long as it is connected."""
        pause = _AGAIN_S
        with known.scope:
            while True:
                began = trio.current_time()
                await step(f"the pubsub stream to {peer}", partial(self._send, peer, known))
                known.outbox.drop_control()  # the next stream begins anew, with what else waits here
                self.mesh.part(peer)
                pause = _AGAIN_S if trio.current_time() - began > _AGAIN_LONGEST_S else pause
                await trio.sleep(pause)
                pause = min(2 * pause, _AGAIN_LONGEST_S)

    async def _send(self, peer: ID, known: _Peer) -> None:
        """Open a stream and send on it what the outbox holds, until it breaks; it is reset then."""
        try:
            stream = await open_stream(self._swarm, peer, known.protocol)
        except AicnError as error:
            log.debug("pubsub stream to %s: %s", peer, error)
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch, stream, nursery.cancel_scope)
                try:
                    await _deliver(stream, self._hello())
                    while True:
                        await _deliver(stream, await known.outbox.take())
                except AicnError as error:
                    log.debug("pubsub stream to %s: %s", peer, error)
                except trio.TooSlowError:
                    log.debug("pubsub stream to %s: nothing is read", peer)
                    known.outbox.drop_messages()
                nursery.cancel_scope.cancel()
        finally:
            stream.reset()

    def _hello(self) -> bytes:
        """What a peer hears first: our topics."""
        rpc = RPC()
        for topic in self._accept:
            rpc.subscriptions.add(subscribe=True, topicid=topic)
        return encode_frame(rpc.SerializeToString()) if self._accept else b""

    def _announce(self, topic: str, *, member: bool) -> None:
        rpc = RPC()
        rpc.subscriptions.add(subscribe=member, topicid=topic)
        for known in self._peers.values():
            known.outbox.add_control(encode_frame(rpc.SerializeToString()))
        self._send_control()

    # ---- what peers say ----

    async def _listen(self, protocol: str, stream: Stream) -> None:
        """Serve a peer's stream; a newer one takes the place of an older one."""
        peer = id_of(stream.peer)
        known = self._meet(peer, protocol)
        if known is None:
            raise ProtocolViolation("a pubsub stream of a peer that is gone")
        if known.listening is not None:
            known.listening.cancel()
        incoming = Messages(stream, limit=LARGEST_RPC)
        with trio.CancelScope() as scope:
            known.listening = scope
            while (data := await incoming.receive_or_end()) is not None:
                await self._take(peer, known, messages.parse(data))
                await known.bytes.take(len(data))
                await known.messages.take(1.0)
        if scope.cancelled_caught:
            stream.reset()

    async def _take(self, peer: ID, known: _Peer, rpc: RPC) -> None:
        """One RPC of a peer."""
        if self._peers.get(peer) is not known:  # it has left; its last words may still come
            return
        now = trio.current_time()
        for one in rpc.subscriptions:
            if one.subscribe:
                self.mesh.subscribed(peer, one.topicid, now)
                for tell in self._met if one.topicid in self._accept else ():
                    tell(one.topicid, known.name)
            else:
                self.mesh.unsubscribed(peer, one.topicid)
        if rpc.HasField("control"):
            for frame in self.mesh.control(peer, rpc.control, now):
                known.outbox.add_message(frame)
        self._send_control()
        for message in rpc.publish:
            try:
                self._hear(peer, message)
            except ProtocolViolation as error:
                log.debug("message from %s: %s", peer, error)
                known.messages.spend(_UNSIGNED)
            await known.messages.take(1.0)
            await trio.lowlevel.checkpoint()

    def _hear(self, peer: ID, message: Signed) -> None:
        """One message. ProtocolViolation: it is not signed by its sender, or not for one topic."""
        topic = messages.topic_of(message)
        accept = self._accept.get(topic)
        if accept is None or messages.message_id(message) in self.mesh.seen:
            return
        sender = messages.check(message)
        if sender == self._own:
            return
        heard = Message(topic, PeerId(str(sender)), message.data, message.SerializeToString())
        if not accept(heard):
            self.mesh.seen.add(messages.message_id(message), trio.current_time())
            return
        self._hand_on(message, topic, source=peer)
        for subscription in self._subscriptions[topic]:
            subscription.put(heard)

    def _hand_on(self, message: Signed, topic: str, *, source: ID | None) -> None:
        """Remember a new message and send it to whom it concerns."""
        frame, name = messages.frame(message), messages.message_id(message)
        self.mesh.seen.add(name, trio.current_time())
        self.mesh.recent.put(name, topic, frame)
        for receiver in self.mesh.receivers(topic, source=source, origin=ID(message.from_id)):
            self._peers[receiver].outbox.add_message(frame)

    # ---- upkeep ----

    async def _beat(self) -> None:
        while True:
            await trio.sleep(HEARTBEAT_S)
            self.mesh.heartbeat(trio.current_time())
            self._send_control()

    def _send_control(self) -> None:
        for peer, control in self.mesh.take_control().items():
            self._peers[peer].outbox.add_control(encode_frame(RPC(control=control).SerializeToString()))


def _relies_on_direct_peers(protocols: Collection[str]) -> bool:
    """Whether it is a node of the existing network by what it serves: its clients list their bootstrap nodes as direct peers."""
    return chat_proxy.PROTOCOL in protocols and not any(one.startswith("/aicn/") for one in protocols)


async def _watch(stream: Stream, scope: trio.CancelScope) -> None:
    """End `scope` when the peer refuses the stream, resets it or, what nobody does, says something on it."""
    try:
        if not await stream.receive_some():
            return
    except AicnError as error:
        log.debug("pubsub stream to %s: %s", stream.peer, error)
    scope.cancel()


async def _deliver(stream: Stream, data: bytes) -> None:
    with trio.fail_after(_SEND_S):
        await stream.send_all(data)
