"""`/chat-proxy/0.0.1`: the captured exchanges, at every cut, and what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.inference import Head
from aicn.errors import AnswerBroken, ProtocolViolation, TooLarge
from aicn.wire.legacy.chat_proxy import Requester, Worker

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[3] / "vectors" / "legacy" / "chat_proxy.json").read_text()
)
REQUESTS = [bytes.fromhex(case["hex"]) for case in CASES if case["direction"].startswith("request")]
ANSWERS = {case["label"]: bytes.fromhex(case["hex"]) for case in CASES if case["direction"].startswith("response")}
CUT = "endpoint cuts the connection inside a chunked body"


def lines(answer: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Status line, header lines in any order (h11 puts Transfer-Encoding last), body."""
    head, body = answer.split(b"\r\n\r\n", 1)
    status, *headers = head.split(b"\r\n")
    return status, sorted(headers), body


def read(data: bytes, *, step: int) -> list[Head | bytes | None]:
    requester = Requester()
    requester.request("P", "M", b"{}", stream=True)
    out: list[Head | bytes | None] = []
    for at in range(0, len(data), step):
        out += requester.feed(data[at : at + step])
    if None not in out:
        out += requester.feed(b"")
    return out


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("request_bytes", REQUESTS)
def test_requests_of_go_nodes(request_bytes: bytes, step: int) -> None:
    worker = Worker(body_bytes=1000)
    done = [worker.feed(request_bytes[at : at + step]) for at in range(0, len(request_bytes), step)]
    assert done[-1]
    assert not any(done[:-1])
    assert (worker.project, worker.model) == ("P", "M")
    assert json.loads(worker.body)["messages"][1]["content"] == "Grüß Gott, 你好"


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("label", [label for label in ANSWERS if label != CUT])
def test_answers_of_go_workers(label: str, step: int) -> None:
    head, *body, end = read(ANSWERS[label], step=step)
    assert isinstance(head, Head)
    assert end is None
    text = ANSWERS[label].decode()
    assert text.startswith(f"HTTP/1.1 {head.status} {head.reason}\r\n")
    if head.status == 503:
        assert head.get(b"retry-after") == "7"
        assert b"".join(body) == b'{"error":{"message":"scripted"}}'  # type: ignore[arg-type]
    else:
        assert b"".join(body).startswith(b"data: ")  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [1, 10_000])
def test_an_answer_that_breaks_off_is_none(step: int) -> None:
    with pytest.raises(AnswerBroken):
        read(ANSWERS[CUT], step=step)


def test_our_answers_are_as_go_workers_write_them() -> None:
    worker = Worker(body_bytes=1000)
    assert worker.feed(REQUESTS[0])
    written = worker.head(Head(200, "OK", ((b"Content-Type", b"text/event-stream"),)))
    written += worker.data(b"data: 000000000000\n\n") + worker.data(b"data: 000001000001\n\n") + worker.end()
    assert lines(written) == lines(ANSWERS["SSE, chunked"])
    worker = Worker(body_bytes=1000)
    assert worker.feed(REQUESTS[0])
    headers = ((b"Content-Length", b"32"), (b"Content-Type", b"application/json"), (b"Retry-After", b"7"))
    written = worker.head(Head(503, "Scripted Reason", headers))
    written += worker.data(b'{"error":{"message":"scripted"}}') + worker.end()
    assert written == ANSWERS["status 503 with length"]


@given(project=st.text(min_size=1, max_size=60), model=st.text(min_size=1, max_size=60), body=st.binary(max_size=300))
def test_round_trip(project: str, model: str, body: bytes) -> None:
    try:
        (project + model).encode()
    except UnicodeEncodeError:
        return
    worker = Worker(body_bytes=300)
    assert worker.feed(Requester().request(project, model, body, stream=False))
    assert (worker.project, worker.model, worker.body) == (project, model, body)


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x00",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /?model=M HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"POST /?" + b"a=b&" * 100 + b"model=M&project=P HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"POST /?model=M&project=P HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000,
    ],
)
def test_junk(junk: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        Worker(body_bytes=1000).feed(junk)


def test_a_body_that_is_too_large() -> None:
    with pytest.raises(TooLarge, match="limit of 1000 bytes"):
        Worker(body_bytes=1000).feed(
            b"POST /?model=M&project=P HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000
        )


def test_a_body_in_crumbs() -> None:
    worker = Worker(body_bytes=2**20)
    worker.feed(b"POST /?model=M&project=P HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert not worker.feed(b"1\r\nx\r\n" * 4000)
    assert not worker.feed(b"1000\r\n" + b"x" * 4096 + b"\r\n")
    with pytest.raises(ProtocolViolation, match="crumbs"):
        worker.feed(b"1\r\nx\r\n" * 200)


def test_what_is_not_for_the_requester_is_left_out() -> None:
    worker = Worker(body_bytes=1000)
    assert not worker.begun
    worker.feed(REQUESTS[0])
    assert not worker.begun
    headers = [
        (b"connection", b"keep-alive, X-Own"),
        (b"keep-alive", b"timeout=5"),
        (b"x-own", b"1"),
        (b"set-cookie", b"session=secret"),
        (b"www-authenticate", b"Bearer"),
        (b"transfer-encoding", b"chunked"),
        (b"x-request-id", b"r1"),
        (b"content-length", b"2"),
    ]
    written = worker.head(Head(200, "Fine", tuple(headers)))
    assert written == b"HTTP/1.1 200 Fine\r\nx-request-id: r1\r\ncontent-length: 2\r\n\r\n"
    assert worker.begun


def test_a_request_that_ends_early() -> None:
    worker = Worker(body_bytes=1000)
    assert not worker.feed(REQUESTS[0][:-1])
    with pytest.raises(ProtocolViolation):
        worker.feed(b"")
