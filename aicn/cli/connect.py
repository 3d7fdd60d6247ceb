"""`aicn connect`: dial a peer now."""

from __future__ import annotations

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.output import json_option, show_json


@click.command(short_help="Connect the node to a peer.")
@click.argument("multiaddr")
@api_option
@json_option
def command(*, multiaddr: str, api: str, as_json: bool) -> None:
    """Connect the running node to the peer at MULTIADDR, such as /ip4/10.0.20.43/tcp/6001/p2p/16Uiu2HA… (aicn id shows it)."""
    with open_api(api) as node:
        node.post("/api/v0/swarm/connect", {"node_addr": multiaddr})
    if as_json:
        show_json({"connected": multiaddr})
    else:
        click.echo(f"Connected to {multiaddr}")
