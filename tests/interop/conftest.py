"""Foreign peers as fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop import gopeer
from tests.nat.conftest import namespaces  # noqa: F401 - a fixture


@pytest.fixture(scope="session", params=gopeer.VERSIONS)
def go_program(request: pytest.FixtureRequest) -> Path:
    """The Go peer, once per version of its libraries."""
    return gopeer.require(request.param)
