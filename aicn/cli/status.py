"""`aicn status`: how the running node is doing, on half a screen."""

from __future__ import annotations

from typing import Any

import click

from aicn.cli.client import Api, api_option, open_api
from aicn.cli.offers import ask, connected
from aicn.cli.output import json_option, show_facts, show_json

_NOT_READY = 503  # GET /readyz of a node that is stopping; its body says so, too


@click.command(short_help="Show how the running node is doing.")
@api_option
@json_option
@click.pass_context
def command(ctx: click.Context, *, api: str, as_json: bool) -> None:
    """Show whether the running node is ready, who it is, whom it knows and what it offers. Exit code 1 when it is not ready."""
    with open_api(api) as node:
        status = _status(node)
    if as_json:
        show_json(status)
    else:
        _show(status, api)
    ctx.exit(0 if status["ready"] else 1)


def _status(node: Api) -> dict[str, Any]:
    readiness = node.get("/readyz", also=(_NOT_READY,))
    info = node.get("/api/v0/id")
    own = ask(node, [info["peer_id"]])[0]
    return {
        **readiness,
        "ready": bool(readiness.get("ready")),
        "peer_id": info["peer_id"],
        "version": info["agent_version"],
        "addresses": info["addresses"] or [],
        "peers": connected(node),
        "models": [{"project": offer.project, "model": offer.model} for offer in own.offers],
    }


def _show(status: dict[str, Any], api: str) -> None:
    facts: list[tuple[str, object]] = [
        ("ready", "yes" if status["ready"] else "no: it is stopping"),
        ("peer id", status["peer_id"]),
        ("version", status["version"]),
        ("api", api),
        ("addresses", status["addresses"]),
        ("peers", f"{len(status['peers'])} connected"),
        ("models", [f"{offer['project']} / {offer['model']}" for offer in status["models"]]),
    ]
    if isinstance(uptime := status.get("uptime_s"), (int, float)):
        facts.append(("uptime", _duration(uptime)))
    show_facts(facts)


def _duration(seconds: float) -> str:
    """`2 d 3 h`, `5 min`, `42 s`: the two largest units."""
    units = [(86400, "d"), (3600, "h"), (60, "min"), (1, "s")]
    rest, parts = int(seconds), list[str]()
    for size, unit in units:
        count, rest = divmod(rest, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
