"""This node as a member of the existing network's topic, as long as a block runs.

open_membership
 └─ nursery
     ├─ conversation.run      reads the topic; a task per question of others
     ├─ neighbours.run        questions to nodes that come
     └─ heartbeats.run        what this node offers; withdrawn by the directory when it leaves

A node whose membership is switched off hands the topic's messages on, those that harm nobody, and says nothing there itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from aicn.services.legacy.answering import Answering
from aicn.services.legacy.conversation import Conversation
from aicn.services.legacy.heartbeats import Heartbeats
from aicn.services.legacy.neighbours import Neighbours


class Membership:
    """What belongs together on the topic. Made by `open_membership`."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation

    async def drain(self) -> None:
        """Answer nothing new, and return when what was asked before is answered. The caller has a deadline."""
        await self.conversation.drain()


@asynccontextmanager
async def open_membership(
    conversation: Conversation, answering: Answering, neighbours: Neighbours, heartbeats: Heartbeats, *, enabled: bool
) -> AsyncIterator[Membership]:
    """Answer questions, and hear and say who offers what, while the block runs."""
    membership = Membership(conversation)
    conversation.join()
    if not enabled:
        yield membership
        return
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(conversation.run, answering.answer, neighbours.heard)
        nursery.start_soon(heartbeats.run)
        nursery.start_soon(neighbours.run)
        try:
            yield membership
        except Exception as error:  # noqa: BLE001 - raised again below: the nursery would wrap it in a group
            failure = error
        finally:
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
