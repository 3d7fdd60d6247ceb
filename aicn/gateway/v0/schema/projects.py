"""Projects: who offers which models, and what this node offers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt

from aicn.domain.registration import LONGEST_CONTEXT
from aicn.gateway.v0.schema.shapes import BODY_ERRORS, NODE_ERRORS, ByNode, Name, Ok, Operation, PeerId, Request, Told
from aicn.wire.v0.registration import MOST_MODELS


class Names(Ok):
    """Names of projects or models."""

    data: list[str]


class OfProject(Request):
    """Which project is meant."""

    project: Name


class OfModel(Request):
    """Which project and model are meant."""

    project: Name
    model: Name | None = Field(default=None, description="Without it: nodes with any model of the project.")


class Most(Request):
    """How many are wanted."""

    number: int = Field(default=20, ge=1, description="Most nodes to answer; over 100 is as 100.")


class NearNode(Told):
    """A node that offers the model."""

    node_id: PeerId
    connectivity: Literal[0, 1, 2, 3] = Field(
        description="0: not connected; 1: connected; 2: was connected not long ago; 3: the last attempt failed."
    )
    latency: NonNegativeInt = Field(description="Round trip, µs; 0: not measured.")


class NearNodes(Ok):
    """Nodes that offer the model, the best first."""

    data: list[NearNode]


class Endpoint(Request):
    """A model and where it is."""

    model: Name
    api: str = Field(
        min_length=1,
        description="The full http or https URL that requests are posted to, query included.",
        examples=["http://127.0.0.1:1042/v1/chat/completions"],
    )
    type: Literal[0, 1, 2, 3] | None = Field(
        default=0, description="0: text; 1: text to image; 2: image to image; 3: embedding."
    )
    headers: dict[str, str] | None = Field(
        default=None,
        description="Sent with every request to the endpoint. Kept by this node, never announced or logged.",
    )
    api_key: str | None = Field(
        default=None,
        min_length=1,
        description="The same for `Authorization: Bearer`.",
        json_schema_extra={"writeOnly": True},
    )
    context: int | None = Field(
        default=None,
        ge=0,
        le=LONGEST_CONTEXT,
        description="Tokens that a conversation may have there, its answer included; announced. Without it, or 0: unknown.",
    )


class Register(Request):
    """A project and all its models: what the project had before is replaced."""

    project: Name
    models: list[Endpoint] = Field(min_length=1, max_length=MOST_MODELS)
    probe: bool | None = Field(default=False, description="Ask each endpoint first; nothing is stored when one fails.")


class Unregister(Request):
    """A project, or one model of it."""

    project: Name
    model: Name | None = Field(default=None, description="Only this one; without it: the whole project.")


class Project(Told):
    """A project and the names of its models."""

    project: str
    models: list[str]


class Projects(Ok):
    """What the node that was asked for offers."""

    data: list[Project]


_READ = (*BODY_ERRORS, "unsupported")
OPERATIONS = (
    Operation("POST", "/api/v0/ai/projects/list", "Projects", Names, errors=("unsupported",)),
    Operation("POST", "/api/v0/ai/projects/models", "Projects", Names, OfProject, _READ),
    Operation("POST", "/api/v0/ai/projects/peers", "Projects", NearNodes, OfModel, _READ, query=Most),
    Operation(
        "POST", "/api/v0/ai/project/register", "Projects", Ok, Register, (*BODY_ERRORS, "storage", "model_failed")
    ),
    Operation("POST", "/api/v0/ai/project/unregister", "Projects", Ok, Unregister, (*BODY_ERRORS, "storage")),
    Operation("POST", "/api/v0/ai/project/peer", "Projects", Projects, ByNode, (*BODY_ERRORS, *NODE_ERRORS)),
)
