"""The files of a new node: all of them or none, and never over others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from aicn.config.save import write_new
from aicn.errors import StartupError


def write_node(
    directory: Path, *, config_text: str, key_text: str, secret: bool, fill: Callable[[Path], None] | None = None
) -> Path:
    """Writes config.toml and peer.key into `directory`, made when missing, and returns the path of config.toml.

    `fill` puts what it likes into the data directory, which is then made, too. StartupError, or what `fill` raises, with nothing
    left behind: one of them is there already or cannot be written.
    """
    config_file, key_file, data = directory / "config.toml", directory / "peer.key", directory / "data"
    for path in (config_file, key_file, *([data] if fill else [])):
        if path.exists() or path.is_symlink():
            raise StartupError(f"{path} is there already; nothing was written. Choose another --dir or move it away.")
    try:
        with ExitStack() as undo:
            if not directory.exists():
                undo.callback(_remove_empty, directory)
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if fill is not None:
                data.mkdir(mode=0o700)
                undo.callback(shutil.rmtree, data, ignore_errors=True)
                fill(data)
            write_new(key_file, key_text + "\n", mode=0o600)
            undo.callback(key_file.unlink)
            write_new(config_file, config_text, mode=0o600 if secret else 0o644)
            undo.pop_all()
    except OSError as error:
        raise StartupError(f"{error.filename or directory}: cannot be written: {error.strerror}") from error
    return config_file


def _remove_empty(directory: Path) -> None:
    with suppress(OSError):  # not made, or somebody else put something there
        directory.rmdir()
