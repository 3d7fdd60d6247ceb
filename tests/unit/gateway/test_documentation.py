"""docs/http-api.md against the routes and the error table."""

from __future__ import annotations

import re
from pathlib import Path

from aicn import errors
from aicn.domain.names import LONGEST_NAME
from aicn.errors import AicnError, ConfigError, StartupError
from aicn.gateway import clients, connection, exchange, server
from aicn.gateway.app import create_app
from aicn.gateway.openai import errors as openai_errors
from aicn.gateway.v0.errors import TABLE
from aicn.wire import json_body
from tests.fakes.node import FakeNode

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "http-api.md").read_text()
MIGRATION = (DOCS / "migration.md").read_text()


async def test_every_route_is_documented() -> None:
    rows = re.findall(r"^\| (GET|POST|POST or GET) \| `(/[^`]+)` \|", TEXT, re.MULTILINE)
    documented = {(method, path) for methods, path in rows for method in methods.split(" or ")}
    rules = create_app(FakeNode().node()).url_map.iter_rules()
    served = {(method, rule.rule) for rule in rules for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert served == documented


async def test_the_routes_of_the_existing_program_are_all_there_with_its_methods() -> None:
    """Those of v0.1.3 (its pkg/serve/http.go), as docs/migration.md lists them."""
    listed = re.findall(r"^\| (GET|POST|GET or POST) \| (`/.*) \|$", MIGRATION, re.MULTILINE)
    wanted = {
        (method, path)
        for methods, row in listed
        for path in re.findall(r"`(/\S+)`", row)
        for method in methods.split(" or ")
    }
    rules = create_app(FakeNode().node()).url_map.iter_rules()
    served = {(method, rule.rule.removeprefix("/api/v0")) for rule in rules for method in rule.methods or set()}
    assert len(wanted) == 20 + 3
    assert wanted <= served


def test_the_error_table_is_documented() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \|", TEXT, re.MULTILINE)
    assert {kind: tuple(map(int, numbers)) for kind, *numbers in rows} == TABLE


def test_the_error_table_knows_every_error() -> None:
    classes = {cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, AicnError)}
    assert {cls.code for cls in classes - {ConfigError, StartupError}} == set(TABLE)


def test_the_error_table_of_openai_is_documented_and_knows_every_error() -> None:
    text = (DOCS / "openai.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| `(\w+)` \| `(\w+)` \|", text, re.MULTILINE)
    assert {kind: (int(status), *words) for kind, status, *words in rows} == openai_errors.TABLE
    assert openai_errors.TABLE.keys() == TABLE.keys()


def test_the_limits_are_documented() -> None:
    deadlines = connection.Deadlines()
    for said in (
        f"{connection.HEAD_BYTES // 1024} KiB, within {deadlines.head_s:g} s",
        f"| {deadlines.idle_s:g} s |",
        f"`http.requests` + {server.SPARE}",
        f"`http.requests_per_client` + {server.SPARE_PER_CLIENT}",
        f"| {connection.HEADERS}; more are answered 431 |",
        f"over {clients.LITTLE // 1024} KiB are answered 503",
        f"| {json_body.DEEPEST} levels |",
        f"{exchange.BODY_S:g} s, and a second more for each {exchange.BODY_BYTES_PER_S // 1024} KiB",
        f"1 to {LONGEST_NAME} characters",
    ):
        assert said in TEXT
    assert deadlines.stall_s == 60  # "for a minute"
