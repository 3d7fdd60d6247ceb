"""Projects and their models, as registered on this node."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from aicn.domain.inference import Kind
from aicn.errors import InvalidRequest

# `type` of `POST /ai/project/register`: 0 text to text, 1 text to image, 2 image to image (spec 1); 3 text to embedding (ours)
KIND_OF_TYPE = {0: Kind.CHAT, 1: Kind.IMAGE_GENERATION, 2: Kind.IMAGE_EDIT, 3: Kind.EMBEDDING}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model endpoint on the operator's side."""

    project: str
    model: str
    url: str  # http or https, the full URL that requests are posted to, query included
    type: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    """A project of a node with the names of its models, as other nodes see it."""

    name: str
    models: tuple[str, ...]


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
