"""Images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from aicn.gateway.v0.schema.chat import Signed
from aicn.gateway.v0.schema.shapes import (
    BODY_ERRORS,
    EXAMPLE_ID,
    MODEL_ERRORS,
    Name,
    Ok,
    Operation,
    PeerId,
    Told,
)

Side = Annotated[int, Field(ge=0, le=16_384, description="Pixels. Both sides are given, or none.")]


class ImageByProject(Signed):
    """A description of an image for whichever node offers the model. Members that are not named here go on to the model."""

    project: Name
    model: Name
    prompt: str = Field(min_length=1)
    n: int | None = Field(default=1, ge=1, le=10, description="How many images are wanted.")
    size: str | None = Field(default="", max_length=64, deprecated=True, examples=["1024x1024"])
    width: Side | None = None
    height: Side | None = None
    ipfs_node: str | None = Field(
        default="",
        max_length=2048,
        description="Where to store the images, if the worker allows it; else it uses its own.",
    )
    response_format: Literal["", "url", "b64_json"] | None = Field(
        default="",
        description="`b64_json`, `url` (a `data:` URL): the images come in the answer, and IPFS is not used.",
    )


class Image(ImageByProject):
    """A description of an image for a model of a named node. Members that are not named here go on to the model."""

    node_id: PeerId


class Edit(Image):
    """An image and how to change it: as JSON, or as a form whose field `image` is a file."""

    image: str | list[str] = Field(description="URL of the image.")


class Stored(Told):
    """An image on the IPFS node."""

    cid: str
    image_name: str


class StoredImages(Told):
    """Images, added and pinned."""

    ipfs_node: str
    choices: list[Stored] = Field(min_length=1)


class Base64(Told):
    """An image."""

    b64_json: str


class DataUrl(Told):
    """An image."""

    url: str = Field(pattern="^data:")


class InlineImages(Told):
    """Images in the answer itself, when `response_format` was given."""

    created: NonNegativeInt = Field(description="Unix time.")
    choices: list[Base64 | DataUrl] = Field(min_length=1)


class Images(Ok):
    """The images."""

    data: StoredImages | InlineImages


_ERRORS = (*BODY_ERRORS, *MODEL_ERRORS, "ipfs_failed", "forbidden")
_EDIT = {
    "request": {
        "node_id": EXAMPLE_ID,
        "project": "SuperImage",
        "model": "SuperImage",
        "image": "https://images.example/otter.png",
        "prompt": "A cute baby sea otter wearing a beret",
        "n": 2,
        "size": "1024x1024",
    },
    "answer": {
        "code": 0,
        "message": "ok",
        "data": {
            "ipfs_node": "http://122.99.183.54:4002",
            "choices": [
                {"cid": "QmUsxJhQ13Gifj2iX9kTfzYDD6VsCL7UkdjqumPd9V2vKz", "image_name": "knhfkmpilha9l5f2.png"},
                {"cid": "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG", "image_name": "9ctrk2xg0f1w5h3b.png"},
            ],
        },
    },
}
OPERATIONS = (
    Operation("POST", "/api/v0/image/gen", "Models", Images, Image, _ERRORS),
    Operation("POST", "/api/v0/image/edit", "Models", Images, Edit, _ERRORS, example=_EDIT, form=True),
    Operation(
        "POST",
        "/api/v0/image/gen/proxy",
        "Models",
        Images,
        ImageByProject,
        (*BODY_ERRORS, "no_node", "deadline_exceeded"),
        deprecated=True,
    ),
)
