"""A real Chromium without a window, driven over its DevTools protocol, as far as tests of our pages need it.

async with open_browser(program, folder) as page:
    await page.open("http://127.0.0.1:6000/docs")
    await page.until("document.querySelector('h1')")
    ... page.requested, page.complaints
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio
import trio_websocket

START_S = 30.0


@dataclass
class Page:
    """One tab: what it has asked for, and what it had to complain about."""

    socket: trio_websocket.WebSocketConnection
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)  # errors of scripts, of the content security policy, of loading
    _answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    _news: trio.Event = field(default_factory=trio.Event)
    _last: int = 0

    async def call(self, method: str, **params: Any) -> Any:
        self._last = number = self._last + 1
        await self.socket.send_message(json.dumps({"id": number, "method": method, "params": params}))
        while number not in self._answers:
            await self._news.wait()
        answer = self._answers.pop(number)
        assert "result" in answer, answer
        return answer["result"]

    async def open(self, url: str) -> None:
        for domain in ("Page", "Network", "Log", "Runtime"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def value(self, script: str) -> Any:
        """What a JavaScript expression comes to; True for a part of the page."""
        plain = f"(value => value instanceof Node ? true : value)({script})"
        result = await self.call("Runtime.evaluate", expression=plain, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, script: str, *, seconds: float = 20.0) -> Any:
        """The expression's value as soon as it is a true one."""
        with trio.fail_after(seconds):
            while not (value := await self.value(script)):
                await trio.sleep(0.05)
        return value

    async def screenshot(self, path: Path) -> None:
        path.write_bytes(
            base64.b64decode((await self.call("Page.captureScreenshot", captureBeyondViewport=True))["data"])
        )

    async def listen(self) -> None:
        """Take down what the browser tells; runs as long as the page does."""
        try:
            while True:
                self._take(json.loads(await self.socket.get_message()))
                self._news.set()
                self._news = trio.Event()
        except trio_websocket.ConnectionClosed:
            return

    def _take(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case None:
                self._answers[message["id"]] = message
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.complaints.append(params["entry"]["text"])
            case "Network.loadingFailed" if not params.get("canceled"):
                self.complaints.append(params["errorText"])


@asynccontextmanager
async def open_browser(program: str, folder: Path) -> AsyncIterator[Page]:
    """A browser of its own, with an empty profile in `folder`, which can reach this machine only."""
    process = subprocess.Popen(
        [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-port=0", f"--user-data-dir={folder}",
         "--window-size=1200,1000", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = await _page_of(folder / "DevToolsActivePort")
        async with (
            trio_websocket.open_websocket_url(url, max_message_size=2**26) as socket,
            trio.open_nursery() as nursery,
        ):
            page = Page(socket)
            nursery.start_soon(page.listen)
            yield page
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        process.wait()


async def _page_of(file: Path) -> str:
    """The WebSocket of the first tab, once the browser has written down where it listens."""
    with trio.fail_after(START_S):
        while not file.exists() or "\n" not in file.read_text():
            await trio.sleep(0.05)
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                targets = (await client.get(f"http://127.0.0.1:{file.read_text().split()[0]}/json")).json()
                if pages := [target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"]:
                    return str(pages[0])
                await trio.sleep(0.05)
