"""`aicn`: the table of commands. Nothing heavy is imported before a command is chosen, so that --help is quick."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import click

from aicn import __version__
from aicn.errors import AicnError, ConfigError

# name → (module that has it as `command`, the line that `aicn --help` shows)
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "init": ("aicn.cli.init", "Write the configuration and the key of a new node."),
        "daemon": ("aicn.cli.daemon", "Run a node until it is told to stop."),
        "config": ("aicn.cli.configuration", "Check or show a configuration."),
        "id": ("aicn.cli.id", "Show who the running node is."),
        "host": ("aicn.cli.host", "Show the machine of a node."),
        "status": ("aicn.cli.status", "Show how the running node is doing."),
        "peers": ("aicn.cli.peers", "List the peers that the node is connected to."),
        "connect": ("aicn.cli.connect", "Connect the node to a peer."),
        "disconnect": ("aicn.cli.disconnect", "Disconnect the node from a peer."),
        "models": ("aicn.cli.models", "List the models of the network."),
        "route": ("aicn.cli.route", "Show whom the node would ask for a model, and why."),
        "why": ("aicn.cli.why", "Show what became of a request, and why."),
        "register": ("aicn.cli.register", "Offer models on this node."),
        "unregister": ("aicn.cli.unregister", "Stop offering a project or one of its models."),
        "keys": ("aicn.cli.keys", "Make, list and revoke API keys."),
        "usage": ("aicn.cli.usage", "Show what was asked of models, by key, model and node."),
        "chat": ("aicn.cli.chat", "Talk to a model; the answer appears as it is written."),
        "dev": ("aicn.cli.dev", "Try a node without a model, or check a model endpoint."),
        "image": ("aicn.cli.image", "Draw images by a model; they are saved as files."),
        "bench": ("aicn.cli.bench", "Measure a network of processes on this machine."),
        "demo": ("aicn.cli.demo", "Three nodes on loopback, a real model, one answer."),
        "testnet": ("aicn.cli.testnet", "Four nodes on loopback, until Ctrl-C."),
    }
)


class Unusable(click.ClickException):
    """The configuration cannot be used."""

    exit_code = 2


class Commands(click.Group):
    """A group that knows its commands by name and imports the called one."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """The boundary where our errors become exit codes: 2 for a configuration that cannot be used, else 1."""
        try:
            return super().invoke(ctx)
        except AicnError as error:
            kind = Unusable if isinstance(error, ConfigError) else click.ClickException
            raise kind(error.message) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aicn")
def cli() -> None:
    """A peer-to-peer AI inference node.

    Begin with: aicn init, then aicn daemon. Or see it all work: aicn demo.
    """


def main() -> None:
    """The entry point of the `aicn` program."""
    cli(prog_name="aicn")


if __name__ == "__main__":
    main()
