"""What the calls are described with: the envelope, the fields that several calls have, the operation itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from aicn.domain.names import LONGEST_NAME

BODY_ERRORS = ("invalid_request", "malformed_body", "unsupported_media_type", "too_large", "slow_body")
NODE_ERRORS = ("unknown_node", "unreachable", "deadline_exceeded", "unsupported", "protocol_violation", "answer_broken")
MODEL_ERRORS = (*NODE_ERRORS, "unknown_model", "model_failed", "rate_limited")

EXAMPLE_ID = "16Uiu2HAm5cygUrKCBxtNSMKKvgdr1saPM6XWcgnPyTvK4sdrARGL"
PeerId = Annotated[
    str,
    Field(
        pattern="^[1-9A-HJ-NP-Za-km-z]{40,64}$",
        description="A libp2p peer id.",
        examples=[EXAMPLE_ID],
    ),
]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, description="Printable, no space at either end.")]


class Request(BaseModel):
    """Members that are not named here are ignored."""

    model_config = ConfigDict(extra="ignore")


class Passed(BaseModel):
    """Members that are not named here go on to the model, or come from it."""

    model_config = ConfigDict(extra="allow")


class Told(BaseModel):
    """What the node itself says: these members in this order, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Ok(Told):
    """Done."""

    code: Literal[0]
    message: str = Field(description='"ok"')


class Failure(Told):
    """What went wrong."""

    code: int = Field(description="A number of the table of errors, never 0.")
    message: str = Field(description="For people; names the field that is wrong, such as `models[1].api`.")


class ByNode(Request):
    """Which node is meant."""

    node_id: PeerId


class Operation(NamedTuple):
    """One call. `errors` are kinds of aicn/gateway/v0/errors.py, besides those that every call can have."""

    method: str
    path: str
    tag: str
    answer: type[BaseModel]
    request: type[BaseModel] | None = None
    errors: tuple[str, ...] = ()
    query: type[BaseModel] | None = None
    example: dict[str, Any] | None = None  # of calls that spec 1 has no example of: `request`, `answer`
    event: str = ""  # the call can be streamed; what a stream begins with
    form: bool = False  # the request may also be multipart/form-data
    deprecated: bool = False

    @property
    def name(self) -> str:
        """The last part of the path in one word: also of the file in `examples`."""
        return self.path.removeprefix("/api/v0").strip("/").replace("/", "_")
