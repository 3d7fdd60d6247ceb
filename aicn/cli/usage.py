"""`aicn usage`: what was asked of models through the node."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.output import json_option, show_json, show_table
from aicn.wire.v0.keys import MOST_DAYS


@click.command(short_help="Show what was asked of models, by key, model and node.")
@click.option("--days", type=click.IntRange(1, MOST_DAYS), default=1, show_default=True, help="How far back.")
@click.option("--hours", is_flag=True, help="One row per hour.")
@click.option("--key", metavar="ID", help="Of this key alone.")
@api_option
@json_option
def command(*, days: int, hours: bool, key: str | None, api: str, as_json: bool) -> None:
    """Show what was asked of models through the running node, by API key, model and node."""
    query = {"days": days, "by": "hour" if hours else "total"} | ({"key": key} if key is not None else {})
    with open_api(api) as node:
        found = node.get(f"/api/v0/usage?{urlencode(query)}")
    if as_json:
        show_json(found)
        return
    columns = ("key", "model", "node", "requests", "failed", "prompt", "answer", "estimated")
    rows = [_row(one) for one in found]
    if hours:
        rows = [(_hour(one), *row) for one, row in zip(found, rows, strict=True)]
    show_table(("hour (UTC)", *columns) if hours else columns, rows, empty="Nothing was asked.")


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    return (
        one["key"] or "-",
        f"{one['project']}/{one['model']}" if one["model"] else "-",
        one["node_id"] or "-",
        one["requests"],
        one["failed"],
        one["prompt_tokens"],
        one["completion_tokens"],
        one["estimated_tokens"],
    )


def _hour(one: dict[str, Any]) -> str:
    return datetime.fromtimestamp(one["hour"], UTC).strftime("%Y-%m-%d %H:%M")
