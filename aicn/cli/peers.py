"""`aicn peers`: whom the running node is connected to."""

from __future__ import annotations

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.output import json_option, show_json, show_table


@click.command(short_help="List the peers that the node is connected to.")
@api_option
@json_option
def command(*, api: str, as_json: bool) -> None:
    """List the open connections of the running node: peer, address, round-trip time, who dialed."""
    with open_api(api) as node:
        connections = node.post("/api/v0/swarm/peers")
    if as_json:
        show_json(connections)
        return
    show_table(
        ("peer", "address", "latency", "direction"),
        [(c["peer"], c["addr"], c["latency"], c["direction"]) for c in connections],
        empty="Connected to nobody. To connect: aicn connect MULTIADDR",
    )
