"""`aicn register`: offer models on the running node."""

from __future__ import annotations

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.offers import ask, own_id
from aicn.cli.output import json_option, note, show_json

_TYPES = ("text", "text-to-image", "image-to-image")  # at their numbers of the API (0, 1, 2)


@click.command(short_help="Offer models on this node.")
@click.argument("project")
@click.option(
    "--model",
    "models",
    nargs=2,
    multiple=True,
    required=True,
    metavar="NAME URL",
    help="A model and the HTTP URL that executes it; repeatable.",
)
@click.option(
    "--type", "kind", type=click.Choice(_TYPES), default="text", show_default=True, help="What the models do."
)
@api_option
@json_option
def command(*, project: str, models: tuple[tuple[str, str], ...], kind: str, api: str, as_json: bool) -> None:
    """Offer the models of PROJECT to the network, in place of what the node offered of PROJECT before.

    Example: aicn register DecentralGPT --model Llama3-70B http://127.0.0.1:1042/v1/chat/completions
    """
    entries = [{"model": name, "api": url, "type": _TYPES.index(kind)} for name, url in models]
    with open_api(api) as node:
        before = {offer.model for offer in ask(node, [own_id(node)])[0].offers if offer.project == project}
        node.post("/api/v0/ai/project/register", {"project": project, "models": entries})
    names = [name for name, _ in models]
    if as_json:
        show_json({"project": project, "models": names, "replaced": sorted(before - set(names))})
        return
    click.echo(f"Offered in {project}: {', '.join(names)}")
    if gone := sorted(before - set(names)):
        note(f"No longer offered (registering replaces a project's list): {', '.join(gone)}")
