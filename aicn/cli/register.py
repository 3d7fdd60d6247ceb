"""`aicn register`: offer models on the running node."""

from __future__ import annotations

from typing import TextIO

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.offers import ask, own_id
from aicn.cli.output import json_option, note, show_json

TYPES = ("text", "text-to-image", "image-to-image", "text-to-embedding")  # at their numbers of the API, from 0
_LONGEST_KEY_FILE = 65_536  # characters read: the node says what is too long


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
@click.option("--type", "kind", type=click.Choice(TYPES), default="text", show_default=True, help="What the models do.")
@click.option(
    "--api-key",
    envvar="AICN_API_KEY",
    show_envvar=True,
    metavar="KEY",
    help="Sent to the URLs as a bearer token. Other users of the machine see command lines: better in the variable or a file.",
)
@click.option("--api-key-file", type=click.File(), metavar="FILE", help="A file with that key; - reads standard input.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    callback=lambda _ctx, _param, lines: _headers(lines),
    help="Sent to the URLs, too; repeatable.",
)
@click.option(
    "--context",
    type=click.IntRange(1),
    metavar="TOKENS",
    help="Longest conversation that the models take: nodes do not send them longer ones.",
)
@click.option("--probe", is_flag=True, help="Ask each URL first, and offer nothing when one does not work.")
@api_option
@json_option
def command(
    *,
    project: str,
    models: tuple[tuple[str, str], ...],
    kind: str,
    api_key: str | None,
    api_key_file: TextIO | None,
    headers: dict[str, str],
    context: int | None,
    probe: bool,
    api: str,
    as_json: bool,
) -> None:
    """Offer the models of PROJECT to the network, in place of what the node offered of PROJECT before.

    Example: aicn register DecentralGPT --model Llama3-70B http://127.0.0.1:1042/v1/chat/completions
    """
    if api_key_file is not None:
        api_key = api_key_file.read(_LONGEST_KEY_FILE).strip()
    more: dict[str, object] = {"context": context} if context else {}
    more |= ({"api_key": api_key} if api_key else {}) | ({"headers": headers} if headers else {})
    entries = [{"model": name, "api": url, "type": TYPES.index(kind), **more} for name, url in models]
    with open_api(api) as node:
        before = {offer.model for offer in ask(node, [own_id(node)])[0].offers if offer.project == project}
        body: dict[str, object] = {"project": project, "models": entries} | ({"probe": True} if probe else {})
        node.post("/api/v0/ai/project/register", body)
    names = [name for name, _ in models]
    if as_json:
        show_json({"project": project, "models": names, "replaced": sorted(before - set(names))})
        return
    click.echo(f"Offered in {project}: {', '.join(names)}")
    if gone := sorted(before - set(names)):
        note(f"No longer offered (registering replaces a project's list): {', '.join(gone)}")


def _headers(lines: tuple[str, ...]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name in headers:
            raise click.BadParameter(
                "each must be NAME: VALUE, and each name another"
            )  # not repeated: it may be a secret
        headers[name] = value.strip()
    return headers
