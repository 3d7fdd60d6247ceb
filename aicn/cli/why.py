"""`aicn why`: what became of a request, and why it went where it went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import click

from aicn.cli.client import api_option, open_api
from aicn.cli.output import harmless, json_option, show_json


@click.command(short_help="Show what became of a request, and why.")
@click.argument("request_id")
@api_option
@json_option
def command(*, request_id: str, api: str, as_json: bool) -> None:
    """Show what became of the request with the id REQUEST_ID: the X-Request-Id of its answer.

    Every node that was considered with the reason, every one that was asked with what came of it, and what this node's own models
    did for it. The running node remembers its last 2000 requests that have ended; it keeps no prompts and no answers.
    """
    with open_api(api) as node:
        found = node.get(f"/api/v0/debug/trace?{urlencode({'id': request_id})}")
    if as_json:
        show_json(found)
        return
    for line in _lines(found):
        click.echo(harmless(line))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"request {found['id']}"
    if (asked := found["asked"]) is not None:
        yield f"{_what(asked)}, by /{asked['surface']} until {_moment(asked['ended_at'])}"
        yield f"  {_outcome(asked)}"
    if (way := found["way"]) is not None:
        yield ""
        yield "considered" if way["candidates"] else "considered: nobody"
        for one in way["candidates"]:
            place = "-" if one["rank"] is None else one["rank"] + 1
            yield f"  {place:>2}  {one['node_id']}  {one['seconds']:.2f} s  {one['reason']}"
        yield ""
        yield "asked" if way["attempts"] else "asked: nobody"
        for one in way["attempts"]:
            yield f"  +{one['after_s']:.3f} s  {one['node_id']}  {'relayed' if one['relayed'] else 'direct'}{_role(one)}"
            yield f"      {', '.join(_phases(one))}"
    for one in found["worked"]:
        yield ""
        yield f"answered here for {one['node_id'] or 'this node itself'}: {_what(one)}, until {_moment(one['ended_at'])}"
        yield f"  {_outcome(one)}"


def _what(one: dict[str, Any]) -> str:
    streamed = ", streamed" if one["stream"] else ""
    return f"{one['kind'].replace('_', ' ')} with {one['project']}/{one['model']}{streamed}"


def _outcome(one: dict[str, Any]) -> str:
    told = [f"{one['error'] or 'ok'} after {one['seconds']:.3f} s"]
    if one["queued_s"]:
        told.append(f"queued {one['queued_s']:.3f} s")
    if one["first_s"] is not None:
        told.append(f"first chunk after {one['first_s']:.3f} s")
    if one["usage"] is not None:
        told.append(f"tokens {one['usage']['prompt_tokens']} in and {one['usage']['completion_tokens']} out")
    if one["finish_reason"]:
        told.append(f"finish {one['finish_reason']}")
    if one["key"]:
        told.append(f"key {one['key']}")
    return ", ".join(told)


def _role(attempt: dict[str, Any]) -> str:
    roles = (("hedge", ", beside one that was slow to begin"), ("resumed", ", to go on where another broke off"))
    return "".join(text for name, text in roles if attempt[name])


def _phases(attempt: dict[str, Any]) -> Iterator[str]:
    """What it came to, in seconds since the node was asked."""
    if attempt["accepted_s"] is not None:
        yield f"accepted after {attempt['accepted_s']:.3f} s"
    if attempt["queued_ms"]:
        yield f"queued {attempt['queued_ms'] / 1000:.3f} s"
    if attempt["first_s"] is not None:
        yield f"first chunk after {attempt['first_s']:.3f} s"
    if attempt["chunks"]:
        yield f"{attempt['chunks']} chunks"
    ended = "" if attempt["ended_s"] is None else f" after {attempt['ended_s']:.3f} s"
    yield f"failed{ended}: {attempt['error']}" if attempt["error"] else f"ended{ended}"


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
