"""An HTTP answer, whatever brought it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import trio

from aicn.domain.inference import Head
from aicn.errors import AicnError


class HttpResponse(ABC):
    """An answer whose head has come. It must be read to its end or closed."""

    status: int

    @property
    @abstractmethod
    def source(self) -> str:
        """Who answers, as messages begin."""

    @property
    @abstractmethod
    def head(self) -> Head: ...

    @abstractmethod
    def header(self, name: bytes) -> str:
        """The value of a header by its lower-case name; empty when it is not there."""

    @abstractmethod
    async def receive_some(self, *, within: float) -> bytes:
        """All of the body that is there, at least a byte; b"" at its end. `broken`, also after `within` seconds of silence."""

    async def read(self, limit: int, *, within: float) -> bytes:
        """The body to its end, or more than `limit` bytes of it. `broken`, also when that takes over `within` seconds."""
        body = bytearray()
        deadline = trio.current_time() + within
        while len(body) <= limit and (data := await self.receive_some(within=max(0.0, deadline - trio.current_time()))):
            body += data
        return bytes(body)

    @abstractmethod
    def broken(self, what: str) -> AicnError:
        """The error of an answer that is not complete: ModelFailed of an endpoint, AnswerBroken of a peer."""

    @abstractmethod
    def close(self) -> None:
        """At once; does nothing after the end of the body."""
