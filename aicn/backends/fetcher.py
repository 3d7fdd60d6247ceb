"""Fetching the images that model endpoints name by a URL or a path.

An endpoint is the operator's choice, but what it answers need not be: a prompt may make it name any address. So a private address is
only fetched from where the operator has said so, the addresses that were checked are the ones connected to, and every redirect
is checked like the first URL.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import stat
from functools import cached_property, partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from socket import SOCK_STREAM, gaierror
from urllib.parse import unquote, urljoin, urlsplit

import h11
import trio

from aicn.backends.connection import Broken, Connection, Origin, describe, dial, parse_target
from aicn.config.schema import Images
from aicn.errors import InvalidRequest, ModelFailed

_REDIRECTS = 3  # followed in a row
_ADDRESSES = 4  # of a host that are tried
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address behind a translator


class ImageFetcher:
    """Fits `services.ports.Fetcher`."""

    def __init__(self, images: Images, *, connect_s: float, tls: ssl.SSLContext | None = None) -> None:
        self._images = images
        self._connect_s = connect_s
        self._given_tls = tls

    async def fetch(self, location: str, *, endpoint: str, most: int) -> bytes:
        """At most `most` bytes of the URL or path `location` that the endpoint at the URL `endpoint` has named. ModelFailed."""
        scheme = location.partition(":")[0].lower()
        if scheme in ("http", "https"):
            with trio.CancelScope(deadline=trio.current_time() + self._images.fetch_s):
                return await self._get(location, endpoint, most)
            raise ModelFailed(f"an image was not fetched within {self._images.fetch_s:g} s (images.fetch_s)")
        if scheme != "file" and not location.startswith("/"):
            raise ModelFailed("an image's location is neither http(s) nor data: nor a path")
        folder = self._images.local_paths
        if not folder:
            raise ModelFailed(
                "the model endpoint answers a local path; set images.local_paths to the folder it draws into"
            )
        path = unquote(urlsplit(location).path) if scheme == "file" else location
        return await trio.to_thread.run_sync(partial(_read_file, path, folder, most))

    async def _get(self, url: str, endpoint: str, most: int) -> bytes:
        for _ in range(_REDIRECTS + 1):
            try:
                target = parse_target(url)
            except InvalidRequest as error:
                raise ModelFailed(f"an image's {error.message}") from None
            where = f"the image at {target.origin}"  # never more of the URL: it may be signed
            connection = await self._connect(target.origin, endpoint, where)
            try:
                head = await connection.exchange(target, [(b"Accept", b"image/*")], None)
                if head.status_code not in (301, 302, 303, 307, 308):
                    return await _body(connection, head, most, where)
                url = urljoin(f"{target.origin}{target.path.decode()}", _header(head, b"location"))
            except Broken as error:
                raise ModelFailed(f"{where}: the server {error}") from error
            except ValueError:  # brackets that do not match
                raise ModelFailed(f"{where}: a redirect to what is no URL") from None
            finally:
                connection.close()
        raise ModelFailed(f"{where}: redirected again and again")

    async def _connect(self, origin: Origin, endpoint: str, where: str) -> Connection:
        """A connection to one of the host's addresses that may be asked."""
        addresses = await self._permitted(origin, endpoint, where)
        problem = "no answer"
        for address in addresses[:_ADDRESSES]:
            with trio.move_on_after(self._connect_s):
                try:
                    return await dial(origin, self._tls if origin.scheme == "https" else None, address=address)
                except Broken as error:
                    problem = str(error)
        raise ModelFailed(f"{where}: cannot connect: {problem}")

    async def _permitted(self, origin: Origin, endpoint: str, where: str) -> list[str]:
        addresses = await _resolve(origin.host, origin.port, where)
        if origin.host.lower() in self._images.private_hosts or all(map(is_public, addresses)):
            return addresses
        own = parse_target(endpoint).origin
        near = set(await _resolve(own.host, own.port, f"the model endpoint {own}"))
        permitted = [address for address in addresses if address in near or is_public(address)]
        if not permitted:
            raise ModelFailed(
                f"{where}: a private address that is not the model endpoint's own host; images.private_hosts can name it"
            )
        return permitted

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made when it is first needed: it reads all certificates of the system, which takes 20 ms."""
        return self._given_tls or ssl.create_default_context()


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, whatever it is wrapped in."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, IPv6Address) and (inner := _inner(ip)) is not None:
        ip = inner
    return ip.is_global and not ip.is_multicast


def _inner(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a translator or tunnel would reach."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


async def _resolve(host: str, port: int, where: str) -> list[str]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=SOCK_STREAM)
    except (gaierror, UnicodeError) as error:
        raise ModelFailed(f"{where}: {describe(error)}") from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def _body(connection: Connection, head: h11.Response, most: int, where: str) -> bytes:
    """The body of a good answer. ModelFailed, Broken."""
    if head.status_code != 200:
        raise ModelFailed(f"{where}: status {head.status_code}")
    if _header(head, b"content-encoding").lower() not in ("", "identity"):
        raise ModelFailed(f"{where}: compressed, unasked")
    too_large = ModelFailed(f"{where}: larger than the {most} bytes that are left of limits.answer_bytes")
    length = _header(head, b"content-length")
    if length.isascii() and length.isdigit() and int(length) > most:
        raise too_large
    body = bytearray()
    while (data := connection.take()) != b"":
        if data is None:
            await connection.fill()
            continue
        body += data
        if len(body) > most:
            raise too_large
    return bytes(body)


def _header(head: h11.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in head.headers if key == name), "")


def _read_file(path: str, folder: str, most: int) -> bytes:
    """A regular file below `folder`, wherever links lead. ModelFailed; it does not quote the path, which clients would see."""
    try:
        real, root = Path(path).resolve(strict=True), Path(folder).resolve(strict=True)
        if not real.is_relative_to(root):
            raise ModelFailed("the model endpoint answers a path outside images.local_paths")
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait
        with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ModelFailed("the model endpoint answers the path of what is no file")
            data = file.read(most + 1)
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a null byte; RuntimeError: links in a circle
        raise ModelFailed("the model endpoint answers the path of a file that cannot be read") from error
    if len(data) > most:
        raise ModelFailed(f"a local image is larger than the {most} bytes that are left of limits.answer_bytes")
    return data
