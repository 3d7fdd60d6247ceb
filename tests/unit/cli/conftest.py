"""What tests of commands share: a way to call them, and a node to call."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from aicn.cli.main import cli
from tests.fakes.api import FakeApi, open_fake_api


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with open_fake_api() as running:
        yield running


@pytest.fixture
def aicn() -> Callable[..., Result]:
    """`aicn("init", "--dir", "x")` as on the command line, without the caller's AICN_ variables."""

    def call(*args: str, stdin: str | None = None) -> Result:
        return CliRunner(env={"AICN_API": None, "AICN_API_KEY": None, "AICN_CONFIG": None}).invoke(
            cli, args, input=stdin
        )

    return call
