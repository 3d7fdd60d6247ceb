"""Adding images to an IPFS node over its RPC API (kubo's /api/v0), by ipfshttpclient.

ipfshttpclient 0.7 blocks, so each call is a thread of its own. It refuses nodes newer than 0.7 when it connects by `connect`;
a `Client` made directly asks no version, and what is used here is the same in kubo to this day. A node may be hostile: what it
answers is cut at a few KiB, redirects are not followed, and a call that is cancelled or takes too long ends at once, since its
socket is shut down under it: the library's own time-outs begin anew with each byte.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import ipfshttpclient  # type: ignore[import-untyped]
import requests
import trio
import urllib3
from ipfshttpclient import exceptions
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from aicn.backends.connection import Origin, parse_target
from aicn.config.schema import Ipfs
from aicn.errors import AicnError, IpfsDown, IpfsFailed
from aicn.wire.completion import one_line

T = TypeVar("T")

_THREADS = 8  # calls at once; more wait
_CHECK_S = 5.0  # to find out whether a node is alive
_ANSWER_BYTES = 8192  # of a node's answer: a CID and a size, or an error
_READ_BYTES = 4096
_SEND_BYTES = 256 * 1024  # of an image written at once: a call of Python each
_CID = re.compile(
    r"Qm[1-9A-HJ-NP-Za-km-z]{44}|b[a-z2-7]{50,120}|z[1-9A-HJ-NP-Za-km-z]{44,90}"
)  # version 0; 1 as kubo writes it
_NONSENSE = (
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    AssertionError,
    RecursionError,
)  # an answer of another shape


class IpfsStore:
    """Fits `services.ports.ImageStore`."""

    def __init__(self, ipfs: Ipfs) -> None:
        self._timeout_s = ipfs.timeout_s
        self._threads = trio.CapacityLimiter(_THREADS)

    async def check(self, api: str) -> None:
        """IpfsDown when nobody answers at the RPC address `api`, IpfsFailed when it refuses or is no IPFS node."""
        within = min(_CHECK_S, self._timeout_s)
        version = await self._call(api, _version, within, late=IpfsDown)
        if not isinstance(version, str):
            raise IpfsFailed(f"what answers at {_place(api)} is no IPFS node")

    async def add(self, api: str, data: bytes) -> str:
        """Add and pin `data`; its CID. IpfsFailed; IpfsDown when nobody answers."""
        cid = await self._call(api, partial(_add, data=data), self._timeout_s, late=IpfsFailed)
        if not isinstance(cid, str) or not _CID.fullmatch(cid):
            raise IpfsFailed(f"the IPFS node {_place(api)} answered what is no CID")
        return cid

    async def _call(
        self, api: str, work: Callable[[ipfshttpclient.Client], T], within: float, *, late: type[AicnError]
    ) -> T:
        """What `work` returns, done in a thread. `late`: the error when that takes over `within` seconds."""
        line = _Line()
        with trio.CancelScope(deadline=trio.current_time() + within):
            try:
                blocking = partial(_work, api, work, within, line)
                return await trio.to_thread.run_sync(blocking, abandon_on_cancel=True, limiter=self._threads)
            finally:
                line.cut()  # the thread, if it is still there, fails at once
        raise late(f"the IPFS node {_place(api)} has not answered within {within:g} s")


class _Line:
    """The sockets of one call; `cut` may come from another thread, at any time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sockets: list[socket.socket] = []
        self._is_cut = False

    def hold(self, opened: socket.socket) -> socket.socket:
        """Remember a new socket, by a second handle: TLS takes the first one over."""
        with self._lock:
            if self._is_cut:
                opened.close()
                raise OSError("cut off")
            self._sockets.append(opened.dup())
        return opened

    def cut(self) -> None:
        """Shut down what is open; whoever reads or writes there is woken with an error."""
        with self._lock:
            self._is_cut = True
            for handle in self._sockets:
                with handle:
                    try:
                        handle.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        continue  # the other side was faster
            self._sockets.clear()


class _Adapter(HTTPAdapter):
    """requests' side of a connection: redirects refused, answers bounded, sockets held by `line`."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        line = self._line

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return line.hold(super()._new_conn())

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return line.hold(super()._new_conn())

        self.poolmanager.pool_classes_by_scheme = {
            "http": type("PlainPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": Plain}),
            "https": type("SecurePool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": Secure}),
        }

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        response: requests.Response = super().send(*args, **kwargs)
        if response.is_redirect:
            response.close()
            raise requests.TooManyRedirects("a redirect")
        response.raw.stream = partial(_bounded, response.raw)  # type: ignore[method-assign]
        return response


def _bounded(raw: urllib3.HTTPResponse, *_: object, **__: object) -> Iterator[bytes]:
    """In place of `HTTPResponse.stream`, which reads whole chunks of whatever size the node says."""
    taken = 0
    while data := raw.read(_READ_BYTES, decode_content=True):
        taken += len(data)
        if taken > _ANSWER_BYTES:
            raise ValueError("an endless answer")
        yield data


def _work(api: str, work: Callable[[ipfshttpclient.Client], T], timeout_s: float, line: _Line) -> T:
    """In a thread: `work` with a client of `api`; the errors that it may come to are told apart."""
    origin = parse_target(api).origin
    parts = urlsplit(api)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    address = f"/{_family(origin.host)}/{origin.host}/tcp/{origin.port}/{origin.scheme}"
    base = f"{parts.path.strip('/')}/api/v0".lstrip("/")
    client = ipfshttpclient.Client(address, base, timeout=timeout_s, chunk_size=_SEND_BYTES)
    with requests.Session() as session, _told_apart(origin):
        session.trust_env = False  # no proxies: the node is the operator's own
        session.auth = auth
        session.mount(f"{origin.scheme}://", _Adapter(line))
        client._client._session = session  # noqa: SLF001 - its own cannot be told any of this, and warns of what it does
        return work(client)


@contextmanager
def _told_apart(origin: Origin) -> Iterator[None]:
    """Turns what a call of the library raises into our errors."""
    try:
        yield
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        raise IpfsDown(f"no IPFS node answers at {origin}") from error
    except exceptions.ErrorResponse as error:
        raise IpfsFailed(f"the IPFS node {origin} refuses: {one_line(error)}") from error
    except exceptions.StatusError as error:
        status = getattr(getattr(error.original, "response", None), "status_code", "?")
        raise IpfsFailed(f"the IPFS node {origin} refuses: status {status}") from error
    except (exceptions.Error, requests.RequestException, urllib3.exceptions.HTTPError, OSError, *_NONSENSE) as error:
        raise IpfsFailed(
            f"the IPFS node {origin} answered what an IPFS node does not ({type(error).__name__})"
        ) from error


def _version(client: ipfshttpclient.Client) -> object:
    return client.version()["Version"]


def _add(client: ipfshttpclient.Client, *, data: bytes) -> object:
    return client.add_bytes(data, opts={"pin": "true"})


def _family(host: str) -> str:
    try:
        return f"ip{ip_address(host).version}"
    except ValueError:
        return "dns"


def _place(api: str) -> str:
    return str(parse_target(api).origin)
