"""`/chat-proxy/0.0.1`: one HTTP/1.1 exchange per stream, sans-io around h11.

The requester's request names project and model in its query and has the client's JSON as its body; nobody looks at the path.
The worker writes what its endpoint answered, and closes. A body is complete when its last chunk, or its whole length, has come;
an end of the stream before that is a failure (the worker of the existing network closes then as well).
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

import h11

from aicn.domain.inference import Head
from aicn.errors import AnswerBroken, ProtocolViolation, TooLarge

PROTOCOL = "/chat-proxy/0.0.1"
_PATH = "/api/v0/chat/completion"  # of the requester's own API, as nodes of the existing network write it
_HEAD_BYTES = 80 * 1024  # more than we take from an endpoint
_LONGEST_NAME = 128  # characters of a project or model
_MOST_FIELDS = 64  # of a query
_PIECES, _PIECE_BYTES = 4096, 256  # of a body, beyond the first: each costs 5 µs, and the smallest chunk has six bytes
# Of an endpoint's head: what belongs to its connection (RFC 9110, section 7.6.1), and what only its own client may see or act upon.
_NOT_PASSED_ON = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"alt-svc",
        b"authorization",
        b"clear-site-data",
        b"location",
        b"proxy-authenticate",
        b"set-cookie",
        b"strict-transport-security",
        b"www-authenticate",
    )
)


class Worker:
    """The side that has the model: bytes of a request in, bytes of an answer out."""

    def __init__(self, *, body_bytes: int) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self._most = body_bytes
        self._body = bytearray()
        self._pieces = 0
        self.project = ""
        self.model = ""

    @property
    def body(self) -> bytes:
        return bytes(self._body)

    def feed(self, data: bytes) -> bool:
        """Take bytes of the stream (b"": its end); whether the request is complete. ProtocolViolation, TooLarge."""
        try:
            self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    self._take_query(event)
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    self._pieces += 1
                    if self._pieces > _PIECES + len(self._body) // _PIECE_BYTES:
                        raise ProtocolViolation("chat-proxy: a body in crumbs")
                    if len(self._body) > self._most:
                        raise TooLarge(f"body: over this node's limit of {self._most} bytes")
                elif isinstance(event, h11.EndOfMessage):
                    return True
                elif isinstance(event, h11.ConnectionClosed):
                    raise ProtocolViolation("chat-proxy: the stream ended before the request")
                else:
                    return False
        except h11.RemoteProtocolError as error:
            raise ProtocolViolation(f"chat-proxy: not a request: {error}") from None

    def _take_query(self, request: h11.Request) -> None:
        try:
            query = dict(parse_qsl(urlsplit(request.target.decode("ascii")).query, max_num_fields=_MOST_FIELDS))
        except ValueError:
            raise ProtocolViolation("chat-proxy: a request target that does not parse") from None
        self.project, self.model = query.get("project", ""), query.get("model", "")
        for name in (self.project, self.model):
            if not 0 < len(name) <= _LONGEST_NAME:
                raise ProtocolViolation("chat-proxy: a request without project or model")

    @property
    def begun(self) -> bool:
        """The head of the answer has been written."""
        return self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    def head(self, head: Head) -> bytes:
        """The head of the answer, less what is not for the requester. Without a Content-Length the body goes out in chunks."""
        named = head.get(b"connection").lower().encode("latin-1").split(b",")
        dropped = _NOT_PASSED_ON.union(name.strip() for name in named)
        headers = [(name, value) for name, value in head.headers if name not in dropped]
        reason = head.reason.encode("latin-1", "replace")
        return self._send(h11.Response(status_code=head.status, reason=reason, headers=headers))

    def data(self, data: bytes) -> bytes:
        """A part of the body, to be written at once."""
        return self._send(h11.Data(data=data))

    def end(self) -> bytes:
        """The end of a complete body."""
        return self._send(h11.EndOfMessage())

    def _send(self, event: h11.Event) -> bytes:
        return self._http.send(event) or b""


class Requester:
    """The side that asks: bytes of a request out, an answer in."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)

    def request(self, project: str, model: str, body: bytes, *, stream: bool) -> bytes:
        """The whole request. No header of the client goes to a stranger's node."""
        query = urlencode({"model": model, "project": project})
        head = h11.Request(
            method="POST",
            target=f"{_PATH}?{query}",
            headers=[
                ("Host", "127.0.0.1"),
                ("Accept", "text/event-stream" if stream else "application/json"),
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
            ],
        )
        sent = (head, h11.Data(data=body), h11.EndOfMessage())
        return b"".join(self._http.send(event) or b"" for event in sent)

    def feed(self, data: bytes) -> list[Head | bytes | None]:
        """Take bytes of the stream (b"": its end): the head, parts of the body, and None once it is complete.

        ProtocolViolation: not HTTP. AnswerBroken: it ended early.
        """
        out: list[Head | bytes | None] = []
        try:
            self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Response):
                    reason = bytes(event.reason).decode("latin-1")
                    out.append(Head(event.status_code, reason, tuple((name, value) for name, value in event.headers)))
                elif isinstance(event, h11.Data):
                    out.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    out.append(None)
                    return out
                elif not isinstance(event, h11.InformationalResponse):
                    return out
        except h11.RemoteProtocolError as error:
            if not data:
                raise AnswerBroken("the node ended its answer before it was complete") from None
            raise ProtocolViolation(f"chat-proxy: not an answer: {error}") from None
