"""Projects and their models, as registered on this node."""

from __future__ import annotations

from dataclasses import dataclass

from aicn.domain.inference import Kind

# `type` of `POST /ai/project/register` (spec 1): 0 text to text, 1 text to image, 2 image to image
KIND_OF_TYPE = {0: Kind.CHAT, 1: Kind.IMAGE_GENERATION, 2: Kind.IMAGE_EDIT}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model endpoint on the operator's side."""

    project: str
    model: str
    url: str  # http or https, the full URL that requests are posted to, query included
    type: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    """A project of a node with the names of its models, as other nodes see it."""

    name: str
    models: tuple[str, ...]
