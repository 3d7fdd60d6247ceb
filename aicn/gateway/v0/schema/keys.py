"""API keys, and what was used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from aicn.domain.keys import LONGEST_PATTERN, MOST_PATTERNS
from aicn.gateway.v0.schema.shapes import BODY_ERRORS, EXAMPLE_ID, Name, Ok, Operation, Request, Told
from aicn.wire.v0.keys import MOST, MOST_DAYS, MOST_RATE

Pattern = Annotated[str, Field(min_length=1, max_length=LONGEST_PATTERN)]
Number = Annotated[int, Field(ge=0)]
KeyId = Annotated[
    str, Field(description="12 hex digits; empty: no key was shown; `peer`: another node has asked this one.")
]
EXAMPLE_KEY = "3f1c9a0be772"


class WantedKey(Request):
    """A key to be made. Numbers: 0 is no limit."""

    name: Name
    models: list[Pattern] | None = Field(
        default=None,
        max_length=MOST_PATTERNS,
        description="Patterns of `project/model`, or of a model in any project; `*` stands for anything. None: all.",
    )
    requests_per_minute: int = Field(default=0, ge=0, le=MOST_RATE)
    tokens_per_day: int = Field(default=0, ge=0, le=MOST, description="Of prompts and answers, days of UTC.")
    concurrency: int = Field(default=0, ge=0, le=MOST_RATE, description="Requests at work at once.")
    expires_at: int = Field(default=0, ge=0, le=MOST, description="Unix time; 0: never.")
    admin: bool = Field(default=False, description="May also do what changes the node.")


class ApiKey(Told):
    """A key without its secret."""

    id: str
    name: str
    models: list[str]
    requests_per_minute: Number
    tokens_per_day: Number
    concurrency: Number
    expires_at: Number
    admin: bool
    created_at: Number


class NewApiKey(Told):
    """A key with its secret."""

    key: str = Field(description="The secret, told this once.")
    id: str
    name: str
    models: list[str]
    requests_per_minute: Number
    tokens_per_day: Number
    concurrency: Number
    expires_at: Number
    admin: bool
    created_at: Number


class KeyCreated(Ok):
    """The new key."""

    data: NewApiKey


class KeyList(Ok):
    """All keys, the oldest first."""

    data: list[ApiKey]


class KeyById(Request):
    """Which key is meant."""

    id: Name


class UsageAsked(Request):
    """Which usage."""

    days: int = Field(default=1, ge=1, le=MOST_DAYS, description="How far back.")
    by: Literal["total", "hour"] = "total"
    key: KeyId | None = Field(default=None, description="Of this key alone.")


class UsageRow(Told):
    """What was used by one key of one model of one node."""

    hour: Number = Field(description="Unix time of its beginning; 0: all hours.")
    key: KeyId
    project: str = Field(description="Empty, as `model`: failed before a model answered.")
    model: str
    node_id: str = Field(description="The node that answered, or, with `peer`, that asked; empty: none.")
    requests: Number
    failed: Number = Field(description="Of them: refused, broken, or left by the client.")
    prompt_tokens: Number
    completion_tokens: Number
    estimated_tokens: Number = Field(description="Charged to a key with a limit where nobody counted.")
    bytes_in: Number
    bytes_out: Number


class UsageTold(Ok):
    """Usage, by key, model and node."""

    data: list[UsageRow]


_KNOWN = {
    "id": EXAMPLE_KEY,
    "name": "blog",
    "models": ["SuperImage/*", "Llama3-8B"],
    "requests_per_minute": 60,
    "tokens_per_day": 100_000,
    "concurrency": 4,
    "expires_at": 0,
    "admin": False,
    "created_at": 1_767_225_600,
}
_USED = {
    "hour": 0,
    "key": EXAMPLE_KEY,
    "project": "SuperImage",
    "model": "Llama3-8B",
    "node_id": EXAMPLE_ID,
    "requests": 12,
    "failed": 1,
    "prompt_tokens": 845,
    "completion_tokens": 3210,
    "estimated_tokens": 0,
    "bytes_in": 5120,
    "bytes_out": 65_536,
}


def _example(answer: object, **request: object) -> dict[str, Any]:
    data = {} if answer is None else {"data": answer}
    return {"request": request, "answer": {"code": 0, "message": "ok", **data}}


OPERATIONS = (
    Operation("GET", "/api/v0/keys", "Keys", KeyList, example=_example([_KNOWN])),
    Operation(
        "POST",
        "/api/v0/keys/create",
        "Keys",
        KeyCreated,
        WantedKey,
        errors=(*BODY_ERRORS, "storage"),
        example=_example(
            {"key": f"aicn_{EXAMPLE_KEY}_{'0123456789abcdef' * 4}", **_KNOWN},
            name="blog",
            models=["SuperImage/*", "Llama3-8B"],
            requests_per_minute=60,
            tokens_per_day=100_000,
            concurrency=4,
        ),
    ),
    Operation(
        "POST",
        "/api/v0/keys/revoke",
        "Keys",
        Ok,
        KeyById,
        errors=(*BODY_ERRORS, "storage"),
        example=_example(None, id=EXAMPLE_KEY),
    ),
    Operation(
        "GET",
        "/api/v0/usage",
        "Keys",
        UsageTold,
        errors=("invalid_request", "storage"),
        query=UsageAsked,
        example=_example([_USED]),
    ),
)
