"""Pubsub keeps a burst of messages.

pubsub/pubsub.py:124, used at :1405: a subscription holds 32 messages and silently drops what comes before its reader ran.
pubsub/rpc_queue.py:39, used at pubsub.py:948: as many may wait to be sent to one peer, and more are silently dropped too.
Tests: tests/unit/p2p/test_fixes.py::test_a_subscription_holds_a_burst, tests/flow/test_host_network.py::test_a_burst_of_messages_arrives.
"""

from __future__ import annotations

from functools import partial

from libp2p.pubsub import pubsub
from libp2p.pubsub.rpc_queue import RpcQueue

from aicn.p2p.fixes.patch import replace

RECEIVED = 4096  # messages: what a network of thousands of nodes says at once
TO_SEND = 1024  # messages per peer; 1 MiB each at most, which peers that do not read cost us until they are found out


def apply() -> None:
    replace(pubsub, "SUBSCRIPTION_CHANNEL_SIZE", RECEIVED)
    replace(pubsub, "RpcQueue", partial(RpcQueue, max_size=TO_SEND))
