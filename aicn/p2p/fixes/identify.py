"""Identify says who we are.

identity/identify/identify.py:40, :41 make the protocol version and the agent constants of the library; a host cannot have its own.
Test: tests/flow/test_host.py::test_identify_names_the_agent.
"""

from __future__ import annotations

from libp2p.abc import IHost
from libp2p.identity.identify import identify
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.identity.identify_push import identify_push
from multiaddr import Multiaddr

from aicn.domain.nodes import PROTOCOL_VERSION
from aicn.p2p.fixes.patch import replace

_upstream = identify._mk_identify_protobuf  # noqa: SLF001


def make_message(host: IHost, observed_multiaddr: Multiaddr | None) -> Identify:
    """The library's message with our versions; the host names its agent as `agent_version`."""
    message = _upstream(host, observed_multiaddr)
    message.protocol_version = PROTOCOL_VERSION
    message.agent_version = getattr(host, "agent_version", identify.AGENT_VERSION)
    return message


def apply() -> None:
    replace(identify, "_mk_identify_protobuf", make_message)
    replace(identify_push, "_mk_identify_protobuf", make_message)
