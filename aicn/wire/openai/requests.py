"""Requests to models (OpenAI API reference: chat, completions, embeddings, images).

Read are the members that route, and those without which no model could answer; all others, known to us or not, are the model's
business and reach it as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aicn.domain.inference import Kind, Part
from aicn.domain.names import LONGEST_NAME
from aicn.errors import InvalidRequest
from aicn.wire.asked import check_input, check_messages, streamed
from aicn.wire.form import decode_form
from aicn.wire.images import form_members, parse_task
from aicn.wire.json_body import JsonObject
from aicn.wire.v0.answers import encode_json

_LONGEST_MODEL = 2 * LONGEST_NAME + 1  # characters: project/model
_INLINE = "b64_json"  # how images are answered when the client does not say: what current clients expect


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whoever shall answer it."""

    kind: Kind
    model: str  # as the client named it
    stream: bool
    body: JsonObject
    changes: Mapping[str, object] = field(default_factory=dict)  # members that the worker must see otherwise
    parts: tuple[Part, ...] = ()  # files of a form

    def body_for(self, model: str) -> bytes:
        """The body for workers that call the model `model`: as it was sent, where nothing must be another."""
        changes = self.changes if model == self.model else {**self.changes, "model": model}
        return self.body.changed(changes)


def decode_chat(body: bytes) -> Asked:
    """`POST /v1/chat/completions`."""
    parsed = JsonObject(body)
    check_messages(parsed.values)
    return Asked(Kind.CHAT, _model(parsed.values), streamed(parsed.values), parsed)


def decode_completion(body: bytes) -> Asked:
    """`POST /v1/completions`: a prompt is a text, texts, or lists of tokens."""
    parsed = JsonObject(body)
    if not isinstance(parsed.values.get("prompt"), str | list):
        raise InvalidRequest("prompt: a text, or a list of texts or of tokens is needed")
    return Asked(Kind.COMPLETION, _model(parsed.values), streamed(parsed.values), parsed)


def decode_embedding(body: bytes) -> Asked:
    """`POST /v1/embeddings`."""
    parsed = JsonObject(body)
    check_input(parsed.values)
    return Asked(Kind.EMBEDDING, _model(parsed.values), False, parsed)


def decode_image(body: bytes, kind: Kind, parts: Sequence[Part] = ()) -> Asked:
    """`POST /v1/images/generations` and `/v1/images/edits` as JSON. The worker puts the images into its answer."""
    parsed = JsonObject(body)
    if streamed(parsed.values):
        raise InvalidRequest("stream: images are not streamed")
    changes = {} if parsed.values.get("response_format") else {"response_format": _INLINE}
    asked = Asked(kind, _model(parsed.values), False, parsed, changes, tuple(parts))
    parse_task(
        asked.body_for(asked.model), kind, parts
    )  # the worker looks again; here what is wrong is told without asking it
    return asked


def decode_edit_form(body: bytes, content_type: str) -> Asked:
    """`POST /v1/images/edits` as a form: its files stay files, its other fields become the members of the body."""
    texts, parts = decode_form(body, content_type)
    return decode_image(encode_json(form_members(texts)), Kind.IMAGE_EDIT, parts)


def _model(members: Mapping[str, Any]) -> str:
    model = members.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("model: a name is needed; GET /v1/models lists them")
    if len(model) > _LONGEST_MODEL:
        raise InvalidRequest(f"model: {len(model)} characters; at most {_LONGEST_MODEL} are allowed")
    if not model.isprintable():
        raise InvalidRequest("model: control characters are not allowed")
    return model
