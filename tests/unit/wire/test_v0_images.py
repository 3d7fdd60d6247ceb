from __future__ import annotations

import json
from typing import Any

import pytest

from aicn.domain.inference import Kind, Part
from aicn.errors import AicnError, InvalidRequest, MalformedBody
from aicn.wire.form import encode_form
from aicn.wire.v0 import images as wire

NODE = "16Uiu2HAm5cygUrKCBxtNSMKKvgdr1saPM6XWcgnPyTvK4sdrARGL"
BODY = {"node_id": NODE, "project": "P", "model": "M", "prompt": "a bird", "n": 2}
PART = Part("image", "a.png", "image/png", b"bytes")


def test_an_image_call_names_its_node() -> None:
    body = json.dumps(BODY | {"ipfs_node": "", "wallet": "0xAB", "seed": 1.50}).encode()
    node_id, image = wire.decode_image_at(body, Kind.IMAGE_GENERATION)
    rest = {"model": "M", "prompt": "a bird", "n": 2, "ipfs_node": "", "wallet": "0xAB", "seed": 1.5}
    assert node_id == NODE
    assert (image.kind, image.project, image.model, image.parts) == (Kind.IMAGE_GENERATION, "P", "M", ())
    assert json.loads(image.body) == rest


def test_a_call_by_project_names_none() -> None:
    image = wire.decode_image(json.dumps(BODY | {"node_id": "anything"}).encode(), Kind.IMAGE_GENERATION)
    assert "node_id" not in json.loads(image.body)


def test_a_form_is_an_edit_with_files() -> None:
    content_type, form = encode_form(BODY | {"width": 64, "height": 32, "seed": 7}, (PART,))
    node_id, image = wire.decode_edit_form(form, content_type)
    assert (node_id, image.kind, image.parts) == (NODE, Kind.IMAGE_EDIT, (PART,))
    members = {"model": "M", "prompt": "a bird", "n": 2, "width": 64, "height": 32, "seed": "7"}
    assert json.loads(image.body) == members


@pytest.mark.parametrize(
    ("changes", "error", "what"),
    [
        ({"node_id": "16Uiu2"}, InvalidRequest, "node_id"),
        ({"node_id": None}, InvalidRequest, "node_id"),
        ({"project": ""}, InvalidRequest, "project"),
        ({"model": 7}, InvalidRequest, "model"),
        ({"prompt": ""}, InvalidRequest, "prompt"),
        ({"n": 0}, InvalidRequest, "n"),
        ({"width": 5}, InvalidRequest, "height"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], error: type[AicnError], what: str) -> None:
    with pytest.raises(error, match=rf"^{what}: "):
        wire.decode_image_at(json.dumps(BODY | changes).encode(), Kind.IMAGE_GENERATION)


@pytest.mark.parametrize("text", ["0", "-1", "1.0", "²", "9" * 5000, "", "1e1"])
def test_numbers_of_forms_are_checked(text: str) -> None:
    content_type, form = encode_form(BODY | {"n": text}, (PART,))
    with pytest.raises(InvalidRequest, match=r"^n: "):
        wire.decode_edit_form(form, content_type)


def test_a_form_that_breaks_off() -> None:
    content_type, form = encode_form(BODY, (PART,))
    with pytest.raises(MalformedBody):
        wire.decode_edit_form(form[:-10], content_type)
