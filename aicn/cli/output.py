"""How commands speak: tables and facts for people, tab-separated lines for pipes, JSON for scripts.

Names and answers come from strangers: nothing of theirs reaches a terminal with control characters in it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

import click

_WIDEST = 1000  # columns: a narrow terminal wraps the line itself, which leaves a peer id in one piece to copy

json_option = click.option("--json", "as_json", is_flag=True, help="JSON on standard output, for scripts.")


def harmless(text: object) -> str:
    """`text` with every control character but newline and tab replaced: it cannot steer the terminal."""
    return "".join(
        c if (c >= " " and not "\x7f" <= c <= "\x9f") or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in str(text)
    )


def show_json(value: object) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Name and value per line; a list goes on in lines of its own."""
    for name, value in facts:
        values = value if isinstance(value, (list, tuple)) else [value]
        for i, one in enumerate(values or ["none"]):
            label = click.style(f"{name:<10}", bold=True) if i == 0 else " " * 10
            click.echo(f"{label} {harmless(one)}")


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A table on a terminal (`empty` when there are no rows); else one line per row, cells parted by tabs, no header."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(harmless(cell).replace("\t", " ").replace("\n", " ") for cell in row))
        return
    if not rows:
        click.echo(empty)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))  # Text: brackets in names are no markup
    Console(width=_WIDEST).print(table)


def note(text: str) -> None:
    """A remark on standard error, dim: it is not part of the output."""
    click.secho(harmless(text), err=True, dim=True)
