"""`aicn image`: images from a description, saved as files or kept in IPFS."""

from __future__ import annotations

import re
import secrets
from base64 import b64decode
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from aicn.cli.client import ApiError, api_option, open_api
from aicn.cli.offers import find
from aicn.cli.output import json_option, note, show_json, show_table

IMAGE_PATH = "/api/v0/image/gen"
_DATA_URL = re.compile(r"data:image/([a-z0-9]{2,8});base64,([A-Za-z0-9+/]+={0,2})")


def _size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> dict[str, int]:
    if value is None:
        return {}
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no size such as 1024x1024")
    return {"width": int(match[1]), "height": int(match[2])}


@click.command(short_help="Draw images by a model; they are saved as files.")
@click.argument("prompt")
@click.option("--model", metavar="NAME", required=True, help="The model that draws.")
@click.option("--project", metavar="NAME", help="Project of the model; by default the first that has it.")
@click.option(
    "--node", metavar="ID", help="Who shall draw; by default this node, else a connected peer with the model."
)
@click.option("--count", type=click.IntRange(1, 10), default=1, show_default=True, metavar="N", help="How many images.")
@click.option("--size", metavar="WxH", callback=_size, help="In pixels; by default the model decides.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where the files go; by default here.",
)
@click.option("--ipfs", is_flag=True, help="Keep them in the IPFS node of the node that draws instead; prints CIDs.")
@api_option
@json_option
def command(
    *,
    prompt: str,
    model: str,
    project: str | None,
    node: str | None,
    count: int,
    size: dict[str, int],
    output: Path,
    ipfs: bool,
    api: str,
    as_json: bool,
) -> None:
    """Draw what PROMPT describes and print the names of the files, or with --ipfs the CIDs.

    Who has drawn goes to standard error.
    """
    with open_api(api) as client:
        offer = find(client, node=node, project=project, model=model)
        where = {"node_id": offer.node, "project": offer.project, "model": offer.model}
        body: dict[str, object] = {**where, "prompt": prompt, "n": count, **size}
        if not ipfs:
            body["response_format"] = "url"  # data: URLs, which say what the bytes are
        data = client.post(IMAGE_PATH, body, slow=True)
    try:
        choices = data["choices"]
        rows = [(c["cid"], c["image_name"]) for c in choices] if ipfs else list(_saved(choices, output))
    except (TypeError, KeyError):
        raise ApiError("the node answered something that is no list of images") from None
    if as_json:
        names = ("cid", "image_name") if ipfs else ("file",)
        show_json({**where, "images": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    note(f"{offer.project} / {offer.model} on {offer.node}")
    show_table(("CID", "Name") if ipfs else ("File",), rows, empty="no images")


def _saved(choices: Sequence[dict[str, object]], folder: Path) -> Iterator[tuple[str]]:
    """Writes each image to a new file in `folder`; the file's name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for choice in choices:
            match = _DATA_URL.fullmatch(str(choice["url"]))
            if match is None:
                raise ApiError("the node answered something that is no image")
            path = folder / f"aicn-{secrets.token_hex(4)}.{match[1]}"
            with path.open("xb") as file:
                file.write(b64decode(match[2]))
            yield (str(path),)
    except OSError as error:
        raise ApiError(f"{error.filename}: {error.strerror}") from error
