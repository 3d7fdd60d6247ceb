"""`aicn route explain`: who would be asked for a model, and why."""

from __future__ import annotations

from urllib.parse import urlencode

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.output import json_option, show_json, show_table


@click.group(short_help="Show whom the node would ask for a model, and why.")
def command() -> None:
    """How the running node chooses among the nodes that offer a model."""


@command.command()
@click.argument("model")
@click.option("--project", metavar="NAME", help="The model is the one of this project.")
@click.option(
    "--type", "kind", type=click.IntRange(0, 3), default=0, help="0 chat, 1 image, 2 image edit, 3 embedding."
)
@api_option
@json_option
def explain(*, model: str, project: str | None, kind: int, api: str, as_json: bool) -> None:
    """Show who would be asked for MODEL (or PROJECT/MODEL) now, in which order, and why.

    The next request that begins a conversation takes this way, unless something happens before. Nothing is asked of the nodes.
    """
    query = {"model": model, "type": kind} | ({"project": project} if project else {})
    with open_api(api) as node:
        found = node.get(f"/api/v0/debug/route?{urlencode(query)}")
    if as_json:
        show_json(found)
        return
    rows = [
        ("-" if one["rank"] is None else one["rank"] + 1, one["node_id"], f"{one['seconds']:.2f} s", one["reason"])
        for one in found["nodes"]
    ]
    show_table(("place", "node", "expected", "why"), rows, empty="Nobody offers it.")
