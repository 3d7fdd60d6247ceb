"""`aicn id`: who the running node is."""

from __future__ import annotations

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.output import json_option, show_facts, show_json


@click.command(short_help="Show who the running node is.")
@api_option
@json_option
def command(*, api: str, as_json: bool) -> None:
    """Show peer id, version, addresses and protocols of the running node."""
    with open_api(api) as node:
        info = node.get("/api/v0/id")
    if as_json:
        show_json(info)
        return
    addresses = [f"{address}/p2p/{info['peer_id']}" for address in info["addresses"] or ()]
    show_facts(
        [
            ("peer id", info["peer_id"]),
            ("version", info["agent_version"]),
            ("addresses", addresses),
            ("protocols", info["protocols"]),
        ]
    )
