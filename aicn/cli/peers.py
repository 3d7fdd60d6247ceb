"""`aicn peers`: whom the running node is connected to, or knows of."""

from __future__ import annotations

from typing import Any

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.output import json_option, show_json, show_table


@click.command(short_help="List the peers that the node is connected to.")
@click.option("--known", is_flag=True, help="List the addresses of all peers that the node has heard of instead.")
@api_option
@json_option
def command(*, known: bool, api: str, as_json: bool) -> None:
    """List the open connections of the running node: peer, address, round-trip time, who dialed."""
    with open_api(api) as node:
        found = node.post("/api/v0/swarm/addrs" if known else "/api/v0/swarm/peers")
    if as_json:
        show_json(found)
    elif known:
        _show_known(found)
    else:
        show_table(
            ("peer", "address", "latency", "direction"),
            [(c["peer"], c["addr"], c["latency"], c["direction"]) for c in found],
            empty="Connected to nobody. To connect: aicn connect MULTIADDR",
        )


def _show_known(found: list[dict[str, Any]]) -> None:
    rows = [(one["peer"], address) for one in found for address in one["addrs"]]
    show_table(("peer", "address"), rows, empty="No address is known.")
