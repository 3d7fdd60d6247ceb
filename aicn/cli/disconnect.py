"""`aicn disconnect`: leave a peer."""

from __future__ import annotations

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.output import json_option, show_json


@click.command(short_help="Disconnect the node from a peer.")
@click.argument("address")
@api_option
@json_option
def command(*, address: str, api: str, as_json: bool) -> None:
    """Close the running node's connections to the peer at ADDRESS: a multiaddr that ends in /p2p/<id>, or /p2p/<id> alone.

    The node does not dial that peer any more until `aicn connect` says so, or the peer connects by itself.
    """
    with open_api(api) as node:
        node.post("/api/v0/swarm/disconnect", {"node_addr": address})
    if as_json:
        show_json({"disconnected": address})
    else:
        click.echo(f"Disconnected from {address}")
