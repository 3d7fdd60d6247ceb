"""Images on the node that draws them: the endpoint draws, this fetches what it drew, and stores it or hands it on.

`Images` stands before the caller of endpoints and lets every other kind of request through. What a client may choose is checked
here, since clients are strangers: where the images go, and how many and how large they are.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import trio

from aicn.config.schema import Ipfs, Limits
from aicn.domain.images import ImageType, image_type
from aicn.domain.inference import Chunk, End, InferenceRequest, Kind
from aicn.domain.registration import Endpoint, check_url
from aicn.errors import AicnError, DeadlineExceeded, InvalidRequest, IpfsFailed, IpfsMissing, ModelFailed
from aicn.services.ports import Answer, Endpoints, Fetcher, ImageStore
from aicn.wire import images as wire

T = TypeVar("T")

_KINDS = frozenset({Kind.IMAGE_GENERATION, Kind.IMAGE_EDIT})
_CHUNK_BYTES = 256 * 1024  # of an answer handed on at once: a yamux window
_AT_ONCE = 4  # answers taken apart at once: each holds its images three times over, as JSON, as text and as bytes
_LARGE_BYTES = 2**20  # of base64: 4 ms of work
_NAME_CHARACTERS = string.ascii_lowercase + string.digits
_NAME_LENGTH = 16  # of `image_name` before the extension, as in spec 1


class Images:
    """Fits `services.ports.Endpoints`."""

    def __init__(
        self, endpoints: Endpoints, fetcher: Fetcher, store: ImageStore, *, ipfs: Ipfs, limits: Limits
    ) -> None:
        self._endpoints = endpoints
        self._fetcher = fetcher
        self._store = store
        self._ipfs = ipfs
        self._limits = limits
        self._room = trio.Semaphore(_AT_ONCE)

    async def open(self, endpoint: Endpoint, request: InferenceRequest) -> Answer:
        """As the endpoints do; for images also IpfsFailed, and ModelFailed when there is no IPFS node, before the model is asked."""
        if request.kind not in _KINDS:
            return await self._endpoints.open(endpoint, request)
        if request.stream:
            raise InvalidRequest("stream: images are not streamed")
        task = wire.parse_task(request.body, request.kind, request.parts)
        api = "" if task.inline else self._choose(task.ipfs_node)
        if api:
            await self._store.check(api)
        upstream = await self._endpoints.open(endpoint, replace(request, body=task.body))
        return _ImageAnswer(upstream, partial(self._finish, endpoint=endpoint, task=task, api=api), request.deadline)

    async def probe(self, endpoint: Endpoint) -> None:
        await self._endpoints.probe(endpoint)

    async def _finish(self, body: bytearray, *, endpoint: Endpoint, task: wire.Task, api: str) -> bytes:
        """`data` for the client, from the endpoint's whole answer. ModelFailed, IpfsFailed."""
        async with self._room:
            source = f"the model endpoint {_origin(endpoint.url)}"
            answered = await _beside(partial(wire.decode_answer, body, source=source), len(body))
            body.clear()
            images = await self._fetch(answered.images, endpoint)
            if task.inline:
                typed = [(data, kind.media_type) for data, kind in images]
                encode = partial(wire.encode_inline, typed, task.inline, answered.created)
                inline = await _beside(encode, sum(len(data) for data, _ in images))
                if len(inline) > self._limits.answer_bytes:
                    raise ModelFailed(f"the images take {len(inline)} bytes, over limits.answer_bytes")
                return inline
            stored = []
            for data, kind in images:
                name = "".join(secrets.choice(_NAME_CHARACTERS) for _ in range(_NAME_LENGTH))
                stored.append((await self._store.add(api, data), f"{name}.{kind.extension}"))
        shown = self._ipfs.public_url if api == self._ipfs.api and self._ipfs.public_url else _origin(api)
        return wire.encode_stored(shown, stored)

    async def _fetch(self, found: Sequence[bytes | str], endpoint: Endpoint) -> list[tuple[bytes, ImageType]]:
        left = self._limits.answer_bytes
        images = []
        for number, location in enumerate(found):
            data = location
            if isinstance(data, str):
                data = await self._fetcher.fetch(data, endpoint=endpoint.url, most=left)
            left -= len(data)
            kind = image_type(data)
            if kind is None:
                raise ModelFailed(f"the model endpoint {_origin(endpoint.url)}: data[{number}] is no image")
            images.append((data, kind))
        return images

    def _choose(self, asked: str) -> str:
        """The RPC address of the IPFS node to use: the configured one, or the client's if this node allows it."""
        own = self._ipfs.api
        if asked:
            try:
                check_url(asked)
            except InvalidRequest as error:
                raise InvalidRequest(f"ipfs_node{error.message.removeprefix('url')}") from None
            theirs = _origin(asked)
            if theirs not in {_origin(url) for url in (own, self._ipfs.public_url) if url}:
                if not {urlsplit(asked).hostname, urlsplit(theirs).netloc} & {
                    node.lower() for node in self._ipfs.allowed_nodes
                }:
                    raise IpfsFailed(
                        f"ipfs_node: {theirs} is not in ipfs.allowed_nodes of the node with the model; leave ipfs_node empty"
                    )
                return theirs
        if not own:
            raise IpfsMissing(
                "the node with the model has no IPFS node for images: set ipfs.api there, or ask with response_format url or b64_json"
            )
        return own


class _ImageAnswer(Answer):
    """Waits for the endpoint's whole answer, then for the images; a `receive` that is cancelled meanwhile abandons it."""

    def __init__(self, upstream: Answer, finish: Callable[[bytearray], Awaitable[bytes]], deadline: float) -> None:
        self._upstream = upstream
        self._complete = finish  # gives the whole answer from the endpoint's
        self._deadline = deadline
        self._body: bytes | None = None
        self._handed_on = 0  # bytes of it
        self._failure: AicnError | None = None
        self._closed = False

    async def receive(self) -> Chunk:
        if self._closed:
            raise trio.ClosedResourceError
        if self._failure is not None:
            raise self._failure
        if self._body is None:
            try:
                self._body = await self._finish()
            except AicnError as error:
                self._failure = error
                raise
            finally:
                await self._upstream.aclose()
        start = self._handed_on
        if start == len(self._body):
            self.end = self._upstream.end or End()
            raise trio.EndOfChannel
        self._handed_on = min(start + _CHUNK_BYTES, len(self._body))
        return Chunk(self._body[start : self._handed_on])

    async def aclose(self) -> None:
        self._closed = True
        await self._upstream.aclose()

    async def _finish(self) -> bytes:
        with trio.CancelScope(deadline=self._deadline):
            body = bytearray()
            async for chunk in self._upstream:
                body += chunk.data
            return await self._complete(body)
        raise DeadlineExceeded("the request's deadline has passed before its images were there")


async def _beside(work: Callable[[], T], size: int) -> T:
    """`work` on `size` bytes; in a thread when that is much, so that the event loop has its turn after each image."""
    return await trio.to_thread.run_sync(work) if size > _LARGE_BYTES else work()


def _origin(url: str) -> str:
    """Scheme, host and port: fit for strangers' eyes, without what may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"
