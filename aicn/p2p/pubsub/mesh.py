"""Who gets which message: gossipsub 1.1's mesh and its control messages, sans-io (libp2p specs, pubsub/gossipsub v1.0 and v1.1).

Peers that speak floodsub only get everything of the topics that they subscribed to. The others get this node's own messages as well
("flood publishing"), and those of others if they are in the topic's mesh, or have refused to be in it: a go client that lists us
as a direct peer answers GRAFT with PRUNE, sends us all it has and expects the same. It may never be asked when the mesh is full, or not
soon again after a restart: those that are `trusting`, as clients of the existing network probably are, get everything at once.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from libp2p.peer.id import ID
from libp2p.pubsub.pb.rpc_pb2 import ControlMessage

from aicn.p2p.pubsub.memory import Recent, Seen

# Degrees and limits as go-libp2p-pubsub has them.
DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 5, 12
_GOSSIP_PEERS = 6  # peers outside the mesh that are told what there is, per topic and heartbeat; at least, or
_GOSSIP_FACTOR = 0.25  # this part of them
_MOST_TOLD = 1000  # messages that one IHAVE of ours names
PRUNE_BACKOFF_S = 60.0
_LEAVE_BACKOFF_S = 10.0
_LONGEST_BACKOFF_S = 3600.0  # that a peer can ask for
_MOST_BACKOFFS = 10_000  # that are remembered
_MOST_TOPICS = 128  # subscriptions of one peer that are remembered
_LONGEST_TOPIC = 256  # characters
_MOST_IHAVE = 10  # per peer and heartbeat
_MOST_WANTED = 1000  # ids per peer and heartbeat that we ask for
_MOST_GIVEN = 1000  # messages per peer and heartbeat that we give, and ids that we look at
_LONGEST_ID = 128  # bytes; ours are at most 50
_ASK_AGAIN_S = 3.0  # before a message that was asked for and did not come is asked for elsewhere
_MOST_ENTRIES = 256  # GRAFT and PRUNE entries of one message that are looked at


@dataclass(slots=True)
class _Peer:
    gossips: bool  # speaks gossipsub, not only floodsub
    trusting: bool = False  # it may rely on us alone
    topics: set[str] = field(default_factory=set)


class Mesh:
    """The peers, what they subscribed to, and the mesh of each topic that this node is in."""

    def __init__(self, *, chance: random.Random | None = None) -> None:
        self.topics: dict[str, set[ID]] = {}  # joined, with their mesh
        self.recent = Recent()
        self.seen = Seen()
        self._peers: dict[ID, _Peer] = {}
        self._backoff: dict[tuple[str, ID], float] = {}  # until when a peer is not grafted
        self._refused: defaultdict[str, set[ID]] = defaultdict(set)  # by topic: sent PRUNE and have not grafted since
        self._control: defaultdict[ID, ControlMessage] = defaultdict(ControlMessage)  # to be sent
        self._asked: dict[bytes, float] = {}  # messages asked for, and until when nobody else is
        self._done: Counter[tuple[str, ID]] = Counter()  # per kind and peer since the last heartbeat
        self._chance = chance or random.Random()  # noqa: S311 - spreads load

    # ---- peers ----

    def add(self, peer: ID, *, gossips: bool) -> None:
        """A peer that speaks pubsub is connected."""
        self._peers.setdefault(peer, _Peer(gossips))

    def trusts(self, peer: ID, trusting: bool) -> None:
        """Whether the peer, which is connected, may rely on us for all messages, mesh or no mesh."""
        self._peers[peer].trusting = trusting

    def remove(self, peer: ID) -> None:
        """It is gone; how long it must not be grafted is remembered."""
        self._peers.pop(peer, None)
        self.part(peer)

    def part(self, peer: ID) -> None:
        """Our stream to it broke: it is in no mesh, but still in its topics."""
        self._control.pop(peer, None)
        for members in (*self.topics.values(), *self._refused.values()):
            members.discard(peer)

    def subscribed(self, peer: ID, topic: str, now: float) -> None:
        """The peer is in a topic."""
        known = self._peers[peer]
        if len(known.topics) >= _MOST_TOPICS or len(topic) > _LONGEST_TOPIC or topic in known.topics:
            return
        known.topics.add(topic)
        if topic in self.topics and known.gossips:
            if len(self.topics[topic]) < DEGREE_LOW:  # not only at the next heartbeat
                self._graft_some(topic, [peer], 1, now)
            self._tell(peer, topic, self.recent.ids(topic, _MOST_TOLD))

    def unsubscribed(self, peer: ID, topic: str) -> None:
        """The peer has left a topic."""
        self._peers[peer].topics.discard(topic)
        if topic in self.topics:
            self.topics[topic].discard(peer)
            self._refused[topic].discard(peer)

    def subscribers(self, topic: str) -> set[ID]:
        """Peers that are in a topic."""
        return {peer for peer, known in self._peers.items() if topic in known.topics}

    # ---- this node ----

    def join(self, topic: str, now: float) -> None:
        self.topics[topic] = set()
        self._fill(topic, now)

    def leave(self, topic: str, now: float) -> None:
        for peer in self.topics.pop(topic):
            self._prune(peer, topic, _LEAVE_BACKOFF_S, now)
        self._refused.pop(topic, None)

    def receivers(self, topic: str, *, source: ID | None, origin: ID | None = None) -> list[ID]:
        """Who is sent a message that came from `source` (None: from this node) and was made by `origin`."""
        if source is None:
            return list(self.subscribers(topic))
        mesh, refused = self.topics.get(topic, ()), self._refused[topic]
        return [
            peer
            for peer, known in self._peers.items()
            if topic in known.topics
            and (not known.gossips or known.trusting or peer in mesh or peer in refused)
            and peer not in (source, origin)
        ]

    def take_control(self) -> dict[ID, ControlMessage]:
        """What is to be sent to whom."""
        taken, self._control = self._control, defaultdict(ControlMessage)
        return taken

    # ---- control messages ----

    def control(self, peer: ID, message: ControlMessage, now: float) -> list[bytes]:
        """What a peer says; the messages (as they travel) that it asked for."""
        if not self._peers[peer].gossips:
            return []
        for graft in message.graft[:_MOST_ENTRIES]:
            self._grafted(peer, graft.topicID, now)
        for prune in message.prune[:_MOST_ENTRIES]:
            self._pruned(peer, prune.topicID, float(prune.backoff) or PRUNE_BACKOFF_S, now)
        for ihave in message.ihave[:_MOST_IHAVE]:
            if ihave.topicID in self.topics and self._may("ihave", peer, 1, _MOST_IHAVE):
                self._ask(peer, ihave.messageIDs, now)
        return [one for iwant in message.iwant[:_MOST_ENTRIES] for one in self._give(peer, iwant.messageIDs)]

    def _grafted(self, peer: ID, topic: str, now: float) -> None:
        mesh = self.topics.get(topic)
        if mesh is None or peer in mesh:
            return
        self._refused[topic].discard(peer)
        if len(mesh) >= DEGREE_HIGH or self._backoff.get((topic, peer), 0.0) > now:
            self._prune(peer, topic, PRUNE_BACKOFF_S, now)
        else:
            mesh.add(peer)

    def _pruned(self, peer: ID, topic: str, backoff_s: float, now: float) -> None:
        if topic in self.topics:
            self.topics[topic].discard(peer)
            self._refused[topic].add(peer)
            self._back_off(peer, topic, min(backoff_s, _LONGEST_BACKOFF_S), now)

    def _ask(self, peer: ID, ids: Sequence[bytes], now: float) -> None:
        """IHAVE: ask for what was not seen."""
        wanted = [
            one
            for one in ids[:_MOST_WANTED]
            if len(one) <= _LONGEST_ID and one not in self.seen and self._asked.get(one, 0.0) <= now
        ]
        room = min(_MOST_WANTED - self._done["wanted", peer], 10 * _MOST_WANTED - len(self._asked))
        if wanted := wanted[: max(0, room)]:
            self._done["wanted", peer] += len(wanted)
            self._asked.update(dict.fromkeys(wanted, now + _ASK_AGAIN_S))
            self._control[peer].iwant.add(messageIDs=wanted)

    def _give(self, peer: ID, ids: Iterable[bytes]) -> Iterator[bytes]:
        """IWANT: what is still there."""
        for one in ids:
            if not self._may("given", peer, 1, _MOST_GIVEN):
                return
            if (frame := self.recent.give(one, peer)) is not None:
                yield frame

    def _may(self, kind: str, peer: ID, count: int, most: int) -> bool:
        self._done[kind, peer] += count
        return self._done[kind, peer] <= most

    # ---- upkeep ----

    def heartbeat(self, now: float) -> None:
        """Once a second: meshes of the right size, gossip to others, what is old forgotten."""
        self._done.clear()
        self._backoff = {key: until for key, until in self._backoff.items() if until > now}
        self._asked = {one: until for one, until in self._asked.items() if until > now}
        for topic, mesh in self.topics.items():
            if len(mesh) < DEGREE_LOW:
                self._fill(topic, now)
            elif len(mesh) > DEGREE_HIGH:
                for peer in self._chance.sample(sorted(mesh, key=ID.to_bytes), len(mesh) - DEGREE):
                    mesh.discard(peer)
                    self._prune(peer, topic, PRUNE_BACKOFF_S, now)
            self._gossip(topic, mesh)
        self.recent.shift()
        self.seen.expire(now)

    def _fill(self, topic: str, now: float) -> None:
        self._graft_some(topic, list(self.subscribers(topic)), DEGREE - len(self.topics[topic]), now)

    def _graft_some(self, topic: str, peers: list[ID], count: int, now: float) -> None:
        mesh = self.topics[topic]
        eligible = [
            peer
            for peer in peers
            if self._peers[peer].gossips and peer not in mesh and self._backoff.get((topic, peer), 0.0) <= now
        ]
        for peer in self._chance.sample(eligible, min(count, len(eligible))):
            mesh.add(peer)
            self._refused[topic].discard(peer)
            self._control[peer].graft.add(topicID=topic)

    def _gossip(self, topic: str, mesh: set[ID]) -> None:
        if not (ids := self.recent.ids(topic, _MOST_TOLD)):
            return
        outside = [peer for peer in self.subscribers(topic) - mesh if self._peers[peer].gossips]
        count = min(len(outside), max(_GOSSIP_PEERS, int(len(outside) * _GOSSIP_FACTOR)))
        for peer in self._chance.sample(outside, count):
            self._tell(peer, topic, ids)

    def _tell(self, peer: ID, topic: str, ids: list[bytes]) -> None:
        if ids:
            self._control[peer].ihave.add(topicID=topic, messageIDs=ids)

    def _prune(self, peer: ID, topic: str, backoff_s: float, now: float) -> None:
        """Tell a peer that it is not in our mesh, and when it may ask again."""
        if not any(one.topicID == topic for one in self._control[peer].prune):
            self._control[peer].prune.add(topicID=topic, backoff=int(backoff_s))
        self._back_off(peer, topic, backoff_s, now)

    def _back_off(self, peer: ID, topic: str, seconds: float, now: float) -> None:
        if (topic, peer) in self._backoff or len(self._backoff) < _MOST_BACKOFFS:
            self._backoff[topic, peer] = max(self._backoff.get((topic, peer), 0.0), now + seconds)
