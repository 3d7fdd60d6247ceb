"""`aicn init --from FILE.json`: a node of the Go program AIComputingNode becomes one of ours, with a line for each of its keys."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

import click

from aicn.cli.files import write_node
from aicn.cli.loop import run
from aicn.cli.output import harmless
from aicn.config.legacy import LARGEST_FILE, Translation, translate
from aicn.config.save import render
from aicn.errors import ConfigError, InvalidRequest

_ADVICE = """\
The old node and this one must not run at the same time: they are one node to the network. Stop the old one, then:
  aicn daemon --config {config}
Nothing of the old node was changed; docs/migration.md says what is different and how to go back."""


def move(go_file: Path, directory: Path, key_file: Path | None) -> None:
    """Write the node that `go_file` describes into `directory` and say what became of each key.

    ConfigError: the file, or the key in it, cannot be used. StartupError: something is there already or cannot be written.
    """
    translation = translate(_read(go_file), source=str(go_file))
    key_text, peer_id = _identity(translation, go_file, key_file)
    endpoints = translation.endpoints

    def fill(data: Path) -> None:
        from aicn.compose import store_registrations

        try:
            run(partial(store_registrations, data, endpoints))
        except InvalidRequest as error:
            raise ConfigError(f"{go_file}: AIProjects: {error.message}; take some out of the file") from None

    write_node(
        directory,
        config_text=render(translation.config),
        key_text=key_text,
        secret=True,
        fill=fill if endpoints else None,
    )
    _report(translation)
    click.echo(f"\nWrote {directory / 'config.toml'}, {directory / 'peer.key'} and {len(endpoints)} registered models.")
    click.echo(f"Peer id: {peer_id}, as before.")
    click.echo(_ADVICE.format(config=shlex.quote(str(directory / "config.toml"))))


def _read(go_file: Path) -> bytes:
    try:
        with go_file.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{go_file}: cannot be read: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise ConfigError(
            f"{go_file}: expected the JSON file of an AIComputingNode; it is larger than {LARGEST_FILE} bytes"
        )
    return data


def _identity(translation: Translation, go_file: Path, key_file: Path | None) -> tuple[str, str]:
    """Key, as a key file has it, and peer id: from the file, from `key_file`, or the same from both."""
    from aicn.compose import identity_in, identity_of

    where = f"{go_file}: Identity.PrivKey"
    found = identity_in(key_file) if key_file is not None else None
    if translation.private_key:
        try:
            said = identity_of(translation.private_key)
        except ValueError as error:
            raise ConfigError(
                f"{where}: {error}; correct it, or take it out and give the key file: --key FILE"
            ) from None
        if found not in (None, said):
            raise ConfigError(
                f"{where}: expected the key in {key_file}; got another: leave out --key, or take it out of the file"
            )
        found = said
    if found is None:
        raise ConfigError(f"{where}: expected the node's private key; there is none: give its key file with --key FILE")
    if translation.peer_id not in ("", found[1]):
        raise ConfigError(
            f"{go_file}: Identity.PeerID: expected that of the key, {found[1]}; got another: correct it, or the key"
        )
    return found


def _report(translation: Translation) -> None:
    wide = max((len(line.key) for line in translation.report), default=0)
    for line in translation.report:
        click.echo(harmless(f"{line.key:<{wide}}  {line.outcome:<8}  {line.text}").replace("\n", " "))
