"""Image calls: drawing, and editing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aicn.domain.ids import PeerId, parse_peer_id
from aicn.domain.inference import Kind, Part
from aicn.wire.form import decode_form
from aicn.wire.images import form_members, parse_task
from aicn.wire.json_body import take
from aicn.wire.v0 import fields
from aicn.wire.v0.answers import encode_json


@dataclass(frozen=True, slots=True)
class Image:
    """`POST /image/gen`, `/image/gen/proxy` or `/image/edit`."""

    kind: Kind
    project: str
    model: str
    body: bytes  # as sent, less `node_id` and `project`
    parts: tuple[Part, ...] = ()  # files of a form


def decode_image(body: bytes, kind: Kind, parts: Sequence[Part] = ()) -> Image:
    """An image request that names no node. What every parameter that is not ours means is the model's business."""
    members, rest = take(body, "node_id", "project")
    image = Image(
        kind=kind,
        project=fields.name(members, "project"),
        model=fields.name(members, "model"),
        body=rest,
        parts=tuple(parts),
    )
    parse_task(rest, kind, parts)  # the worker looks again; here what is wrong is told without asking it
    return image


def decode_image_at(body: bytes, kind: Kind, parts: Sequence[Part] = ()) -> tuple[PeerId, Image]:
    """The same with the node that is asked."""
    members, _ = take(body)
    return parse_peer_id(members.get("node_id")), decode_image(body, kind, parts)


def decode_edit_form(body: bytes, content_type: str) -> tuple[PeerId, Image]:
    """An edit as a form: its files stay files, its other fields become the members of the body."""
    texts, parts = decode_form(body, content_type)
    return decode_image_at(encode_json(form_members(texts)), Kind.IMAGE_EDIT, parts)
