"""What this node offers, told to the nodes of the existing network: they know it by its heartbeats only, and forget it without.

    there is somebody on the topic, for the first time ┐
    what is registered here has changed ───────────────┼──► at once, at most every PAUSE_S
    a node of the existing network has come ───────────┘    ... every NEWCOMERS_S: it has heard nothing of before
    `every_s` has passed ──────────────────────────────────► if the existing network has nodes here
    this node stops ───────────────────────────────────────► an empty one: it offers nothing any more

A heartbeat goes to every node of the network. Where all nodes make offers of their own (`needed` says no) none is repeated, and what
is left is one for each change: so that also those hear it at once of whom this node does not know yet.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from math import inf

import trio

from aicn.domain.ids import PeerId
from aicn.domain.offers import NodeType
from aicn.domain.registration import Project
from aicn.errors import AicnError
from aicn.services.legacy.conversation import Conversation
from aicn.wire.legacy import bodies
from aicn.wire.legacy.envelope import HEARTBEAT

log = logging.getLogger(__name__)

PAUSE_S = 0.5  # between two: many registrations in a row make few of them
NEWCOMERS_S = 2.0  # between two for newcomers, of whom there are many when a network starts
_SPREAD_S = 0.02  # per known node: all of them may hear of the first newcomer at once


class Heartbeats:
    """Says `projects` in the name of this node."""

    def __init__(
        self,
        conversation: Conversation,
        projects: Callable[[], Sequence[Project]],
        needed: Callable[[], bool],
        members: Callable[[], Sequence[PeerId]],
        *,
        node_type: NodeType,
        every_s: float,
    ) -> None:
        """`needed`: whether there are nodes that know this one by its heartbeats only; `members`: who is connected at all."""
        self._conversation = conversation
        self._projects = projects
        self._needed = needed
        self._members = members
        self._node_type = node_type
        self._every_s = every_s
        self._due = inf  # trio time
        self._must = False  # also when it is not needed
        self._woken = trio.Event()
        self._said = -inf  # trio time
        self._unheard = True  # nobody was there the last time
        self._left = False

    # ---- what happens: neither waits nor raises ----

    def changed(self) -> None:
        """Other projects are registered than before."""
        if not self._unheard:  # otherwise it is told when somebody comes
            self._must = True
            self._at(self._said + PAUSE_S)

    def met(self, legacy: bool) -> None:
        """Somebody has come to the topic, perhaps a node of the existing network."""
        if legacy or self._unheard:
            self._must = True
            self._at(self._said + NEWCOMERS_S)

    def heard_of_first(self, nodes: int) -> None:
        """Somewhere among so many nodes is the first one that needs heartbeats."""
        self._at(max(trio.current_time() + random.uniform(0, _SPREAD_S * nodes), self._said + NEWCOMERS_S))  # noqa: S311

    # ---- life ----

    async def run(self) -> None:
        """Say it when it is due, until cancelled."""
        while not self._left:
            self._woken = trio.Event()
            if trio.current_time() >= self._due:
                await self._beat()
            with trio.move_on_at(self._due):
                await self._woken.wait()

    async def leave(self) -> None:
        """Say that nothing is offered any more; it is the last word."""
        if not self._left and self._said > -inf:
            self._left = True
            await self._say((), NodeType(0))
        self._left = True

    def _at(self, when: float) -> None:
        self._due = min(self._due, when)
        self._woken.set()

    async def _beat(self) -> None:
        if not self._must and not self._needed():
            self._due = inf
            return
        self._must = False
        self._unheard = not self._members()
        self._said = trio.current_time()
        self._due = self._said + self._every_s
        projects = self._projects()
        models = NodeType.MODEL if any(project.models for project in projects) else NodeType(0)
        await self._say(projects, self._node_type | models)

    async def _say(self, projects: Sequence[Project], node_type: NodeType) -> None:
        try:
            await self._conversation.broadcast(bodies.encode_projects(projects, node_type), HEARTBEAT)
        except AicnError as error:
            log.warning("nodes of the existing network were not told what this one offers: %s", error.message)
