"""API keys over a real socket: who needs one, what each opens, what is limited and counted, on both facades."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import trio

from aicn.config.schema import Config, Http, Keys
from aicn.domain.inference import End, InferenceRequest, Kind, Usage
from aicn.domain.keys import Scope
from aicn.domain.offers import OfferedModel, OfferedProject
from aicn.errors import ModelFailed
from aicn.gateway.auth import ANY_KEY, on_loopback
from aicn.gateway.v0.routes import PREFIX, ROUTES
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.http import Reply, Served, serving
from tests.fakes.node import OTHER, OWN, FakeNode

GOOD = b'{"choices":[{"index":0}],"created":1}'
EVENT = b'data: {"choices":[{}]}\n\n'
MESSAGES = [{"role": "user", "content": "x"}]
V1, V0 = "/v1/chat/completions", "/api/v0/chat/completion"
PROXY = "/api/v0/chat/completion/proxy"
ASKED: dict[str, dict[str, Any]] = {
    V1: {"model": "p/m", "messages": MESSAGES},
    V0: {"node_id": OWN, "project": "p", "model": "m", "messages": MESSAGES},
    PROXY: {"project": "p", "model": "m", "messages": MESSAGES},
}
FAR = {"x-forwarded-for": "203.0.113.7"}  # how a test that connects from loopback is somebody else


def a_node(required: str = "auto", listen: str = "0.0.0.0:6000", tokens: Usage | None = None) -> FakeNode:
    config = Config()
    fake = FakeNode(replace(config, keys=Keys(required=required), http=replace(Http(), listen=listen)))  # type: ignore[arg-type]

    def answer(request: InferenceRequest) -> ScriptedAnswer:
        return ScriptedAnswer([EVENT] if request.stream else [GOOD], end=End(usage=tokens))

    fake.inference.script = answer
    fake.offer(OfferedProject("p", (OfferedModel("m", Kind.CHAT), OfferedModel("n", Kind.CHAT))))
    return fake


async def a_key(fake: FakeNode, **scope: Any) -> dict[str, str]:
    _, secret = await fake.keys.create("k", Scope(**scope))
    return {"authorization": f"Bearer {secret}"}


def refused(reply: Reply, path: str, status: int, code: str) -> bool:
    """Whether it is this refusal, in the form of the path's facade."""
    word = reply.json["error"]["code"] if path.startswith("/v1") else reply.json["code"]
    return (reply.status, word) == (status, code if path.startswith("/v1") else 1009)


@pytest.mark.parametrize("path", ASKED)
async def test_strangers_need_a_good_key_and_are_told_so(path: str) -> None:
    fake = a_node()
    good = await a_key(fake)
    key, _, secret = good["authorization"].rpartition("_")
    wrong = {"authorization": f"{key}_{secret[::-1]}"}
    async with serving(fake) as served:
        for headers in ({}, wrong, {"authorization": "Bearer sk-any"}, {"authorization": "Basic eDp5"}):
            reply = await served.request("POST", path, ASKED[path], FAR | headers)
            assert refused(reply, path, 401, "invalid_api_key"), reply.body
            assert reply.headers["www-authenticate"] == "Bearer"
        assert (await served.request("POST", path, ASKED[path], FAR | good)).status == 200
        assert (await served.request("POST", path, ASKED[path])).status == 200, "this machine's own programs need none"
        assert refused(await served.request("POST", path, ASKED[path], wrong), path, 401, "invalid_api_key"), (
            "but a key that is shown is checked"
        )
        assert (await served.request("POST", path, ASKED[path], {"authorization": "Bearer sk-any"})).status == 200
    assert {request.key for _, request in fake.inference.requests} == {key.rpartition("_")[2], ""}


@pytest.mark.parametrize(
    ("required", "listen", "near", "far"),
    [
        ("auto", "127.0.0.1:6000", 200, 200),
        ("auto", "[::1]:6000", 200, 200),
        ("auto", "localhost:6000", 200, 200),
        ("auto", "192.0.2.1:6000", 200, 401),
        ("auto", "[::]:6000", 200, 401),
        ("always", "127.0.0.1:6000", 401, 401),
        ("never", "0.0.0.0:6000", 200, 200),
    ],
)
async def test_when_a_key_is_needed(required: str, listen: str, near: int, far: int) -> None:
    async with serving(a_node(required, listen)) as served:
        assert (await served.request("GET", "/v1/models")).status == near
        assert (await served.request("GET", "/v1/models", headers=FAR)).status == far
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
            assert (await served.request("GET", path, headers=FAR)).status == 200, path


def test_addresses_that_are_this_machine() -> None:
    assert all(map(on_loopback, ("127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1")))
    assert not any(map(on_loopback, ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "node.example:1", ":1")))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
async def test_what_changes_the_node_needs_an_admin_key(route: Any) -> None:
    fake = a_node()
    path = PREFIX + route.path
    plain, admin = await a_key(fake), await a_key(fake, admin=True)
    async with serving(fake) as served:
        assert (await served.request(route.method, path, b"{}", FAR)).status == 401
        with_plain = await served.request(route.method, path, b"{}", FAR | plain)
        assert (with_plain.status == 403) == (path not in ANY_KEY), with_plain.body
        assert (await served.request(route.method, path, b"{}", FAR | admin)).status not in (401, 403)


def test_the_calls_for_any_key_are_there() -> None:
    assert {PREFIX + route.path for route in ROUTES} >= ANY_KEY


@pytest.mark.parametrize("path", ASKED)
async def test_a_key_is_for_its_models_alone(path: str) -> None:
    fake = a_node()
    key = await a_key(fake, models=("p/n",))
    async with serving(fake) as served:
        reply = await served.request("POST", path, ASKED[path], key)
        assert refused(reply, path, 403, "forbidden"), reply.body
        other = ASKED[path] | {"model": "p/n" if path == V1 else "n"}
        assert (await served.request("POST", path, other, key)).status == 200
        listed = (await served.request("GET", "/v1/models", headers=key)).json["data"]
        assert [one["id"] for one in listed] == ["n"]
    assert [request.model for _, request in fake.inference.requests] == ["n"]


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("scope", [{"requests_per_minute": 1}, {"tokens_per_day": 40}])
async def test_limits_are_told_with_when_to_come_again(path: str, scope: dict[str, int]) -> None:
    fake = a_node(tokens=Usage(20, 20, 40))
    key = await a_key(fake, **scope)
    async with serving(fake) as served:
        assert (await served.request("POST", path, ASKED[path], key)).status == 200
        reply = await served.request("POST", path, ASKED[path], key)
        assert refused(reply, path, 429, "rate_limit_exceeded"), reply.body
        assert 1 <= int(reply.headers["retry-after"]) <= 86_400
        assert (await served.request("POST", path, ASKED[path], await a_key(fake, **scope))).status == 200, (
            "each key has its own"
        )


async def test_a_place_is_free_again_when_the_client_leaves() -> None:
    fake = a_node()
    fake.inference.script = lambda _: ScriptedAnswer([EVENT, trio.Event()])
    key = await a_key(fake, concurrency=1)
    body = ASKED[V1] | {"stream": True}
    async with serving(fake) as served:
        async with served.client() as client:
            await client.ask("POST", V1, json.dumps(body).encode(), key)
            await client.head()
            assert refused(await served.request("POST", V1, body, key), V1, 429, "rate_limit_exceeded")
        with trio.fail_after(10):
            while not await usage(served):
                await trio.sleep(0.01)
        assert [row["failed"] for row in await usage(served)] == [1]
        fake.inference.script = lambda _: ScriptedAnswer([EVENT])
        assert (await served.request("POST", V1, body, key)).status == 200


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("stream", [False, True])
async def test_usage_is_counted_on_every_surface(path: str, stream: bool) -> None:
    fake = a_node(tokens=Usage(3, 4, 7))
    key = await a_key(fake)
    async with serving(fake) as served:
        reply = await served.request("POST", path, ASKED[path] | {"stream": stream}, key)
        assert reply.status == 200
        (row,) = await usage(served)
        assert (row["project"], row["model"], row["node_id"]) == ("p", "m", OWN if path == V0 else OTHER)
        assert (row["requests"], row["failed"], row["prompt_tokens"], row["completion_tokens"]) == (1, 0, 3, 4)
        assert row["bytes_out"] == len(EVENT if stream else GOOD)
        assert row["bytes_in"] == len(fake.inference.requests[0][1].body)
        assert key["authorization"].split("_")[1] == row["key"]


async def test_an_answer_that_breaks_is_a_failed_one() -> None:
    fake = a_node()
    fake.inference.script = lambda _: ScriptedAnswer([EVENT, ModelFailed("gone")])
    async with serving(fake) as served:
        await served.request("POST", V1, ASKED[V1] | {"stream": True})
        (row,) = await usage(served)
        assert (row["key"], row["requests"], row["failed"]) == ("", 1, 1)


async def test_keys_are_made_listed_and_revoked_and_their_secrets_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    fake = a_node()
    async with serving(fake) as served:
        made = (await served.request("POST", "/api/v0/keys/create", {"name": "blog", "tokens_per_day": 5})).json["data"]
        secret = made.pop("key")
        shown = {"authorization": f"Bearer {secret}"}
        assert made["tokens_per_day"] == 5
        assert (await served.request("GET", "/v1/models", headers=FAR | shown)).status == 200
        assert (await served.request("GET", "/api/v0/keys")).json["data"] == [made]
        assert (await served.request("POST", "/api/v0/keys/revoke", {"id": made["id"]})).json["message"] == "ok"
        assert (await served.request("GET", "/v1/models", headers=FAR | shown)).status == 401
        assert (await served.request("POST", "/api/v0/keys/revoke", {"id": made["id"]})).json[
            "message"
        ] == "not existed"
    assert secret.rpartition("_")[2] not in caplog.text


async def test_a_key_is_told_its_own_usage_alone() -> None:
    fake = a_node()
    mine, others, admin = await a_key(fake), await a_key(fake), await a_key(fake, admin=True)
    async with serving(fake) as served:
        for key in (mine, others, others):
            await served.request("POST", V1, ASKED[V1], key)
        told = (await served.request("GET", "/api/v0/usage", headers=FAR | mine)).json["data"]
        assert [row["requests"] for row in told] == [1]
        other = told[0]["key"]
        assert (await served.request("GET", f"/api/v0/usage?key={other}", headers=FAR | others)).status == 403
        assert len((await served.request("GET", "/api/v0/usage?by=hour&days=2", headers=FAR | admin)).json["data"]) == 2
        for query in ("days=0", "days=x", "days=93", "by=day", "days=٣"):
            assert (await served.request("GET", f"/api/v0/usage?{query}")).status == 400, query


async def test_pages_of_allowed_origins_can_read_that_they_need_a_key() -> None:
    fake = a_node()
    fake.config = replace(fake.config, http=replace(fake.config.http, allowed_origins=("https://page.example",)))
    async with serving(fake) as served:
        page = FAR | {"origin": "https://page.example"}
        reply = await served.request("GET", "/v1/models", headers=page)
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (401, "https://page.example")
        asked = page | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        assert (await served.request("OPTIONS", V1, headers=asked)).status == 204


async def usage(served: Served) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await served.request("GET", "/api/v0/usage")).json["data"]
    return rows
