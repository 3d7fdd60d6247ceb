"""The HTTP API of a running node, as commands use it; every failure is one clear line and exit code 1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import click
import httpx

KEY_VARIABLE = "AICN_KEY"
DEFAULT_API = "http://127.0.0.1:6000"
_CONNECT_S = 5.0
_READ_S = 60.0  # a node gives up on a peer sooner: p2p.dial_s is 15 s
_GAP_S = 600.0  # between pieces of an answer; the node's own limits (first_byte_s, gap_s) are shorter


def _base_url(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """`--api` as a URL without a path; the scheme may be left out."""
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname is not None and (parts.port or 1) > 0
    except ValueError:
        fits = False
    if not fits:
        raise click.BadParameter(f"{value!r} is no URL such as {DEFAULT_API}")
    return url.rstrip("/")


api_option = click.option(
    "--api",
    envvar="AICN_API",
    default=DEFAULT_API,
    show_default=True,
    show_envvar=True,
    metavar="URL",
    callback=_base_url,
    help="The running node.",
)


class ApiError(click.ClickException):
    """The node is not there or has said no."""

    exit_code = 1


class Api:
    """The API at `url`. Made by `open_api`."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url = url
        self._client = client

    def get(self, path: str, *, also: tuple[int, ...] = ()) -> Any:
        """The JSON of GET `path`; a status in `also` is an answer, too."""
        with explained(self.url):
            return self._taken(self._client.get(path), also)

    def post(self, path: str, body: dict[str, object] | None = None, *, slow: bool = False) -> Any:
        """The JSON of POST `path`, less the envelope when it has one. `slow`: a model works before the node answers."""
        timeout = httpx.Timeout(_CONNECT_S, read=_GAP_S if slow else _READ_S)
        with explained(self.url):
            return self._taken(self._client.post(path, json=body or {}, timeout=timeout), ())

    @contextmanager
    def stream(self, path: str, body: dict[str, object]) -> Iterator[Iterator[bytes]]:
        """POST `path` for an event stream: its bytes as they arrive. Leaving the block hangs up."""
        timeout = httpx.Timeout(_CONNECT_S, read=_GAP_S)
        with explained(self.url), self._client.stream("POST", path, json=body, timeout=timeout) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                response.read()
                self._taken(response, ())
                raise ApiError("the node did not stream its answer")
            yield response.iter_bytes()

    def _taken(self, response: httpx.Response, also: tuple[int, ...]) -> Any:
        return taken(response, self.url, also)


@contextmanager
def open_api(url: str) -> Iterator[Api]:
    """A client of the node at `url`; connects when first used."""
    with httpx.Client(**client_options(url)) as client:
        yield Api(url, client)


def client_options(url: str) -> dict[str, Any]:
    """What every client of a node is made with, the API key in AICN_KEY included. No proxies from the environment: the node is near."""
    key = os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {
        "base_url": url,
        "timeout": httpx.Timeout(_READ_S, connect=_CONNECT_S),
        "trust_env": False,
        "headers": headers,
    }


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turns what httpx raises into what a user can act upon."""
    place = urlsplit(url).netloc
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ApiError(f"no node answers at {place}; start one with: aicn daemon") from error
    except httpx.TimeoutException as error:
        raise ApiError(f"the node at {place} took too long to answer") from error
    except httpx.HTTPError as error:
        raise ApiError(f"the connection to the node at {place} broke: {error or type(error).__name__}") from error


def taken(response: httpx.Response, url: str, also: tuple[int, ...] = ()) -> Any:
    """The JSON of `response`, its `data` when it is an envelope; ApiError with the node's code and message otherwise."""
    try:
        body = response.json()
    except ValueError:
        raise ApiError(f"what answers at {url} is no aicn node (HTTP {response.status_code}, not JSON)") from None
    if response.status_code in also:
        return body
    if isinstance(body, dict) and body.get("code"):
        raise ApiError(refusal(body))
    if response.is_error:
        raise ApiError(f"what answers at {url} is no aicn node (HTTP {response.status_code})")
    return body.get("data") if isinstance(body, dict) and "code" in body else body


def refusal(body: dict[str, Any]) -> str:
    """The node's own words for a failure, with its code."""
    return f"{body.get('message') or 'the node says no more'} (code {body.get('code')})"
