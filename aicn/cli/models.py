"""`aicn models`: who offers what."""

from __future__ import annotations

from collections.abc import Iterable

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.offers import Asked, Offer, ask, network, own_id
from aicn.cli.output import json_option, note, show_json, show_table


@click.command(short_help="List the models of the network.")
@click.option("--node", "nodes", multiple=True, metavar="ID", help="Ask this node only; repeatable.")
@api_option
@json_option
@click.pass_context
def command(ctx: click.Context, *, nodes: tuple[str, ...], api: str, as_json: bool) -> None:
    """List the models of all nodes that the running node knows of; or of the nodes named, which are asked themselves.

    Exit code 1 when a node that was named does not answer.
    """
    with open_api(api) as node:
        me = own_id(node)
        asked = ask(node, list(dict.fromkeys(nodes))) if nodes else _by_node(network(node))
    if as_json:
        show_json([_as_json(one, me) for one in asked])
    else:
        rows = [(offer.node, offer.project, offer.model) for one in asked for offer in one.offers]
        show_table(
            ("node", "project", "model"), rows, empty="No models. To offer one: aicn register PROJECT --model NAME URL"
        )
        for one in asked:
            if one.error:
                note(one.complaint)
    ctx.exit(1 if nodes and any(one.error for one in asked) else 0)


def _by_node(offers: Iterable[Offer]) -> list[Asked]:
    of_node: dict[str, list[Offer]] = {}
    for offer in offers:
        of_node.setdefault(offer.node, []).append(offer)
    return [Asked(node, tuple(found)) for node, found in of_node.items()]


def _as_json(one: Asked, me: str) -> dict[str, object]:
    found: dict[str, object] = {"node": one.node, "self": one.node == me}
    if one.error:
        return found | {"error": one.error}
    return found | {"models": [{"project": offer.project, "model": offer.model} for offer in one.offers]}
