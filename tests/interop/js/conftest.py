"""js-libp2p peers for the tests of this directory; skipped without Node, which in CI is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest

from tests.interop.js.process import HERE, JsPeer, install, missing, open_js

StartJs = Callable[..., AbstractAsyncContextManager[JsPeer]]


@pytest.fixture(scope="session")
def start_js(tmp_path_factory: pytest.TempPathFactory) -> StartJs:
    """`async with start_js(…) as js` is a running peer; its arguments are the options of peer.mjs."""
    reason = missing()
    if reason is None:
        try:
            modules = install()
        except subprocess.CalledProcessError as error:
            reason = f"npm ci failed: {error.stderr.strip()[-500:]}"
        except subprocess.TimeoutExpired:
            reason = "npm ci did not end"
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("js")  # programs find their modules beside them only
    for program in (*HERE.glob("*.mjs"), HERE / "package.json"):
        shutil.copy(program, directory)
    (directory / "node_modules").symlink_to(modules)
    return partial(open_js, directory)
