"""`aicn daemon`: a node in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from aicn.config.load import load

DEFAULT_CONFIG = Path("~/.aicn/config.toml")

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="AICN_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    show_envvar=True,
    metavar="FILE",
    help="The configuration, as aicn init writes it.",
)


@click.command(short_help="Run a node until it is told to stop.")
@config_option
@click.pass_context
def command(ctx: click.Context, *, config_file: Path) -> None:
    """Run a node until SIGTERM or Ctrl-C, which let running requests finish; a second signal ends it at once.

    Exit code 0 after a stop, 2 when the configuration cannot be used, 1 when the node cannot start.
    """
    config = load(config_file.expanduser())
    from aicn import compose

    ctx.exit(compose.run(config))
