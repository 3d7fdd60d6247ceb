"""The OpenAPI document against the routes, the error table and its own models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from aicn.gateway.v0 import schema
from aicn.gateway.v0.errors import TABLE
from aicn.gateway.v0.openapi import EVERYWHERE, OPERATIONS, document
from aicn.gateway.v0.routes import PREFIX, ROUTES
from aicn.gateway.v0.schema.shapes import Operation

DOCUMENT = document()
OF_SPEC = sorted(file.name.removesuffix(".json") for file in resources.files(schema).joinpath("examples").iterdir())


def example(one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = one.example or json.loads(
        resources.files(schema).joinpath("examples", f"{one.name}.json").read_text()
    )
    return found


def described(one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][one.path][one.method.lower()]
    return found


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_call_is_described_and_nothing_else() -> None:
    served = {(route.method, PREFIX + route.path) for route in ROUTES}
    assert served == {(one.method, one.path) for one in OPERATIONS if one.path.startswith(PREFIX)}
    in_document = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert in_document == {(one.method, one.path) for one in OPERATIONS}


def test_every_example_of_the_specification_is_shown() -> None:
    assert set(OF_SPEC) <= {one.name for one in OPERATIONS}
    for one in OPERATIONS:
        assert (one.name in OF_SPEC) == (one.example is None), one.name


@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: one.name)
def test_examples_fit_their_models_with_every_member_in_its_place(one: Operation) -> None:
    answer = example(one)["answer"]
    made = one.answer.model_validate_json(json.dumps(answer)).model_dump(mode="json", exclude_unset=True)
    assert json.dumps(made) == json.dumps(answer)
    if one.request is not None:
        one.request.model_validate(example(one)["request"])
    if one.name in OF_SPEC and one.request is not None:
        unknown = set(example(one)["request"]) - set(one.request.model_fields)
        assert not unknown, "members of spec 1 that the model does not describe"


@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: one.name)
def test_examples_are_where_the_page_looks(one: Operation) -> None:
    shown = described(one)
    assert shown["summary"]
    content = shown["responses"]["200"]["content"]["application/json"]
    assert content["example"] == example(one)["answer"]
    validator(content["schema"]).validate(content["example"])
    if one.request is None:
        assert "requestBody" not in shown
        return
    content = shown["requestBody"]["content"]["application/json"]
    assert content["example"] == example(one)["request"]
    validator(content["schema"]).validate(content["example"])
    assert ("text/event-stream" in shown["responses"]["200"]["content"]) == bool(one.event)


def validator(of: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(of | {"components": DOCUMENT["components"]})


@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: one.name)
def test_failures_have_the_status_and_the_numbers_of_the_table(one: Operation) -> None:
    shown = described(one)["responses"]
    kinds = {*one.errors, *EVERYWHERE}
    assert shown.keys() - {"200"} == {str(TABLE[kind].status) for kind in kinds}
    for kind in kinds:
        answer = shown[str(TABLE[kind].status)]
        assert f"* {TABLE[kind].plain}" in answer["description"]
        assert ("Retry-After" in answer.get("headers", {})) == (TABLE[kind].status in (429, 503))
        validator({"$ref": "#/components/schemas/Failure"}).validate(answer["content"]["application/json"]["example"])


def test_calls_with_a_body_can_be_refused_for_it() -> None:
    for one in OPERATIONS:
        if one.request is not None:
            assert {"400", "408", "413", "415"} <= described(one)["responses"].keys()


def test_every_reference_leads_somewhere() -> None:
    Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"]["Failure"])
    found = set(references(DOCUMENT))
    names = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert found <= names
    for name, one in DOCUMENT["components"]["schemas"].items():
        Draft202012Validator.check_schema(one)
        assert "$defs" not in one, name
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_a_node_does_not_pay_for_what_nobody_asked_for() -> None:
    """pydantic costs 0.1 s and 9 MB: it comes with the first reader of the document. The package of the page's files never comes."""
    code = """
import sys, trio
from tests.fakes.http import serving
import aicn.compose
async def main():
    async with serving() as served:
        await served.request("GET", "/api/v0/id")
        print(*(name in sys.modules for name in ("pydantic", "quart_schema", "flask_swagger_ui")))
        assert (await served.request("GET", "/openapi.json")).status == 200
        print(*(name in sys.modules for name in ("pydantic", "quart_schema", "flask_swagger_ui")))
trio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False", "False", "True", "True", "False"]
