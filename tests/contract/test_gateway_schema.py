"""The published schema and the decoders held together: two descriptions of one API, made by different means."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicn.gateway.v0 import schema
from aicn.gateway.v0.openapi import OPERATIONS, document
from aicn.gateway.v0.schema.shapes import Failure, Operation
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.http import serving
from tests.fakes.node import OWN, FakeNode

DOCUMENT = document()
ASKED = [one for one in OPERATIONS if one.request is not None]
CHAT = b'{"created":1,"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}'
IMAGES = b'{"ipfs_node":"http://127.0.0.1:5001","choices":[{"cid":"Qm","image_name":"x.png"}]}'
VECTORS = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}]}'
ANSWERS = {"chat": CHAT, "image": IMAGES, "embedding": VECTORS}


def body_of(one: Operation) -> dict[str, Any]:
    content = DOCUMENT["paths"][one.path][one.method.lower()]["requestBody"]["content"]["application/json"]
    found: dict[str, Any] = content
    return found


def fake_for(one: Operation) -> FakeNode:
    answer = ANSWERS.get(one.name.split("_", maxsplit=1)[0], CHAT)
    fake = FakeNode()
    fake.inference.script = lambda _: ScriptedAnswer([answer])
    return fake


def values(of: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit a schema of the document; only what such schemas have."""
    if "$ref" in of:
        return values(DOCUMENT["components"]["schemas"][of["$ref"].rsplit("/", 1)[1]])
    if "enum" in of:
        return st.sampled_from(of["enum"])
    if "anyOf" in of:
        return st.one_of(*(values(one) for one in of["anyOf"]))
    if of.get("type") == "string":
        return texts(of)
    plain: dict[str | None, Callable[[], st.SearchStrategy[Any]]] = {
        "object": lambda: objects(of),
        "array": lambda: st.lists(values(of["items"]), min_size=of.get("minItems", 0), max_size=3),
        "integer": lambda: st.integers(of.get("minimum", -(2**70)), of.get("maximum", 2**70)),
        "boolean": st.booleans,
        "null": st.none,
        None: anything,
    }
    return plain[of.get("type")]()


def texts(of: dict[str, Any]) -> st.SearchStrategy[str]:
    if "pattern" in of:
        return st.from_regex(of["pattern"], fullmatch=True)
    return st.text(min_size=of.get("minLength", 0), max_size=min(of.get("maxLength", 40), 200))


def objects(of: dict[str, Any]) -> st.SearchStrategy[Any]:
    if isinstance(more := of.get("additionalProperties"), dict):
        return st.dictionaries(st.text(max_size=8), values(more), max_size=3)
    members = {name: values(one) for name, one in of.get("properties", {}).items()}
    needed = {name: members.pop(name) for name in of.get("required", ())}
    return st.fixed_dictionaries(needed, optional=members)


def anything() -> st.SearchStrategy[Any]:
    scalars = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    )


def bodies_of(one: Operation) -> st.SearchStrategy[Any]:
    """Bodies that fit, and the example with some members changed into others that fit: most of these are accepted."""
    of, good = body_of(one)["schema"], asked(one)
    members = {name: values(member) for name, member in of["properties"].items()}
    changed = st.fixed_dictionaries({}, optional=members).map(lambda changes: good | changes)
    return objects(of) | changed


def asked(one: Operation) -> dict[str, Any]:
    """The example, for the one node that the fake knows."""
    request: dict[str, Any] = body_of(one)["example"]
    return request | {"node_id": OWN} if "node_id" in request else request


@pytest.mark.parametrize("one", ASKED, ids=lambda one: one.name)
async def test_examples_pass_the_decoders(one: Operation) -> None:
    request = asked(one)
    async with serving(fake_for(one)) as served:
        reply = await served.request(one.method, one.path, request)
        assert reply.status == 200, reply.body
        promised = DOCUMENT["paths"][one.path][one.method.lower()]["responses"]["200"]["headers"]
        assert all(name.lower() in reply.headers for name in promised)
        assert ("x-aicn-node" in reply.headers) == ("X-AICN-Node" in promised)
        one.answer.model_validate_json(reply.body)


@pytest.mark.parametrize("one", ASKED, ids=lambda one: one.name)
async def test_what_fits_the_schema_breaks_nothing(one: Operation) -> None:
    """Whatever the schema allows is answered: by the answer's model, or by an error that is not ours."""
    bodies: list[Any] = []

    @settings(max_examples=60, database=None, suppress_health_check=list(HealthCheck))
    @given(bodies_of(one))
    def collect(body: Any) -> None:
        bodies.append(body)

    collect()
    accepted = 0
    async with serving(fake_for(one)) as served, served.client() as client:
        for body in bodies:
            text = json.dumps(body).encode(errors="replace")
            reply = await client.request(one.method, one.path, text)
            if reply.headers["content-type"] == "text/event-stream":
                accepted += 1
            elif reply.status == 200:
                accepted += 1
                one.answer.model_validate_json(reply.body)
            else:
                assert reply.status != 500, (body, reply.body)
                assert Failure.model_validate_json(reply.body).code not in (0, 5000)
    assert accepted, "the schema allows hardly anything that the decoder takes"


@pytest.mark.parametrize("one", ASKED, ids=lambda one: one.name)
async def test_members_that_are_needed_are_needed_by_both(one: Operation) -> None:
    content, request = body_of(one), asked(one)
    async with serving(fake_for(one)) as served, served.client() as client:
        for name in request.keys() - {"width", "height"}:  # those two only together
            less = {other: value for other, value in request.items() if other != name}
            reply = await client.request(one.method, one.path, less)
            needed = name in content["schema"].get("required", ())
            assert (reply.status == 400) == needed, (name, reply.body)
            assert not needed or name in reply.json["message"]


def test_every_example_of_the_specification_is_a_file() -> None:
    folder = resources.files(schema).joinpath("examples")
    assert len([file for file in folder.iterdir() if file.name.endswith(".json")]) == 19
