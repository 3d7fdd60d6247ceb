"""`aicn init`: config.toml and peer.key of a new node, both or neither."""

from __future__ import annotations

import secrets
import shlex
from pathlib import Path

import click
from click.core import ParameterSource

from aicn.cli.files import write_node
from aicn.config.keys import keys
from aicn.config.presets import ROLES, preset
from aicn.config.save import render
from aicn.config.schema import Config
from aicn.config.values import check

_ROLES_HELP = "; ".join(f"{name}: {role.doc}" for name, role in ROLES.items())


def _checked(path: str, value: object, option: str) -> object:
    """An option's value as the key `path` takes it."""
    key = next(key for key in keys() if key.path == path)
    try:
        return check(key, value, base=Path())
    except ValueError:
        raise click.BadParameter(f"expected {key.expected}", param_hint=option) from None


@click.command(short_help="Write the configuration and the key of a new node.")
@click.option("--role", type=click.Choice(list(ROLES)), default="worker", show_default=True, help=_ROLES_HELP + ".")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path("~/.aicn"),
    show_default=True,
    help="Where to write; made when missing.",
)
@click.option(
    "--bootstrap", multiple=True, metavar="MULTIADDR", help="A peer to join through, with /p2p/<id>; repeatable."
)
@click.option("--psk", metavar="HEX", help="The private network key of the network to join: 64 hex digits.")
@click.option(
    "--psk-file",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    help="The file that the key stays in instead: 64 hex digits, or an IPFS network's swarm.key.",
)
@click.option("--new-psk", is_flag=True, help="Make a private network key, for a new private network.")
@click.option("--local-model", is_flag=True, help="Run the bundled language model on this node.")
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    help="The key of the node that this one is to be, instead of a new one; also a peer.key of the Go program.",
)
@click.option(
    "--from",
    "go_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Move a node of the Go program AIComputingNode over: take identity, settings and models from its configuration.",
)
@click.pass_context
def command(
    ctx: click.Context,
    *,
    role: str,
    directory: Path,
    bootstrap: tuple[str, ...],
    psk: str | None,
    psk_file: str | None,
    new_psk: bool,
    local_model: bool,
    key_file: Path | None,
    go_file: Path | None,
) -> None:
    """Write config.toml and peer.key, the start of a new node. Files that are there are never replaced."""
    if go_file is not None:
        _refuse_others(ctx)
        from aicn.cli.moving import move

        move(go_file, directory.expanduser(), key_file)
        return
    if (psk is not None) + (psk_file is not None) + new_psk > 1:
        raise click.UsageError("--psk, --psk-file and --new-psk exclude each other.")
    _checked("p2p.bootstrap", list(bootstrap), "--bootstrap")
    network_key = str(_checked("p2p.psk", psk or "", "--psk")) if not new_psk else secrets.token_hex(32)
    config = preset(role, bootstrap=bootstrap, psk=network_key, psk_file=psk_file or "", local_model=local_model)

    directory = directory.expanduser()
    from aicn.compose import identity_in, new_identity

    key_text, peer_id = new_identity() if key_file is None else identity_in(key_file)
    write_node(directory, config_text=render(config), key_text=key_text, secret=bool(network_key))
    _say(directory, peer_id, config, new_psk=new_psk)


def _refuse_others(ctx: click.Context) -> None:
    """UsageError when more is said than --from goes with."""
    for parameter in ctx.command.params:
        if parameter.name in ("go_file", "key_file", "directory"):
            continue
        if ctx.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--from goes with --dir and --key only: change {parameter.opts[0][2:]} in config.toml."
            )


def _say(directory: Path, peer_id: str, config: Config, *, new_psk: bool) -> None:
    config_file = directory / "config.toml"
    click.echo(f"Wrote {config_file} and {directory / 'peer.key'} (keep the key: it is who the node is).")
    click.echo(f"Peer id: {peer_id}")
    if new_psk:
        click.echo(f"Private network key, for the other nodes' aicn init --psk: {config.p2p.psk}")
    if config.p2p.dht_mode == "server":
        click.echo(f"Others join through it: aicn init --bootstrap /ip4/ITS-ADDRESS/tcp/6001/p2p/{peer_id}")
    elif not config.p2p.bootstrap:
        click.echo("It has no peers to join through yet: set p2p.bootstrap in the file, or use aicn connect.")
    click.echo(f"Next: aicn daemon --config {shlex.quote(str(config_file))}")
