"""/docs in a real browser: it shows every call, tries one, and asks nobody but the node."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from aicn.gateway.openapi import document
from tests.fakes.browser import open_browser
from tests.fakes.http import serving
from tests.fakes.node import OWN

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium (tests/e2e/setup-browser.sh)"
    ),
]

ONE = "document.querySelector('#operations-Nodes-get_id')"


async def test_the_page_works_without_a_network(tmp_path: Path) -> None:
    paths = set(document()["paths"])
    async with serving(within_s=100) as served, open_browser(str(CHROMIUM), tmp_path / "profile") as page:
        await page.open(f"http://{served.address}/docs")
        shown = await page.until(
            f"document.querySelectorAll('.opblock').length >= {len(paths)} &&"
            "[...document.querySelectorAll('.opblock [data-path]')].map(e => e.dataset.path)"
        )
        assert set(shown) == paths
        await page.value(f"{ONE}.querySelector('.opblock-summary-control').click()")
        await page.until(f"{ONE}.querySelector('.try-out__btn')")
        await page.value(f"{ONE}.querySelector('.try-out__btn').click()")
        await page.until(f"{ONE}.querySelector('.execute')")
        await page.value(f"{ONE}.querySelector('.execute').click()")
        answer = await page.until(f"{ONE}.querySelector('.live-responses-table .microlight')?.textContent")
        assert OWN in answer
        await page.screenshot(tmp_path / "docs.png")
        assert all(url.startswith((f"http://{served.address}/", "data:")) for url in page.requested), page.requested
        assert page.complaints == []
