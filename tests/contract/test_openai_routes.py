"""The calls of `/v1` over a real socket: names of models, bodies byte for byte, errors in OpenAI's form."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
import trio

from aicn import errors
from aicn.config.schema import Config, Http, Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import End, InferenceRequest, Kind
from aicn.domain.offers import OfferedModel, OfferedProject
from aicn.domain.routing import Attempt, Trace
from aicn.gateway.openai.errors import TABLE
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.http import serving
from tests.fakes.node import OTHER, OWN, FakeNode
from tests.fakes.png import draw_png

THIRD = PeerId(f"{OTHER[:-1]}x")
MESSAGES = [{"role": "user", "content": "héllo"}]
CHAT = {"model": "m", "messages": MESSAGES}
ODD = b' { "model" : "m", "messages":[{"role":"user","content":"h\\u00e9llo"}], "seed":1e3,"x":{"model":"m"} }\n'
GOOD = b'{"created": 1.0, "choices": [{"index":0}], "usage":{"total_tokens":3}}'
VECTORS = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}]}'
ONE, TWO, DONE = b'data: {"choices":[{}]}\n\n', b"data: 2\n\n", b"data: [DONE]\n\n"
PNG = draw_png(0)
FORM = (
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nq/edit\r\n'
    b'--B\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nmake it blue\r\n'
    b'--B\r\nContent-Disposition: form-data; name="n"\r\n\r\n2\r\n'
    b'--B\r\nContent-Disposition: form-data; name="image[]"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    + PNG
    + b"\r\n--B--\r\n"
)


def project(name: str, *models: OfferedModel) -> OfferedProject:
    return OfferedProject(name, models)


def a_node(*pieces: bytes | Exception, config: Config | None = None) -> FakeNode:
    """Project p has a chat model m, embedding and image models; everything answers `pieces`."""
    fake = FakeNode(config)
    fake.offer(
        project("p", OfferedModel("m", Kind.CHAT, aliases=("alias",)), OfferedModel("e", Kind.EMBEDDING)),
        project("q", OfferedModel("draw", Kind.IMAGE_GENERATION), OfferedModel("edit", Kind.IMAGE_EDIT)),
        project("lab", OfferedModel("org/model", Kind.CHAT)),
    )
    fake.inference.script = lambda _: ScriptedAnswer(pieces, end=End("stop", queued_ms=4, total_ms=9))
    return fake


def failing(error: Exception) -> FakeNode:
    def refuse(_: InferenceRequest) -> ScriptedAnswer:
        raise error

    fake = a_node()
    fake.inference.script = refuse
    return fake


@pytest.mark.parametrize(
    ("path", "body", "kind", "answer"),
    [
        ("/chat/completions", ODD, Kind.CHAT, GOOD),
        ("/completions", b'{"prompt":"Once", "model":"m"}', Kind.COMPLETION, GOOD),
        ("/embeddings", b'{"input":["a",  "b"],"model":"e","encoding_format":"base64"}', Kind.EMBEDDING, VECTORS),
    ],
)
async def test_bodies_pass_byte_for_byte(path: str, body: bytes, kind: Kind, answer: bytes) -> None:
    fake = a_node(answer[:10], answer[10:])
    async with serving(fake) as served:
        reply = await served.request("POST", f"/v1{path}", body, {"authorization": "Bearer sk-whatever"})
        assert (reply.status, reply.headers["content-type"], reply.body) == (200, "application/json", answer)
        assert reply.headers["x-aicn-node"] == OTHER
        assert reply.headers["server-timing"] == "queue;dur=4, worker;dur=9"
        ((_, request),) = fake.inference.requests
        assert (request.kind, request.project, request.body) == (kind, "p", body)
        assert request.id == reply.headers["x-request-id"]


async def test_a_stream_passes_piece_by_piece() -> None:
    gate = trio.Event()
    fake = a_node()
    answer = ScriptedAnswer([ONE, gate, TWO, DONE])
    answer.trace = Trace("r", Kind.CHAT, "p", "m", True, 0.0, 0.0, attempts=[
        Attempt(OWN, 0.0, error="busy"), Attempt(OTHER, 0.0, relayed=True, accepted_s=0.0123, first_s=0.5),
        Attempt(THIRD, 0.0, hedge=True, accepted_s=0.2)])  # fmt: skip
    fake.inference.script = lambda _: answer
    async with serving(fake) as served, served.client() as client:
        body = json.dumps(CHAT | {"stream": True, "stream_options": {"include_usage": True}}).encode()
        await client.ask("POST", "/v1/chat/completions", body)
        head = await client.head()
        assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
        assert head.headers["server-timing"] == "way;desc=relayed, dial;dur=12.3, first;dur=487.7, attempts;desc=3"
        assert await client.piece() == ONE
        gate.set()
        assert [await client.piece() for _ in range(3)] == [TWO, DONE, b""]
        ((_, request),) = fake.inference.requests
        assert (request.stream, request.body) == (True, body)


@pytest.mark.parametrize(
    ("named", "meant", "sent"),
    [
        ("m", ("p", "m"), '"model": "m"'),
        ("p/m", ("p", "m"), '"model":"m"'),
        ("alias", ("p", "m"), '"model":"m"'),
        ("p/alias", ("p", "m"), '"model":"m"'),
        ("org/model", ("lab", "org/model"), '"model": "org/model"'),
        ("lab/org/model", ("lab", "org/model"), '"model":"org/model"'),
    ],
)
async def test_a_model_is_named_alone_or_with_its_project(named: str, meant: tuple[str, str], sent: str) -> None:
    fake = a_node(GOOD)
    async with serving(fake) as served:
        reply = await served.request("POST", "/v1/chat/completions", CHAT | {"model": named})
        assert reply.status == 200
        ((_, request),) = fake.inference.requests
        assert (request.project, request.model) == meant
        assert request.body.decode() == json.dumps(CHAT | {"model": named}).replace(f'"model": "{named}"', sent)


async def test_two_projects_with_one_name() -> None:
    fake = a_node(GOOD)
    fake.offer(project("other", OfferedModel("m", Kind.CHAT)), node=THIRD)
    async with serving(fake) as served:
        reply = await served.request("POST", "/v1/chat/completions", CHAT)
        assert (reply.status, reply.json["error"]) == (400, {
            "message": "model: 'm' is several models; name one of other/m, p/m",
            "type": "invalid_request_error", "param": "model", "code": "invalid_request"})  # fmt: skip
        for name in ("p/m", "other/m"):
            assert (await served.request("POST", "/v1/chat/completions", CHAT | {"model": name})).status == 200
            assert (await served.request("GET", f"/v1/models/{name}")).json["id"] == name
        assert [request.project for _, request in fake.inference.requests] == ["p", "other"]
        listed = (await served.request("GET", "/v1/models")).json["data"]
        assert {"other/m", "p/m", "e", "org/model"} <= {one["id"] for one in listed}


async def test_models() -> None:
    fake = a_node()
    fake.offer(project("p", OfferedModel("m", Kind.CHAT, 4, 3, 8192), OfferedModel("m", Kind.EMBEDDING)), node=THIRD)
    async with serving(fake) as served, served.client() as client:
        reply = await client.request("GET", "/v1/models")
        assert (reply.status, reply.json["object"]) == (200, "list")
        data = reply.json["data"]
        assert [one["id"] for one in data] == ["org/model", "e", "m", "draw", "edit"]
        assert data[2] == {
            "id": "m", "object": "model", "created": 1_700_000_000, "owned_by": "p", "kinds": ["chat", "embedding"],
            "nodes": 2, "slots": 4, "in_flight": 3, "context_length": 8192, "aliases": ["alias"]}  # fmt: skip
        for name, place in (("m", 2), ("p/m", 2), ("p%2Fm", 2), ("alias", 2), ("org/model", 0), ("lab/org%2Fmodel", 0)):
            assert (await client.request("GET", f"/v1/models/{name}")).json == data[place]
        for name in ("x", "p/x", "/m", "m/", "p//m", "/" * 8000, "%00", "%C3%A9", "%FF"):
            reply = await client.request("GET", f"/v1/models/{name}")
            assert reply.status == 404, name
            assert reply.json["error"]["code"] in ("model_not_found", "unknown_url")


IMAGES = [{"b64_json": base64.b64encode(PNG).decode()}, {"url": "data:image/png;base64,AA", "more": 1}]


async def test_images_come_in_the_answer() -> None:
    fake = a_node(json.dumps({"created": 7, "choices": IMAGES}).encode())
    async with serving(fake) as served:
        for wanted, sent in ((None, "b64_json"), ("url", "url"), ("b64_json", "b64_json")):
            body = {"model": "draw", "prompt": "a sea", "ipfs_node": "http://x:1"}
            reply = await served.request(
                "POST", "/v1/images/generations", body | ({"response_format": wanted} if wanted else {})
            )
            assert reply.json == {"created": 7, "data": [IMAGES[0], {"url": "data:image/png;base64,AA"}]}
            request = fake.inference.requests.pop()[1]
            assert (request.kind, request.project) == (Kind.IMAGE_GENERATION, "q")
            assert json.loads(request.body) == body | {"response_format": sent}


async def test_an_edit_as_a_form_and_as_json() -> None:
    fake = a_node(json.dumps({"created": 7, "choices": IMAGES[:1]}).encode())
    async with serving(fake) as served:
        reply = await served.request(
            "POST", "/v1/images/edits", FORM, {"content-type": "multipart/form-data; boundary=B"}
        )
        assert reply.json == {"created": 7, "data": IMAGES[:1]}
        request = fake.inference.requests.pop()[1]
        members = {"model": "edit", "prompt": "make it blue", "n": 2, "response_format": "b64_json"}
        assert (request.kind, request.project, json.loads(request.body)) == (Kind.IMAGE_EDIT, "q", members)
        assert [(part.name, part.data) for part in request.parts] == [("image[]", PNG)]
        members = {"model": "edit", "prompt": "blue", "image": "https://x.example/a.png"}
        assert (await served.request("POST", "/v1/images/edits", members)).status == 200


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"choices":[]}', b'{"choices":[{}]}', b'{"choices":[1]}', b"{"])
async def test_images_that_are_none(answer: bytes) -> None:
    async with serving(a_node(answer)) as served:
        reply = await served.request("POST", "/v1/images/generations", {"model": "draw", "prompt": "a sea"})
        assert (reply.status, reply.json["error"]["code"]) == (502, "model_failed")


async def test_large_images() -> None:
    large = [{"b64_json": "A" * 3_000_000}]
    async with serving(a_node(json.dumps({"created": 7, "choices": large}).encode())) as served:
        reply = await served.request("POST", "/v1/images/generations", {"model": "draw", "prompt": "a sea"})
        assert reply.json == {"created": 7, "data": large}


ERRORS = [
    cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, errors.AicnError) and cls.code in TABLE
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
async def test_every_error_before_the_answer(cls: type[errors.AicnError], stream: bool) -> None:
    row = TABLE[cls.code]
    async with serving(failing(cls("field: why", retry_after=2.5))) as served:
        reply = await served.request("POST", "/v1/chat/completions", CHAT | {"stream": stream})
        assert reply.status == row.status
        param = "field" if row.type == "invalid_request_error" else None
        error = {"message": "field: why", "type": row.type, "param": param, "code": row.code}
        assert reply.json == {"error": error, "request_id": reply.headers["x-request-id"]}
        assert reply.headers.get("retry-after") == ("3" if row.status in (429, 503) else None)


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
async def test_every_error_after_the_first_piece(cls: type[errors.AicnError]) -> None:
    row = TABLE[cls.code]
    async with serving(a_node(ONE, cls("why"))) as served:
        reply = await served.request("POST", "/v1/chat/completions", CHAT | {"stream": True})
        assert (reply.status, reply.complete) == (200, True)
        beginning, event = reply.body.split(ONE)
        assert (beginning, event[:6], event[-2:]) == (b"", b"data: ", b"\n\n")
        assert json.loads(event[6:])["error"] == {
            "message": "why", "type": row.type, "param": None, "code": row.code,
            "request_id": reply.headers["x-request-id"]}  # fmt: skip


async def test_a_defect_of_ours_stays_untold() -> None:
    async with serving(failing(RuntimeError("secret"))) as served:
        reply = await served.request("POST", "/v1/chat/completions", CHAT)
        assert (reply.status, reply.json["error"]["code"]) == (500, "internal_error")
        assert b"secret" not in reply.body
    async with serving(a_node(ONE, RuntimeError("secret"))) as served:
        reply = await served.request("POST", "/v1/chat/completions", CHAT | {"stream": True})
        assert b'"code":"internal_error"' in reply.body
        assert b"secret" not in reply.body


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("chat/completions", b"{", 400, "malformed_body", None),
        ("chat/completions", b"[]", 400, "invalid_request", None),
        ("chat/completions", {"messages": MESSAGES}, 400, "invalid_request", "model"),
        ("chat/completions", CHAT | {"model": 1}, 400, "invalid_request", "model"),
        ("chat/completions", CHAT | {"model": "x" * 258}, 400, "invalid_request", "model"),
        ("chat/completions", CHAT | {"model": "a\nb"}, 400, "invalid_request", "model"),
        ("chat/completions", CHAT | {"model": "nobody's"}, 404, "model_not_found", "model"),
        ("chat/completions", CHAT | {"model": "e"}, 404, "model_not_found", "model"),
        ("chat/completions", CHAT | {"model": "/" * 257}, 404, "model_not_found", "model"),
        ("chat/completions", CHAT | {"messages": []}, 400, "invalid_request", "messages"),
        ("chat/completions", CHAT | {"messages": [1]}, 400, "invalid_request", "messages[0]"),
        ("chat/completions", CHAT | {"stream": "yes"}, 400, "invalid_request", "stream"),
        ("completions", {"model": "m"}, 400, "invalid_request", "prompt"),
        ("completions", {"model": "e", "prompt": "x"}, 404, "model_not_found", "model"),
        ("embeddings", {"model": "e", "input": []}, 400, "invalid_request", "input"),
        ("embeddings", {"model": "m", "input": "x"}, 404, "model_not_found", "model"),
        ("images/generations", {"model": "draw"}, 400, "invalid_request", "prompt"),
        ("images/generations", {"model": "draw", "prompt": "x", "stream": True}, 400, "invalid_request", "stream"),
        ("images/generations", {"model": "draw", "prompt": "x", "n": 0}, 400, "invalid_request", "n"),
        ("images/edits", {"model": "edit", "prompt": "x"}, 400, "invalid_request", "image"),
        ("responses", CHAT, 404, "unknown_url", None),
        ("models", {}, 405, "unknown_url", None),
    ],
)
async def test_what_is_wrong_is_named(path: str, body: object, status: int, code: str, param: str | None) -> None:
    async with serving(a_node(GOOD)) as served:
        reply = await served.request("POST", f"/v1/{path}", body)
        error = reply.json["error"]
        assert (reply.status, error["code"], error["param"]) == (status, code, param), reply.body
        assert error["type"] == "invalid_request_error"
        assert not served.fake.inference.requests


async def test_limits_and_the_guard_answer_in_the_same_form() -> None:
    config = Config(http=Http(body_bytes=1000), limits=replace(Limits(), answer_bytes=50))
    async with serving(a_node(GOOD, config=config)) as served:
        reply = await served.request("POST", "/v1/chat/completions", CHAT | {"x": "x" * 1000})
        assert (reply.status, reply.json["error"]["code"]) == (413, "request_too_large")
        reply = await served.request("POST", "/v1/chat/completions", CHAT)
        assert (reply.status, reply.json["error"]["code"]) == (502, "model_failed")
        reply = await served.request("GET", "/v1/models", headers={"host": "evil.example"})
        assert (reply.status, reply.json["error"]["type"]) == (403, "permission_error")
        reply = await served.request("POST", "/v1/chat/completions", b"x", {"content-type": "image/png"})
        assert (reply.status, reply.json["error"]["code"]) == (415, "unsupported_media_type")
    async with serving(a_node(GOOD, config=Config(http=Http(requests=0)))) as served:
        reply = await served.request("POST", "/v1/chat/completions", CHAT)
        assert (reply.status, reply.json["error"]["code"], reply.headers["retry-after"]) == (503, "busy", "1")


async def test_a_long_list() -> None:
    fake = FakeNode()
    fake.offer(project("p", *(OfferedModel(f"m{number:04}", Kind.CHAT) for number in range(1200))))
    async with serving(fake) as served:
        listed = (await served.request("GET", "/v1/models")).json["data"]
        assert [one["id"] for one in listed] == [f"m{number:04}" for number in range(1200)]


async def test_a_page_of_an_allowed_origin_may_send_what_its_client_sends() -> None:
    asked = {"origin": "https://page.example", "access-control-request-method": "POST"}
    config = Config(http=Http(allowed_origins=("https://page.example",)))
    async with serving(a_node(GOOD, config=config)) as served:
        for wanted, allowed in (
            ("authorization,content-type,x-stainless-lang", "authorization,content-type,x-stainless-lang"),
            ("x" * 65, "Authorization, Content-Type"),
            ("a b", "Authorization, Content-Type"),
        ):
            headers = asked | {"access-control-request-headers": wanted}
            preflight = await served.request("OPTIONS", "/v1/chat/completions", headers=headers)
            assert (preflight.status, preflight.headers["access-control-allow-headers"]) == (204, allowed)
        reply = await served.request("POST", "/v1/chat/completions", CHAT, {"origin": "https://page.example"})
        assert reply.headers["access-control-allow-origin"] == "https://page.example"
        assert "Server-Timing" in reply.headers["access-control-expose-headers"]
