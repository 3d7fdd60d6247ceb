"""`aicn keys`: who may use the node's HTTP API."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.loop import run
from aicn.cli.output import json_option, note, show_json, show_table
from aicn.wire.v0 import keys as wire

_DAY_S = 86_400


@click.group(short_help="Make, list and revoke API keys.")
def command() -> None:
    """API keys of the running node: who may use its HTTP API, for which models and how much.

    Clients on the node's own machine need none, unless keys.required is "always".
    """


@command.command()
@click.argument("name")
@click.option(
    "--models",
    multiple=True,
    metavar="PATTERN",
    help="Models that it is for: project/model, or a model's name in any project; * stands for anything. Repeatable. None: all.",
)
@click.option("--rpm", type=click.IntRange(1, wire.MOST_RATE), help="Requests in any minute.")
@click.option(
    "--tokens-per-day", type=click.IntRange(1, wire.MOST), help="Tokens of prompts and answers, from midnight UTC on."
)
@click.option("--concurrency", type=click.IntRange(1, wire.MOST_RATE), help="Requests at work at once.")
@click.option("--days", type=click.IntRange(1, 36_500), help="Days until it expires.")
@click.option(
    "--admin", is_flag=True, help="It may also do what changes the node: register models, connect peers, make keys."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The data directory of a node that does not run now, instead of a running node.",
)
@api_option
@json_option
def create(
    *,
    name: str,
    models: tuple[str, ...],
    rpm: int | None,
    tokens_per_day: int | None,
    concurrency: int | None,
    days: int | None,
    admin: bool,
    data: Path | None,
    api: str,
    as_json: bool,
) -> None:
    """Make a key called NAME, and show it this once. Limits that are not named are none."""
    body: dict[str, object] = {
        "name": name,
        "models": list(models),
        "requests_per_minute": rpm,
        "tokens_per_day": tokens_per_day,
        "concurrency": concurrency,
        "expires_at": int(time.time()) + days * _DAY_S if days is not None else None,
        "admin": admin,
    }
    if data is not None:
        made = _stored(data, body)
    else:
        with open_api(api) as node:
            made = node.post("/api/v0/keys/create", body)
    if as_json:
        show_json(made)
        return
    click.echo(made["key"])
    note(
        f"This is shown once. Clients send it as: Authorization: Bearer aicn_…; revoke it with: aicn keys revoke {made['id']}"
    )


@command.command("list")
@api_option
@json_option
def list_(*, api: str, as_json: bool) -> None:
    """Show all keys, without their secrets."""
    with open_api(api) as node:
        found = node.get("/api/v0/keys")
    if as_json:
        show_json(found)
        return
    rows = [
        (
            one["id"],
            one["name"],
            "admin" if one["admin"] else " ".join(one["models"]) or "all models",
            one["requests_per_minute"] or "-",
            one["tokens_per_day"] or "-",
            one["concurrency"] or "-",
            datetime.fromtimestamp(one["expires_at"], UTC).strftime("%Y-%m-%d %H:%M") if one["expires_at"] else "-",
        )
        for one in found
    ]
    columns = ("id", "name", "for", "per minute", "tokens per day", "at once", "expires (UTC)")
    show_table(columns, rows, empty="No keys. Make one with: aicn keys create NAME")


@command.command()
@click.argument("key_id")
@api_option
def revoke(*, key_id: str, api: str) -> None:
    """Refuse the key KEY_ID from now on. What it has used stays in aicn usage."""
    with open_api(api) as node:
        node.post("/api/v0/keys/revoke", {"id": key_id})
    click.echo(f"Refused from now on: {key_id}")


def _stored(data: Path, body: dict[str, object]) -> dict[str, Any]:
    from aicn import compose

    key, secret = run(partial(compose.store_key, data, *wire.decode_create(json.dumps(body).encode())))
    return {"key": secret, **wire.encode_key(key)}
