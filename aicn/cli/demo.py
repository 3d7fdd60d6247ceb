"""`aicn demo`: the whole thing at work on one machine in a few seconds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from aicn.cli.answer import Answer
from aicn.cli.chat import Conversation
from aicn.cli.client import Api, open_api
from aicn.cli.offers import Offer, ask
from aicn.cli.processes import READY_S, Daemon, Member, interruptible, open_network

_MEMBERS = (
    Member("public", "public"),
    Member("worker", "worker", local_model=True),
    Member("input", "input"),
)
_POLL_S = 0.1
_PROMPT = "In two sentences: why is the sky blue?"
_LONGEST = 96  # tokens; a small model can go on for ever


@click.command(short_help="Three nodes on loopback, a real model, one answer.")
@click.option("--prompt", default=_PROMPT, show_default=True, help="What to ask.")
@click.option("--keep", is_flag=True, help="Keep the nodes' directory with their configurations, keys and logs.")
def command(*, prompt: str, keep: bool) -> None:
    """Start a public node, a worker with the bundled language model and an input node on loopback; ask the input node, over HTTP, for
    an answer of the worker; show it as the model writes it, who served it and how fast; stop all three.
    """
    with interruptible(), workplace("aicn-demo-", keep=keep) as directory:
        click.echo("Starting three nodes on loopback, in a private network of their own:")
        with open_network(_MEMBERS, directory) as daemons:
            _, worker, entry = daemons
            with open_api(entry.plan.url) as api:
                offer = wait_for_model(api, worker, daemons)
                click.echo(f"\nAsking {entry.plan.name}: POST {entry.plan.url}/api/v0/chat/completion, stream: true")
                click.secho(f"> {prompt}", bold=True)
                answer = Answer()
                options: dict[str, object] = {"max_tokens": _LONGEST, "temperature": 0}
                Conversation(api, offer, options).ask([{"role": "user", "content": prompt}], answer)
                click.echo(f"\nServed by {worker.plan.name} {offer.node}, {offer.project} / {offer.model}")
                click.echo(f"Path      {path_to(api, worker)}")
                click.echo(f"Speed     {answer.summary()}")


def wait_for_model(api: Api, worker: Daemon, daemons: list[Daemon]) -> Offer:
    """The worker's model, as soon as the node behind `api` can see it."""
    begun = time.monotonic()
    while time.monotonic() < begun + READY_S:
        for daemon in daemons:
            daemon.check()
        asked = ask(api, [worker.plan.peer_id])[0]
        if asked.offers:
            offer = asked.offers[0]
            click.echo(f"  {worker.plan.name:<9} offers {offer.project} / {offer.model}, seen from {api.url}")
            return offer
        time.sleep(_POLL_S)
    reason = asked.error or "it offers none"
    raise click.ClickException(
        f"{worker.plan.name} has no model after {READY_S:.0f} s: {reason}. {worker.last_words()}"
    )


def path_to(api: Api, worker: Daemon) -> str:
    """How the node behind `api` is connected to `worker`, in words."""
    for connection in api.post("/api/v0/swarm/peers"):
        if connection["peer"] == worker.plan.peer_id:
            how = "relayed" if "/p2p-circuit" in connection["addr"] else "direct"
            measured = f", round trip {connection['latency']}" if connection["latency"] != "0s" else ""
            return f"{how}, {connection['addr']} ({connection['direction'].lower()}{measured})"
    return "no longer connected"


@contextmanager
def workplace(prefix: str, *, keep: bool) -> Iterator[Path]:
    """A temporary directory; with `keep` it stays, and is named at the end."""
    if not keep:
        with tempfile.TemporaryDirectory(prefix=prefix) as directory:
            yield Path(directory)
        return
    kept = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield kept
    finally:
        click.echo(f"Kept: {kept}")
