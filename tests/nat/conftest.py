"""Where there can be no namespaces these tests are skipped; in CI that is a failure."""

from __future__ import annotations

import os

import pytest

from tests.nat.namespaces import missing


@pytest.fixture(scope="session")
def namespaces() -> None:
    if reason := missing():
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: tests/nat/setup.sh installs what is needed")
        pytest.skip(reason)
