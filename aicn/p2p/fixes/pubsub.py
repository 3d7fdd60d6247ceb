"""Pubsub keeps a burst of messages.

pubsub/pubsub.py:124, used at :1405: a subscription holds 32 messages and silently drops what comes before its reader ran.
Test: tests/unit/p2p/test_fixes.py::test_a_subscription_holds_a_burst.
"""

from __future__ import annotations

from libp2p.pubsub import pubsub

from aicn.p2p.fixes.patch import replace

QUEUE = 4096  # messages: of a network of thousands of nodes that all say hello at once


def apply() -> None:
    replace(pubsub, "SUBSCRIPTION_CHANNEL_SIZE", QUEUE)
