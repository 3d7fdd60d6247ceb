"""`aicn testnet`: the topology of docker-compose.yml as processes, to play with."""

from __future__ import annotations

import json
import shlex
import time

import click

from aicn.cli.chat import CHAT_PATH
from aicn.cli.client import DEFAULT_API, open_api
from aicn.cli.demo import wait_for_model, workplace
from aicn.cli.offers import Offer
from aicn.cli.processes import Member, interruptible, open_network, port_of

_MEMBERS = (
    Member("public", "public"),
    Member("worker-1", "worker", local_model=True),
    Member("worker-2", "worker"),
    Member("input", "input", port=port_of(DEFAULT_API)),  # so that the other commands find it without --api
)
_WATCH_S = 0.5


@click.command(short_help="Four nodes on loopback, until Ctrl-C.")
@click.option("--keep", is_flag=True, help="Keep the nodes' directory with their configurations, keys and logs.")
def command(*, keep: bool) -> None:
    """Start a public node, two workers (the first with the bundled language model) and an input node on loopback, and keep them
    running until Ctrl-C.
    """
    with interruptible(), workplace("aicn-testnet-", keep=keep) as directory:
        click.echo("Starting four nodes on loopback, in a private network of their own:")
        with open_network(_MEMBERS, directory) as daemons:
            _, worker, _, entry = daemons
            with open_api(entry.plan.url) as api:
                offer = wait_for_model(api, worker, daemons)
            click.echo(f"\nConfigurations and logs: {directory}")
            click.echo(f"Ask the input node for an answer of worker-1:\n\n{_curl(entry.plan.url, offer)}\n")
            option = "" if entry.plan.url == DEFAULT_API else f" --api {entry.plan.url}"
            click.echo(f"or: aicn chat{option}\nCtrl-C stops all four.")
            try:
                while True:
                    time.sleep(_WATCH_S)
                    for daemon in daemons:
                        daemon.check()
            except KeyboardInterrupt:
                click.echo()


def _curl(url: str, offer: Offer) -> str:
    body = {
        "node_id": offer.node,
        "project": offer.project,
        "model": offer.model,
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
    }
    return f"curl -N {url}{CHAT_PATH} -H 'Content-Type: application/json' \\\n  -d {shlex.quote(json.dumps(body))}"
