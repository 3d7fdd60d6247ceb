"""`aicn bench churn`: what clients see of a network whose workers fail."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from aicn.cli.churn.faults import MODES
from aicn.cli.demo import workplace
from aicn.cli.loop import run
from aicn.cli.output import json_option, note, show_json, show_table

if TYPE_CHECKING:
    from aicn.cli.churn.faults import Mode

_MOST_WORKERS = 50
_COLUMNS = ("figure", "undisturbed", "disturbed", "to reach", "reached")


@click.group(short_help="Measure a network of processes on this machine.")
def command() -> None:
    """Networks of processes on loopback, measured."""


@command.command()
@click.option("--mode", type=click.Choice(MODES), default="kill", show_default=True, help="What is done to workers.")
@click.option("--workers", type=click.IntRange(2, _MOST_WORKERS), default=5, show_default=True, help="How many.")
@click.option("--streams", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="Answers in all.")
@click.option("--clients", type=click.IntRange(1, 1000), default=32, show_default=True, help="Answers at once.")
@click.option("--tokens", type=click.IntRange(1, 10_000), default=40, show_default=True, help="Of an answer.")
@click.option(
    "--token-delay",
    type=click.FloatRange(0, 60),
    default=0.02,
    show_default=True,
    metavar="SECONDS",
    help="Before each of them.",
)
@click.option(
    "--every",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="From one fault to the next.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Decides who fails, in which order and how.")
@click.option("--keep", is_flag=True, help="Keep the nodes' directory with their configurations, keys and logs.")
@json_option
def churn(
    *,
    mode: Mode,
    workers: int,
    streams: int,
    clients: int,
    tokens: int,
    token_delay: float,
    every: float,
    seed: int,
    keep: bool,
    as_json: bool,
) -> None:
    """Start a gateway and workers, let clients stream answers from a scripted model through /v1, and kill (kill -9), freeze (SIGSTOP) or slow
    workers meanwhile. Shows what the clients saw beside the same without faults.

    Exit code 1 when something that is promised was not reached.
    """
    from aicn.cli.churn.streams import Load
    from aicn.cli.churn.trial import Trial

    trial = Trial(mode, seed, workers, every, token_delay, Load(streams, clients, tokens))
    with workplace("aicn-churn-", keep=keep) as directory:
        found = run(partial(trial.run, directory, note))
    if as_json:
        show_json(found.as_json())
    else:
        show_table(_COLUMNS, [figure.cells() for figure in found.figures], empty="")
        for line in found.wrong:
            note(line)
    if not found.good:
        raise click.exceptions.Exit(1)
