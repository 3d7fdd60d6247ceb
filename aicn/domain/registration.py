"""Projects and their models, as registered on this node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit, urlunsplit

from aicn.domain.inference import Kind
from aicn.errors import InvalidRequest

# `type` of `POST /ai/project/register`: 0 text to text, 1 text to image, 2 image to image (spec 1); 3 text to embedding (ours)
KIND_OF_TYPE = {0: Kind.CHAT, 1: Kind.IMAGE_GENERATION, 2: Kind.IMAGE_EDIT, 3: Kind.EMBEDDING}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model endpoint on the operator's side. What may hold a secret is not in its repr."""

    project: str
    model: str
    url: str = field(repr=False)  # http or https, the full URL that requests are posted to, query included
    type: int = 0
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # sent with each request
    api_key: str = field(default="", repr=False)  # sent as `Authorization: Bearer`
    context: int = 0  # tokens of a conversation, its answer included; 0: unknown


@dataclass(frozen=True, slots=True)
class Project:
    """A project of a node with the names of its models, as other nodes see it."""

    name: str
    models: tuple[str, ...]


_CHAT_PATH = "/chat/completions"
_COMPLETION_PATH = "/completions"


def for_kind(endpoint: Endpoint, kind: Kind) -> Endpoint | None:
    """The endpoint as it is asked for `kind`; None: it does not do that.

    llama.cpp, vLLM and Ollama complete texts beside `/v1/chat/completions`, at `/v1/completions`: where a chat's URL ends so, that
    one is asked.
    """
    if KIND_OF_TYPE[endpoint.type] is not kind.offered:
        return None
    if kind is not Kind.COMPLETION:
        return endpoint
    parts = urlsplit(endpoint.url)
    if not parts.path.endswith(_CHAT_PATH):
        return None
    path = parts.path.removesuffix(_CHAT_PATH) + _COMPLETION_PATH
    return replace(endpoint, url=urlunsplit(parts._replace(path=path)))


LONGEST_CONTEXT = 2**31 - 1  # tokens: what an offer's field holds
MOST_HEADERS = 32  # of one endpoint
MOST_HEADER_CHARACTERS = 8192  # of all their names and values: what servers take of one head
LONGEST_KEY = 4096  # characters of an API key: long tokens have some 2000

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")  # RFC 9110 section 5.5, without bytes above ASCII
_KEY = re.compile(r"[!-~]+")  # RFC 6750's b64token and what services give out beside it
_OURS = {  # what says how the message is framed, or what is in it: RFC 9110 section 7.6.1, RFC 9112
    *(
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "host",
    ),
    *("content-length", "content-type", "content-encoding", "accept", "accept-encoding"),
}

_LONGEST_URL = 2048  # what browsers and proxies agree on; far over every real endpoint
_URL_TEXT = re.compile(r"[!-~]+")  # printable ASCII without space: the rest is percent-encoded or punycode in a URL
_HOST = re.compile(r"[A-Za-z0-9._~:%-]+")  # a name, or an IP address without brackets


def check_url(url: object) -> None:
    """InvalidRequest unless `url` can be posted to: http or https, a host, a port that exists, no fragment.

    User and password in it are allowed; they are sent to the endpoint as HTTP Basic authentication, and never shown.
    """
    if not isinstance(url, str) or not url:
        raise InvalidRequest("url: needed, such as http://127.0.0.1:1088/v1/chat/completions")
    if len(url) > _LONGEST_URL:
        raise InvalidRequest(f"url: longer than {_LONGEST_URL} characters")
    if not _URL_TEXT.fullmatch(url):
        raise InvalidRequest("url: only printable ASCII is allowed; percent-encode the rest")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except (
        ValueError
    ):  # brackets that do not match, a label over 63 characters, no such port; its text may hold a password
        raise InvalidRequest("url: its host or port does not parse") from None
    if parts.scheme not in ("http", "https"):
        raise InvalidRequest("url: only http:// and https:// are allowed")
    if not _HOST.fullmatch(host):
        raise InvalidRequest("url: names no host")
    if port == 0:
        raise InvalidRequest("url: port 0 cannot be connected to")
    if "#" in url:
        raise InvalidRequest("url: a fragment (#…) makes no sense in an endpoint")


def check_headers(headers: Sequence[tuple[str, str]], api_key: str, url: str) -> None:
    """InvalidRequest, naming `headers` or `api_key` and no value, unless both can be sent with each request to `url`."""
    if len(headers) > MOST_HEADERS:
        raise InvalidRequest(f"headers: at most {MOST_HEADERS} are allowed")
    if sum(len(name) + len(value) for name, value in headers) > MOST_HEADER_CHARACTERS:
        raise InvalidRequest(f"headers: longer than {MOST_HEADER_CHARACTERS} characters in all")
    seen = set()
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise InvalidRequest(
                "headers: a name holds what header names cannot"
            )  # not repeated: it may be a whole line
        if name.lower() in _OURS:
            raise InvalidRequest(f"headers.{name}: the node sets it itself")
        if name.lower() in seen:
            raise InvalidRequest(f"headers.{name}: given twice")
        if not _VALUE.fullmatch(value):
            raise InvalidRequest(f"headers.{name}: only printable ASCII without space at its ends is allowed")
        seen.add(name.lower())
    if api_key and (len(api_key) > LONGEST_KEY or not _KEY.fullmatch(api_key)):
        raise InvalidRequest(f"api_key: 1 to {LONGEST_KEY} printable ASCII characters without space are needed")
    said = (bool(api_key), "authorization" in seen, urlsplit(url).username is not None)
    if sum(said) > 1:
        where = "api_key" if api_key else "headers.Authorization"
        raise InvalidRequest(
            f"{where}: a key, an Authorization header and a user in the URL are one and the same; give one"
        )
