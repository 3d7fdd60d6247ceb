"""The clients: streams through `/v1/chat/completions` of the gateway, each held against the answer that it must be."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import trio

from aicn.cli.churn.fleet import MODEL, Fleet
from aicn.dev.scripted import conversation_of, script

LONGEST_S = 120.0  # of one stream: what takes longer is lost
_RESUMED = re.compile(r": aicn resumed node=(\S+)")


@dataclass(slots=True)
class Stream:
    """What one client saw. Times are trio's clock."""

    number: int
    began: float
    texts: list[str] = field(default_factory=list)
    text_at: list[float] = field(default_factory=list)  # when each of them came
    nodes: list[str] = field(default_factory=list)  # who answered, in order
    resumed_at: list[float] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    usage: tuple[int, int] | None = None  # tokens asked and answered
    done: bool = False
    error: str = ""  # the client's, or what differs from the undisturbed answer
    failed: bool = False  # the client saw an error

    @property
    def first_s(self) -> float:
        """From the request to the first text, seconds."""
        return self.text_at[0] - self.began

    @property
    def gap_s(self) -> float:
        """The longest silence between two texts, seconds."""
        return max((later - earlier for earlier, later in pairwise(self.text_at)), default=0.0)


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients ask for."""

    streams: int
    clients: int
    tokens: int

    def request(self, number: int) -> dict[str, Any]:
        """Of stream `number`. Every other one is deterministic, so that both ways of resuming are taken: replay and continuation."""
        return {
            "model": MODEL,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": self.tokens,
            "messages": _messages(number),
            "temperature": 0 if number % 2 == 0 else 0.7,
        }

    async def run(self, fleet: Fleet, seen: list[Stream]) -> float:
        """All streams; `seen` gets each when it has ended. Returns the seconds that they took."""
        begun = trio.current_time()
        numbers = iter(range(self.streams))
        limits = httpx.Limits(max_connections=self.clients, max_keepalive_connections=self.clients)
        async with httpx.AsyncClient(limits=limits, timeout=LONGEST_S, trust_env=False) as client:

            async def one_client() -> None:
                for number in numbers:
                    seen.append(await self._stream(client, fleet.url, number))
                    fleet.check()

            async with trio.open_nursery() as nursery:
                for _ in range(self.clients):
                    nursery.start_soon(one_client)
        return trio.current_time() - begun

    async def _stream(self, client: httpx.AsyncClient, url: str, number: int) -> Stream:
        stream = Stream(number, trio.current_time())
        try:
            with trio.fail_after(LONGEST_S):
                async with client.stream("POST", f"{url}/v1/chat/completions", json=self.request(number)) as response:
                    if response.status_code != 200:
                        _fail(stream, f"{response.status_code} {(await response.aread())[:300]!r}")
                        return stream
                    stream.nodes.append(response.headers.get("X-AICN-Node", ""))
                    async for line in response.aiter_lines():
                        _take(stream, line)
        except (httpx.TransportError, trio.TooSlowError, ValueError, LookupError) as error:
            _fail(stream, f"{type(error).__name__}: {error}")
        if not stream.failed:
            self._compare(stream)
        return stream

    def _compare(self, stream: Stream) -> None:
        """Hold it against the answer as nobody disturbed it."""
        if not stream.done:
            _fail(stream, "it ended without [DONE]")
            return
        conversation = conversation_of(_messages(stream.number))
        usage = len(conversation.split()), self.tokens
        if "".join(stream.texts) != "".join(script(conversation, self.tokens)):
            stream.error = "its text differs"
        elif stream.usage != usage:
            stream.error = f"its usage is {stream.usage} instead of {usage}"
        elif len(stream.ids) != 1:
            stream.error = f"it has {len(stream.ids)} ids"


def _messages(number: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"Say your piece, number {number}."}]


def _take(stream: Stream, line: str) -> None:
    """One line of the events."""
    now = trio.current_time()
    if (resumed := _RESUMED.match(line)) is not None:
        stream.nodes.append(resumed[1])
        stream.resumed_at.append(now)
    elif line == "data: [DONE]":
        stream.done = True
    elif line.startswith("data: "):
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            _fail(stream, f"{event['error']['code']}: {event['error']['message']}")
            return
        stream.ids.add(event["id"])
        for choice in event["choices"]:
            if text := choice["delta"].get("content"):
                stream.texts.append(text)
                stream.text_at.append(now)
        if usage := event.get("usage"):
            stream.usage = usage["prompt_tokens"], usage["completion_tokens"]


def _fail(stream: Stream, error: str) -> None:
    stream.error = stream.error or error
    stream.failed = True
