"""`aicn config check|show`: what a node would make of its configuration."""

from __future__ import annotations

from pathlib import Path

import click

from aicn.cli.daemon import config_option
from aicn.cli.output import json_option, show_json
from aicn.config.keys import keys, sections, value_of
from aicn.config.load import load
from aicn.config.save import render_plain


@click.group(short_help="Check or show a configuration.")
def command() -> None:
    """Check or show the configuration of a node, environment variables included."""


@command.command()
@config_option
def check(*, config_file: Path) -> None:
    """Say whether a node could use the configuration; exit code 2 and what is wrong if not."""
    load(config_file.expanduser())
    click.echo(f"{config_file.expanduser()}: good")


@command.command()
@config_option
@json_option
def show(*, config_file: Path, as_json: bool) -> None:
    """Show every key with the value in force; secrets are masked."""
    config = load(config_file.expanduser())
    if as_json:
        show_json(
            {
                name: {k.name: _plain(value_of(config, k, mask=True)) for k in keys() if k.section == name}
                for name in sections()
            }
        )
    else:
        click.echo(render_plain(config), nl=False)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
