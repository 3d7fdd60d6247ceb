"""`aicn unregister`: stop offering."""

from __future__ import annotations

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.output import json_option, show_json


@click.command(short_help="Stop offering a project or one of its models.")
@click.argument("project")
@click.option("--model", metavar="NAME", help="This model only; without it the whole project.")
@api_option
@json_option
def command(*, project: str, model: str | None, api: str, as_json: bool) -> None:
    """Stop offering PROJECT, or one model of it, on the running node. No error when it was not offered."""
    body: dict[str, object] = {"project": project}
    if model:
        body["model"] = model
    with open_api(api) as node:
        node.post("/api/v0/ai/project/unregister", body)
    if as_json:
        show_json(body)
    else:
        click.echo(f"No longer offered: {project}" + (f" / {model}" if model else ""))
