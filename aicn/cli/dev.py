"""`aicn dev endpoint|check`: a model endpoint to try a node with, and a look at one's own."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aicn.cli.loop import run
from aicn.cli.output import harmless, json_option, show_json
from aicn.cli.register import TYPES
from aicn.errors import ConfigError

if TYPE_CHECKING:
    from aicn.dev.checking import Finding
    from aicn.dev.endpoint import DemoEndpoint

_COLOURS = {"ok": "green", "FAILED": "red", "advice": "yellow"}


@click.group(short_help="Try a node without a model, or check a model endpoint.")
def command() -> None:
    """For who builds or tries a model endpoint."""


@command.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=1088, show_default=True, help="On loopback; 0: a free one."
)
@click.option("--model", metavar="NAME", default="demo-chat", show_default=True, help="What the chat model is called.")
@click.option(
    "--token-delay",
    type=click.FloatRange(0, 60),
    default=0.02,
    show_default=True,
    metavar="SECONDS",
    help="Before each word of a chat's answer.",
)
def endpoint(*, port: int, model: str, token_delay: float) -> None:
    """Serve a model endpoint without a model, until Ctrl-C: chats repeat what they hear, images are patterns, embeddings are hashes.

    It keeps to the standard of model endpoints and says in each answer what it is. Offer it on a node and try chats and images
    without a GPU; what to type is printed.
    """
    from aicn.dev.endpoint import DemoEndpoint, serve

    made = partial(DemoEndpoint, chat_model=model, token_delay_s=token_delay)
    run(partial(serve, made, port, ready=_introduce))


@command.command()
@click.argument("url")
@click.option(
    "--type",
    "kind",
    type=click.Choice(TYPES),
    help="What it does; by default what the path of URL speaks of, else text.",
)
@click.option(
    "--model", metavar="NAME", default="", help="The model to ask for; by default the first that the endpoint lists."
)
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the key that the endpoint wants (Authorization: Bearer).",
)
@click.option("--size", metavar="WxH", default="512x512", show_default=True, help="Of the images that are asked for.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="Longest time for one answer.",
)
@json_option
def check(
    *, url: str, kind: str | None, model: str, api_key_file: Path | None, size: str, timeout: float, as_json: bool
) -> None:
    """Test the model endpoint at URL, such as http://127.0.0.1:1088/v1/chat/completions, as a node would use it.

    One line per check: ok, FAILED, or an advice that no node minds. Exit code 1 when something failed. It runs the model a few times.
    """
    from aicn.dev.check import check_endpoint

    found: list[Finding] = []
    good = run(
        partial(
            check_endpoint,
            url,
            kind=None if kind is None else TYPES.index(kind),
            model=model,
            api_key=_key_in(api_key_file),
            size=size,
            within_s=timeout,
            tell=found.append if as_json else _show,
        )
    )
    if as_json:
        show_json({"good": good, "findings": [finding._asdict() for finding in found]})
    if not good:
        raise click.exceptions.Exit(1)


def _introduce(demo: DemoEndpoint) -> None:
    """What it is, how to offer it, how to ask it."""
    click.echo("The demo endpoint answers; there is no model behind it. Ctrl-C stops it. Offer it on your node:\n")
    for offered, kind in zip(demo.models, TYPES, strict=True):
        option = "" if kind == "text" else f" --type {kind}"
        project = "demo" if kind == "text" else f"demo-{kind}"  # registering replaces what a project had
        click.echo(f"  aicn register {project}{option} --model {shlex.quote(offered.name)} {demo.url(offered.path)}")
    chat, image, *_ = demo.models
    click.echo("\nor ask it directly:\n")
    click.echo(
        _curl(demo.url(chat.path), f'{{"model": "{chat.name}", "messages": [{{"role": "user", "content": "Hello"}}]}}')
    )
    click.echo(_curl(demo.url(image.path), f'{{"model": "{image.name}", "prompt": "a bird flying in the sky"}}'))


def _curl(url: str, body: str) -> str:
    return f"  curl {url} -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def _show(finding: Finding) -> None:
    verdict = click.style(f"{finding.verdict:<7}", fg=_COLOURS[finding.verdict])
    click.echo(f"{verdict} {finding.name}: {harmless(finding.text)}")


def _key_in(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{file}: the key cannot be read: {type(error).__name__}") from None
