"""Going on with a streamed answer that broke off: what a client was told, the second request, and the seam. Sans-io.

Two ways: *replay* asks the same again and drops what the client has, after checking that it is the same; *continuation* gives the model
the text so far as the beginning of the assistant's message (llama.cpp needs no more than that). Nothing is trimmed, and nothing is
cut but between two deltas as they came, since a model goes on well only where one of its tokens ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aicn.domain.inference import Kind, Usage
from aicn.wire.json_body import JsonObject
from aicn.wire.sse import EventCutter, iter_data, parse_usage

DONE = b"data: [DONE]\n\n"
_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")  # of events
_HEAD = ("id", "created", "model", "object", "system_fingerprint")  # what is the same in all events of an answer
_REPLAYED = 400  # deltas: up to here a model says them again sooner than a client minds
_PROBE = 16  # characters by which a server is known that begins anew instead of going on; fewer may well come twice in a text
_LIMITS = ("max_tokens", "max_completion_tokens")

Json = dict[str, Any]


class Differs(Exception):
    """The second worker does not say again what the first has said."""


class Hopeless(Exception):
    """The answer cannot be gone on with; the text says why, as the end of "… since "."""


@dataclass(slots=True)
class Transcript:
    """What a client was told of a streamed answer."""

    head: Json = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)  # by member of the deltas: `content`, `reasoning_content` …
    roles: set[int] = field(default_factory=set)  # choices whose role was told
    finished: dict[int, str] = field(default_factory=dict)  # choice → reason
    tokens: int = 0  # of the answer: as the server counts, else one for each delta
    usage: Usage | None = None
    deltas: int = 0
    done: bool = False
    obstacle: str = ""  # why nobody can go on with it

    @property
    def counted(self) -> Usage:
        """The tokens so far, as far as they are known."""
        asked = self.usage.prompt_tokens if self.usage is not None else 0
        return Usage(asked, self.tokens, asked + self.tokens)


def read(pieces: Iterable[bytes], kind: Kind) -> Transcript:
    """What `pieces`, all that the client has been sent, told."""
    told = Transcript()
    data = b"".join(pieces)
    if data and not data.endswith(_ENDS):
        told.obstacle = "it broke off inside of an event"
        return told
    for event in iter_data(data):
        if event == b"[DONE]":
            told.done = True
            continue
        value = _object(event)
        if value is None or value.get("error") is not None:
            told.obstacle = "the model itself has told of an error"
            return told
        _take(told, value, kind)
    for name, text in told.texts.items():  # halves of a character that came in two deltas
        told.texts[name] = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return told


def _take(told: Transcript, value: Json, kind: Kind) -> None:
    if not told.head:
        told.head = {name: value[name] for name in _HEAD if name in value}
    for choice in _choices(value):
        index = _index(choice)
        if choice.get("logprobs") is not None:
            told.obstacle = "logprobs are told"
        if _holder(choice, kind).get("role"):
            told.roles.add(index)
        said = False
        for name, part in _parts(choice, kind):
            if not isinstance(part, str):
                told.obstacle = f"{name} have begun" if name.endswith("s") else f"{name} has begun"
            elif index != 0:
                told.obstacle = "it has several choices"
            else:
                told.texts[name] = told.texts.get(name, "") + part
                said = True
        told.deltas += said
        told.tokens += said
        if isinstance(reason := choice.get("finish_reason"), str):
            told.finished[index] = reason
    told.tokens = _counted(value) or told.tokens
    told.usage = parse_usage(value.get("usage")) or told.usage


@dataclass(frozen=True, slots=True)
class Ending:
    """Nothing is left to ask: what the client is still to be told."""

    data: bytes
    finish_reason: str
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Second:
    """What another worker is asked, and how its answer is joined to what was told."""

    body: bytes
    splice: Splice
    replays: bool


def plan(body: bytes, kind: Kind, told: Transcript, *, replayable: bool = True) -> Ending | Second:
    """How to go on with the answer to `body`, of which the client was told `told`. Hopeless.

    `replayable`: no replay has differed so far.
    """
    if told.done:
        return Ending(b"", _reason(told), told.usage)
    if told.obstacle:
        raise Hopeless(told.obstacle)
    request = JsonObject(body)
    asked = request.values
    if told.finished and len(told.finished) >= _number(asked, "n"):
        return Ending(DONE, _reason(told), told.usage)
    if not told.texts:
        return Second(body, Splice(told, kind, replays=True), replays=True)
    if (why := _obstacle(asked)) is not None:
        raise Hopeless(why)
    lowered = {name: asked[name] - told.tokens for name in _LIMITS if type(asked.get(name)) is int and asked[name] > 0}
    if lowered and min(lowered.values()) <= 0:
        return _cut_off(told, kind)
    if replayable and told.deltas <= _REPLAYED and _is_deterministic(asked):
        return Second(body, Splice(told, kind, replays=True), replays=True)
    if asked.get("tools") or asked.get("functions"):
        raise Hopeless("tools are offered to the model")
    if told.texts.keys() - {_member(kind)}:
        raise Hopeless(f"{min(told.texts.keys() - {_member(kind)})} has begun")
    changes = _prolonged(asked, kind, told.texts[_member(kind)]) | lowered
    return Second(request.changed(changes), Splice(told, kind, replays=False), replays=False)


def _obstacle(asked: Mapping[str, Any]) -> str | None:
    """Why an answer that has begun cannot be gone on with, whatever it is; None: it may be."""
    if _number(asked, "n") != 1 or _number(asked, "best_of") != 1:
        return "several choices are asked for"
    if asked.get("logprobs") not in (None, False):
        return "logprobs are asked for"
    form = asked.get("response_format")
    if form is not None and not (isinstance(form, dict) and form.get("type") == "text"):
        return "it has a schema"
    if any(
        asked.get(name) for name in ("grammar", "json_schema", "guided_json", "guided_grammar", "structured_outputs")
    ):
        return "it has a grammar"
    return None


def _is_deterministic(asked: Mapping[str, Any]) -> bool:
    temperature = asked.get("temperature")
    return (type(temperature) in (int, float) and temperature == 0) or (
        type(asked.get("seed")) is int and asked["seed"] >= 0  # below: a random one, as llama.cpp means it
    )


def _prolonged(asked: Mapping[str, Any], kind: Kind, text: str) -> Json:
    """The members that make a model go on behind `text`. Hopeless."""
    if kind is Kind.COMPLETION:
        if not isinstance(prompt := asked.get("prompt"), str) or asked.get("suffix") or asked.get("echo"):
            raise Hopeless("its prompt is no single text")
        return {"prompt": prompt + text}
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Hopeless("it has no messages")
    match messages[-1]:
        case {"role": "assistant", "content": str(begun)} as last:  # the client itself had begun the answer
            return {"messages": [*messages[:-1], {**last, "content": begun + text}]}
        case {"role": "assistant"}:
            raise Hopeless("the client itself has begun it, not with a text")
    return {"messages": [*messages, {"role": "assistant", "content": text}]}


def _cut_off(told: Transcript, kind: Kind) -> Ending:
    """The end of an answer whose limit was used up when it broke."""
    empty: Json = {"text": ""} if kind is Kind.COMPLETION else {"delta": {}}
    last = {**told.head, "choices": [{"index": 0, **empty, "finish_reason": "length"}]}
    return Ending(_event(last) + DONE, "length", told.usage)


def _reason(told: Transcript) -> str:
    return next(iter(told.finished.values()), "")


class Splice:
    """Joins the events of a second worker to what the client has: one id, each character once, the usage of the whole.

    A server that begins anew instead of going on is taken at its word: from there on its answer is a replay.
    """

    def __init__(self, told: Transcript, kind: Kind, *, replays: bool) -> None:
        self.finish_reason = ""
        self.usage: Usage | None = None  # of the whole, once told
        self._told = told
        self._kind = kind
        self._cutter = EventCutter()
        self._behind = dict(told.texts) if replays else {}  # what is still to be said again
        self._before = 0 if replays else told.tokens  # tokens that the second worker counts as asked, not as answered
        text = told.texts.get(_member(kind), "")
        self._probe = text[:_PROBE] if not replays and len(text) >= _PROBE else ""
        self._heard = ""  # as long as it is the beginning of the probe
        self._held: list[Json] = []  # events with that

    def feed(self, data: bytes) -> bytes:
        """What the client is to be told of `data`. Differs; ValueError when it is no answer."""
        told = []
        for event in iter_data(self._cutter.feed(data)):
            if event == b"[DONE]":
                told += self._release()
                if any(self._behind.values()):
                    raise Differs
                told.append(DONE)
                continue
            value = _object(event)
            if value is None or value.get("error") is not None:
                raise ValueError("it answered an event that is none of an answer")
            told += self._go_on(value)
        return b"".join(told)

    def _go_on(self, value: Json) -> list[bytes]:
        if not self._probe:
            return self._joined(value)
        self._held.append(value)
        for choice in _choices(value):
            part = _holder(choice, self._kind).get(_member(self._kind))
            self._heard += part if isinstance(part, str) else ""
        if self._heard.startswith(self._probe):
            self._behind, self._before = dict(self._told.texts), 0
        elif self._probe.startswith(self._heard) and not any(c.get("finish_reason") for c in _choices(value)):
            return []
        return self._release()

    def _release(self) -> list[bytes]:
        held, self._held, self._probe = self._held, [], ""
        return [event for value in held for event in self._joined(value)]

    def _joined(self, value: Json) -> list[bytes]:
        """The event as the client gets it; none when it has nothing new."""
        value.update(self._told.head)
        news = self._add_up(value)
        for choice in _choices(value):
            news = self._cut(choice) or news
        return [_event(value)] if news else []

    def _cut(self, choice: Json) -> bool:
        """Take out of `choice` what was told; whether something is left."""
        delta, index = _holder(choice, self._kind), _index(choice)
        if index in self._told.roles:
            delta.pop("role", None)
        news = "role" in delta
        for name, part in _parts(choice, self._kind):
            behind = self._behind.get(name, "") if index == 0 else ""
            if not behind:
                if any(self._behind.values()):
                    raise Differs  # what came before it is missing
                news = True
            elif not isinstance(part, str):
                raise Differs
            elif behind.startswith(part):
                self._behind[name] = behind[len(part) :]
                delta[name] = ""
            elif part.startswith(behind):
                self._behind[name] = ""
                delta[name] = part[len(behind) :]
                news = True
            else:
                raise Differs
        if isinstance(reason := choice.get("finish_reason"), str):
            if any(self._behind.values()):
                raise Differs
            self.finish_reason = reason
            news = True
        return news

    def _add_up(self, value: Json) -> bool:
        """Make the event's counts those of the whole; whether it is there for them alone."""
        timings = value.get("timings")
        if isinstance(timings, dict) and type(timings.get("predicted_n")) is int:
            timings["predicted_n"] += self._before
        usage = parse_usage(value.get("usage"))
        if usage is None:
            return False
        asked = max(0, usage.prompt_tokens - self._before)
        if self._told.usage is not None:
            asked = self._told.usage.prompt_tokens
        answered = usage.completion_tokens + self._before
        self.usage = Usage(asked, answered, asked + answered)
        value["usage"] |= {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
        }
        return not _choices(value)


def comment(text: str) -> bytes:
    """An event that clients pass over; `text` is one line."""
    return b": " + text.encode() + b"\n\n"


def _member(kind: Kind) -> str:
    return "text" if kind is Kind.COMPLETION else "content"


def _holder(choice: Json, kind: Kind) -> Json:
    """What holds the texts of a choice."""
    held = choice if kind is Kind.COMPLETION else choice.get("delta")
    return held if isinstance(held, dict) else {}


def _parts(choice: Json, kind: Kind) -> list[tuple[str, object]]:
    """The members of a delta that say something, and what."""
    held = _holder(choice, kind)
    names = ("text",) if kind is Kind.COMPLETION else held.keys() - {"role"}
    return [(name, held[name]) for name in names if held.get(name) not in (None, "", [], {})]


def _index(choice: Json) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _number(asked: Mapping[str, Any], name: str) -> int:
    """How many are asked for; 1 unless the request says."""
    value = asked.get(name)
    return value if type(value) is int else 1


def _choices(value: Json) -> list[Json]:
    choices = value.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _counted(value: Json) -> int:
    """Tokens of the answer so far, if the event tells: vLLM's continuous usage, llama.cpp's timings; else 0."""
    usage = parse_usage(value.get("usage"))
    if usage is not None and usage.completion_tokens:
        return usage.completion_tokens
    match value.get("timings"):
        case {"predicted_n": int(count)} if 0 < count < 2**53:
            return count
    return 0


def _object(event: bytes) -> Json | None:
    try:
        value = json.loads(event)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _event(value: Json) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
