"""The v0 routes over a real socket: what they answer, and what they answer to nonsense."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
import trio

from aicn import errors
from aicn.config.schema import Config, Http, Limits
from aicn.domain.hardware import HostInfo
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.registration import Endpoint
from aicn.gateway.v0.errors import TABLE
from aicn.gateway.v0.routes import PREFIX, ROUTES
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.http import serving
from tests.fakes.node import OTHER, OWN, FakeNode

CHAT = {"node_id": OWN, "project": "p", "model": "m", "messages": [{"role": "user", "content": "héllo"}]}
EMBED = {"node_id": OWN, "project": "p", "model": "m", "input": ["héllo"]}
REGISTER = {"project": "p", "models": [{"model": "m", "api": "http://127.0.0.1:1/x"}]}
GOOD = b'{"created": 1.0, "choices": [{"index":0}]}'
GOOD_BODIES = {"/ai/project/register": REGISTER, "/ai/project/unregister": {"project": "p"}, "/ai/project/peer": {"node_id": OWN},
               "/peer": {"node_id": OWN}, "/host/info": {"node_id": OWN},
               "/swarm/connect": {"node_addr": "/ip4/1.2.3.4/tcp/1/p2p/x"}, "/swarm/disconnect": {"node_addr": "/p2p/x"},
               "/chat/completion": CHAT, "/embedding": EMBED,
               "/chat/completion/proxy": {name: CHAT[name] for name in ("project", "model", "messages")}}  # fmt: skip


def answering(*pieces: bytes | Exception) -> FakeNode:
    fake = FakeNode()
    fake.inference.script = lambda _: ScriptedAnswer(pieces)
    return fake


def failing(error: Exception) -> FakeNode:
    def refuse(_: InferenceRequest) -> ScriptedAnswer:
        raise error

    fake = FakeNode()
    fake.inference.script = refuse
    return fake


async def test_id_and_swarm_are_bare() -> None:
    async with serving() as served:
        reply = await served.request("GET", "/api/v0/id")
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        assert reply.json == {
            "peer_id": OWN,
            "protocol_version": "aicn/0.0.1",
            "agent_version": "aicn/test",
            "addresses": ["/ip4/127.0.0.1/tcp/6001"],
            "protocols": ["/ipfs/ping/1.0.0"],
        }
        peers = (await served.request("POST", "/api/v0/swarm/peers")).json
        assert [(peer["id"], peer["peer"], peer["latency"]) for peer in peers] == [
            ("16Uiu2HAmR-7", OTHER, "208.878448ms")
        ]
        served.fake.peers.open = []
        assert (await served.request("POST", "/api/v0/swarm/peers", b"not even JSON")).json == []


SPEC_HOST = (  # spec 1's example, without its blanks
    b'{"code":0,"message":"ok","data":{"os":{"os":"windows","platform":"Microsoft Windows 11 Pro","platform_family":"Standalone Workstation",'
    b'"platform_version":"10.0.22631.3737 Build 22631.3737","kernel_version":"10.0.22631.3737 Build 22631.3737","kernel_arch":"x86_64"},'
    b'"cpu":[{"model_name":"Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz","total_cores":6,"total_threads":12}],'
    b'"memory":{"total_physical_bytes":17179869184,"total_usable_bytes":17105440768},'
    b'"disk":[{"drive_type":"HDD","size_bytes":2000396321280,"model":"WDC WD20EJRX-89G3VY0","serial_number":"WD-WCC4M2USUZ1V"},'
    b'{"drive_type":"SSD","size_bytes":240054796800,"model":"TOSHIBA-TR200","serial_number":"29KB71U8K46S"}],'
    b'"gpu":[{"vendor":"qdesk","product":"Qdesk Virtual Display Adapter"},{"vendor":"NVIDIA","product":"NVIDIA GeForce RTX 2080 Ti"}]}}'
)


async def test_what_a_node_and_its_machine_are() -> None:
    async with serving() as served, served.client() as client:
        reply = await client.request("POST", "/api/v0/host/info", {"node_id": OWN})
        assert (reply.status, reply.body) == (200, SPEC_HOST)
        served.fake.nodes.host = HostInfo()
        told = (await client.request("POST", "/api/v0/host/info", {"node_id": OWN})).json["data"]
        assert (told["cpu"], told["disk"], told["gpu"]) == ([], [], [])
        own = (await client.request("GET", "/api/v0/id")).json
        assert (await client.request("POST", "/api/v0/peer", {"node_id": OWN})).json["data"] == own


@pytest.mark.parametrize("path", ["/peer", "/host/info", "/ai/project/peer"])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (None, 404, 1005),
        (errors.Unreachable("gone"), 504, 1004),
        (errors.DeadlineExceeded("silent"), 504, 1004),
        (errors.Unsupported("not told"), 501, 1010),
    ],
)
async def test_a_node_that_does_not_tell(path: str, error: Exception | None, status: int, code: int) -> None:
    async with serving() as served:
        served.fake.nodes.failure = error
        reply = await served.request("POST", PREFIX + path, {"node_id": OTHER})
        assert (reply.status, reply.json["code"], "data" in reply.json) == (status, code, False)


async def test_registrations() -> None:
    async with serving() as served, served.client() as client:
        ok = {"code": 0, "message": "ok"}
        assert (await client.request("POST", "/api/v0/ai/project/register", REGISTER)).json == ok
        assert served.fake.registration.endpoints == {"p": (Endpoint("p", "m", "http://127.0.0.1:1/x", 0),)}
        projects = await client.request("POST", "/api/v0/ai/project/peer", {"node_id": OWN})
        assert projects.json == ok | {"data": [{"project": "p", "models": ["m"]}]}
        assert (await client.request("POST", "/api/v0/ai/project/unregister", {"project": "p"})).json == ok
        again = await client.request("POST", "/api/v0/ai/project/unregister", {"project": "p"})
        assert (again.status, again.json) == (200, {"code": 0, "message": "not existed"})
        assert (await client.request("POST", "/api/v0/ai/project/peer", {"node_id": OWN})).json["data"] == []
        unknown = await client.request("POST", "/api/v0/ai/project/peer", {"node_id": OTHER})
        assert (unknown.status, unknown.json["code"]) == (404, 1005)


async def test_connect() -> None:
    async with serving() as served:
        reply = await served.request("POST", "/api/v0/swarm/connect", {"node_addr": "/ip4/1.2.3.4/tcp/1/p2p/x"})
        assert (reply.json, served.fake.peers.dialled) == ({"code": 0, "message": "ok"}, ["/ip4/1.2.3.4/tcp/1/p2p/x"])
        wrong = await served.request("POST", "/api/v0/swarm/connect", {"node_addr": "localhost"})
        assert (wrong.status, wrong.json["code"]) == (400, 1001)


async def test_disconnect() -> None:
    async with serving() as served:
        address = {"node_addr": f"/p2p/{OTHER}"}
        assert (await served.request("POST", "/api/v0/swarm/disconnect", address)).json == {"code": 0, "message": "ok"}
        assert served.fake.swarm.disconnected == [f"/p2p/{OTHER}"]
        again = await served.request("POST", "/api/v0/swarm/disconnect", address)
        assert (again.status, again.json) == (500, {"code": 5000, "message": "not connected"})
        wrong = await served.request("POST", "/api/v0/swarm/disconnect", {"node_addr": "localhost"})
        assert (wrong.status, wrong.json["code"]) == (400, 1001)


async def test_known_addresses_and_subscribers_are_bare_arrays() -> None:
    async with serving() as served:
        reply = await served.request("POST", "/api/v0/swarm/addrs")
        assert reply.body == (
            f'[{{"peer":"{OWN}","addrs":["/ip4/127.0.0.1/tcp/6001"]}},{{"peer":"{OTHER}","addrs":[]}}]'.encode()
        )
        assert (await served.request("POST", "/api/v0/pubsub/peers")).json == [OTHER]
        served.fake.swarm.known, served.fake.topics.members = [], {}
        assert (await served.request("POST", "/api/v0/swarm/addrs")).json == []
        assert (await served.request("POST", "/api/v0/pubsub/peers")).json == []


async def test_the_rendezvous() -> None:
    async with serving() as served:
        ok = {"code": 0, "message": "ok"}
        assert (await served.request("GET", "/api/v0/rendezvous/peers")).json == ok | {"data": [OTHER]}
        served.fake.swarm.met = []
        assert (await served.request("GET", "/api/v0/rendezvous/peers")).json == ok | {"data": []}
        served.fake.swarm.met = errors.Unsupported("no DHT")
        reply = await served.request("GET", "/api/v0/rendezvous/peers")
        assert (reply.status, reply.json) == (501, {"code": 1010, "message": "no DHT"})


async def test_a_plain_chat_is_wrapped_and_not_touched() -> None:
    async with serving(answering(GOOD[:10], GOOD[10:])) as served:
        body = b'{"node_id":"%s","project":"p", "model":"m","messages":[{"role":"user"}],"top_p":0.90}' % OWN.encode()
        reply = await served.request("POST", "/api/v0/chat/completion", body)
        assert reply.body == b'{"code":0,"message":"ok","data":' + GOOD + b"}"
        assert reply.headers["content-length"] == str(len(reply.body))
        assert reply.headers["x-aicn-node"] == OWN
        [(node, request)] = served.fake.inference.requests
        assert (node, request.id, request.stream) == (OWN, reply.headers["x-request-id"], False)
        assert request.body == b'{"model":"m","messages":[{"role":"user"}],"top_p":0.90}'


async def test_an_embedding_is_wrapped_and_not_touched() -> None:
    vectors = b'{"data": [{"embedding": [1.0, 2e-9]}], "usage": {"prompt_tokens": 1}}'
    async with serving(answering(vectors[:9], vectors[9:])) as served:
        body = b'{"node_id":"%s","project":"p", "model":"m","input":["x", "y"],"dimensions":2.0}' % OWN.encode()
        reply = await served.request("POST", "/api/v0/embedding", body)
        assert reply.body == b'{"code":0,"message":"ok","data":' + vectors + b"}"
        assert reply.headers["x-aicn-node"] == OWN
        [(node, request)] = served.fake.inference.requests
        assert (node, request.kind, request.stream) == (OWN, Kind.EMBEDDING, False)
        assert request.body == b'{"model":"m","input":["x", "y"],"dimensions":2.0}'
        served.fake.inference.script = lambda _: ScriptedAnswer([b'{"data": []}'])
        reply = await served.request("POST", "/api/v0/embedding", body)
        assert (reply.status, reply.json["code"]) == (502, 1006)


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b'{"code":7,"message":"no"}', b""])
async def test_an_answer_that_is_none(answer: bytes) -> None:
    async with serving(answering(answer)) as served:
        reply = await served.request("POST", "/api/v0/chat/completion", CHAT)
        assert (reply.status, reply.json["code"]) == (502, 1006)


async def test_an_answer_over_the_limit() -> None:
    fake = FakeNode(Config(limits=Limits(answer_bytes=1024)))
    answer = ScriptedAnswer([GOOD + b" " * 800, b" " * 800, b""])
    fake.inference.script = lambda _: answer
    async with serving(fake) as served:
        reply = await served.request("POST", "/api/v0/chat/completion", CHAT)
        assert (reply.status, reply.json["code"]) == (502, 1006)
    assert answer.closed


ERRORS = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.AicnError)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("first", [b"", b"data: 1\n\n"], ids=["before", "after"])
async def test_every_error_before_and_after_the_first_chunk(
    cls: type[errors.AicnError], first: bytes, stream: bool
) -> None:
    row = TABLE.get(cls.code, TABLE["internal"])
    fake = answering(first, cls("why")) if first else failing(cls("why", retry_after=2.5))
    async with serving(fake) as served:
        reply = await served.request("POST", "/api/v0/chat/completion", CHAT | {"stream": stream})
    if stream and first:
        assert (reply.status, reply.complete) == (200, True)
        event = b'{"code":1017,"message":"why","error":{"message":"why","code":1017}}'
        assert reply.body == first + b"event: error\ndata: " + event + b"\n\n"
        return
    assert (reply.status, reply.json) == (row.status, {"code": row.streamed if stream else row.plain, "message": "why"})
    assert reply.headers.get("retry-after") == (None if row.status not in (429, 503) else "1" if first else "3")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first", [b"", b"data: 1\n\n"], ids=["before", "after"])
async def test_a_bug_is_logged_and_not_told(first: bytes, stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    bug = ValueError("secret of the inside")
    async with serving(answering(first, bug) if first else failing(bug)) as served:
        reply = await served.request("POST", "/api/v0/chat/completion", CHAT | {"stream": stream})
    assert b"secret" not in reply.body
    assert reply.headers["x-request-id"] in "".join(
        r.getMessage() for r in caplog.records if r.levelno == logging.ERROR
    )
    if stream and first:
        assert b'"code":1017' in reply.body
    else:
        assert (reply.status, reply.json["code"]) == (500, 5000)


JUNK = [b"", b"hello", b"{", b"[]", b"null", b"5", b'"x"', b"{}", b"\xff\xfe", b'{"node_id":NaN}', b"[" * 100_000, b'{"a":' * 100_000,
        b'{"node_id":1,"project":2,"model":3,"models":4,"messages":5,"node_addr":6}', b"{}" * 2, b'{"project":null,"project":"p"}']  # fmt: skip


@pytest.mark.parametrize("path", sorted(GOOD_BODIES))
async def test_nonsense_to_every_route_is_the_callers_fault(path: str) -> None:
    good: dict[str, object] = GOOD_BODIES[path]
    needed = [{k: v for k, v in good.items() if k != name} for name in good]
    wrong = [
        good | {name: value}
        for name in good
        for value in (None, "", 1, True, [], {}, [[]], "\x00", "x" * 5000)
        if name != "input" or value not in ("\x00", "x" * 5000)
    ]  # fmt: skip - any text can be embedded
    async with serving() as served, served.client() as client:
        for body in [*JUNK, *(json.dumps(case).encode() for case in [*needed, *wrong])]:
            reply = await client.request("POST", PREFIX + path, body)
            assert (reply.status, reply.json["code"]) in ((400, 1001), (400, 1002)), body[:200]
        assert not served.fake.registration.endpoints
        assert not served.fake.inference.requests
        assert (await client.request("GET", "/healthz")).status == 200


@pytest.mark.parametrize("path", [route[1] for route in ROUTES])
async def test_other_methods(path: str) -> None:
    method, also = next((route.method, route.also) for route in ROUTES if route.path == path)
    async with serving() as served, served.client() as client:
        for other in {"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"} - {method, *also}:
            reply = await client.request(other, PREFIX + path)
            assert (reply.status, reply.json["code"]) == (405, 1010)
            assert method in reply.headers["allow"]
        assert method in (await client.request("OPTIONS", PREFIX + path)).headers["allow"]
        head = await client.request("HEAD", PREFIX + path)
        needs_more = (also != () and not path.endswith("/list")) or path.startswith("/debug/")
        assert head.status == (405 if "GET" not in (method, *also) else 400 if needs_more else 200)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/api",
        "/api/v0",
        "/api/v0/",
        "/api/v0/id/",
        "/api/v0/%00",
        "/a%2e%2e/%ff",
        "*",
        "?x",
        "/static/x",
    ],
)
async def test_no_such_route(target: str) -> None:
    async with serving() as served:
        reply = await served.request("GET", target)
        assert (reply.status, reply.json["code"]) == (404, 1010)


async def test_the_absolute_form_of_a_target() -> None:
    async with serving() as served:
        assert (await served.request("GET", "http://localhost:6000/api/v0/id?x=y")).json["peer_id"] == OWN


@pytest.mark.parametrize(
    ("declared", "good", "bad"),
    [("application/json", 200, 400), ("text/plain", 200, 400), ("application/x-www-form-urlencoded", 200, 400), ("", 200, 400),
     ("application/problem+json", 200, 400), ("multipart/form-data; boundary=x", 200, 415), ("image/png", 200, 415)],
)  # fmt: skip
async def test_content_types(declared: str, good: int, bad: int) -> None:
    async with serving() as served, served.client() as client:
        path, headers = "/api/v0/ai/project/register", {"content-type": declared}
        assert (await client.request("POST", path, REGISTER, headers)).status == good
        reply = await client.request("POST", path, b"--x\r\n", headers)
        assert (reply.status, reply.json["code"]) == (bad, 1002)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused_while_it_comes(chunked: bool) -> None:
    async with serving(FakeNode(Config(http=Http(body_bytes=4096)))) as served, served.client() as client:
        path = "/api/v0/ai/project/register"
        fits = json.dumps(REGISTER | {"pad": "x" * 3900}).encode()
        assert (await client.request("POST", path, fits)).status == 200
        length = "transfer-encoding: chunked" if chunked else "content-length: 100000"
        await client.send(f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{length}\r\n\r\n".encode())
        if chunked:
            await client.send(b"1000\r\n" + b"x" * 4096 + b"\r\n1\r\nx\r\n")
        reply = await client.reply()  # though the body has not ended
        assert (reply.status, reply.json["code"], reply.headers["connection"]) == (413, 1001, "close")
        await client.send(b"x" * 50_000)  # a client that reads only when it has sent all
        assert await client.at_end()


async def test_a_body_comes_after_100_continue_only_if_it_is_wanted() -> None:
    async with serving(FakeNode(Config(http=Http(body_bytes=4096)))) as served:
        async with served.client() as client:
            body = json.dumps(REGISTER).encode()
            await client.ask(
                "POST",
                "/api/v0/ai/project/register",
                headers={"expect": "100-continue", "content-length": str(len(body))},
            )
            assert (await client.reply()).status == 100
            await client.send(body)
            assert (await client.reply()).status == 200
        async with served.client() as client:
            await client.ask(
                "POST", "/api/v0/ai/project/register", headers={"expect": "100-continue", "content-length": "5000"}
            )
            assert (await client.reply()).status == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403), ({"host": "127.0.0.1.evil.example:6000"}, 403), ({"host": "node.example"}, 200),
        ({"host": "NODE.example.:80"}, 200), ({"host": "[::1]:6000"}, 200), ({"host": "10.1.2.3"}, 200), ({"host": "a.localhost:1"}, 200),
        ({"host": "xn--\xff"}, 403), ({"host": "a b"}, 403), ({"host": "0x7f.1"}, 403), ({"host": ""}, 200),
        ({"origin": "http://evil.example"}, 403), ({"origin": "null"}, 403), ({"origin": "http://localhost"}, 200),
        ({"origin": "http://localhost:3000"}, 403), ({"origin": "https://page.example"}, 200),
    ],
)  # fmt: skip
async def test_hosts_and_origins(headers: dict[str, str], status: int) -> None:
    http = Http(allowed_hosts=("node.example",), allowed_origins=("https://page.example",))
    async with serving(FakeNode(Config(http=http))) as served:
        for path in ("/api/v0/swarm/connect", "/healthz", "/nowhere"):
            method = "POST" if path.startswith("/api") else "GET"
            reply = await served.request(method, path, b'{"node_addr":"/p2p/"}' if method == "POST" else b"", headers)
            assert reply.status == (status if status == 403 or path != "/nowhere" else 404)
            assert status != 403 or reply.json["code"] == 1009
        assert len(served.fake.peers.dialled) == (status == 200)


async def test_the_scripts_of_an_allowed_page() -> None:
    async with serving(FakeNode(Config(http=Http(allowed_origins=("https://page.example",))))) as served:
        asked = {"origin": "https://page.example", "access-control-request-method": "POST"}
        preflight = await served.request("OPTIONS", "/api/v0/chat/completion", headers=asked)
        assert (preflight.status, preflight.headers["access-control-allow-headers"]) == (
            204,
            "Authorization, Content-Type",
        )
        reply = await served.request("GET", "/api/v0/id", headers={"origin": "https://page.example"})
        assert reply.headers["access-control-allow-origin"] == "https://page.example"
        assert "access-control-allow-origin" not in (await served.request("GET", "/api/v0/id")).headers
        assert (
            await served.request("OPTIONS", "/api/v0/id", headers=asked | {"origin": "https://x.example"})
        ).status == 403


async def test_any_host_and_any_origin() -> None:
    async with serving(FakeNode(Config(http=Http(allowed_hosts=("*",), allowed_origins=("*",))))) as served:
        reply = await served.request("GET", "/api/v0/id", headers={"host": "any.example", "origin": "null"})
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "null")


@pytest.mark.parametrize("host", ["[::1]:99999999", "a b", "a@b", "\xff", "[", "..", "a/b", "a" * 300])
async def test_hosts_that_are_no_names_where_any_is_allowed(host: str) -> None:
    async with serving(FakeNode(Config(http=Http(allowed_hosts=("*",))))) as served:
        reply = await served.raw(b"GET /api/v0/id HTTP/1.1\r\nhost: " + host.encode("latin1") + b"\r\n\r\n")
        assert reply.status == 200


async def test_health() -> None:
    async with serving() as served:
        assert (await served.request("GET", "/healthz")).json == {"alive": True}
        served.fake.registration.endpoints["p"] = (Endpoint("p", "m", "http://x/"),)
        reply = await served.request("GET", "/readyz")
        state = reply.json
        assert (reply.status, state["ready"], state["peer_id"], state["peers"], state["models"]) == (
            200,
            True,
            OWN,
            1,
            1,
        )
        assert state["uptime_s"] >= 0
        served.fake.nodes.stopping = True
        reply = await served.request("GET", "/readyz")
        assert (reply.status, reply.json["ready"]) == (503, False)


async def test_more_requests_than_allowed_are_told_when_to_come_back() -> None:
    fake, hold = FakeNode(Config(http=replace(Http(), requests=2))), trio.Event()
    fake.inference.script = lambda _: ScriptedAnswer([hold, GOOD])
    async with serving(fake) as served, trio.open_nursery() as nursery:
        replies = []

        async def ask() -> None:
            replies.append(await served.request("POST", "/api/v0/chat/completion", CHAT))

        nursery.start_soon(ask)
        nursery.start_soon(ask)
        while len(fake.inference.requests) < 2:
            await trio.lowlevel.checkpoint()
        busy = await served.request("POST", "/api/v0/chat/completion", CHAT)
        assert (busy.status, busy.headers["retry-after"]) == (503, "1")
        assert (await served.request("GET", "/readyz")).status == 200
        hold.set()
    assert [reply.status for reply in replies] == [200, 200]


async def test_one_line_per_request_without_bodies(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aicn")
    async with serving(answering(GOOD)) as served, served.client() as client:
        good = await client.request("POST", "/api/v0/chat/completion", CHAT)
        await client.request("POST", "/api/v0/chat/completion", b'{"very secret')
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith("POST /api/v0/chat/completion 200 ")
    assert f"id={good.headers['x-request-id']} node={OWN}" in first
    assert "error=malformed_body" in second
    assert "llo" not in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_without_a_node(stream: bool) -> None:
    pieces = [b"data: {}\n\n", b"data: [DONE]\n\n"] if stream else [GOOD]
    async with serving(answering(*pieces)) as served:
        body = {name: value for name, value in CHAT.items() if name != "node_id"} | {"stream": stream}
        reply = await served.request("POST", "/api/v0/chat/completion/proxy", body)
        assert reply.status == 200
        assert reply.body == (b"".join(pieces) if stream else b'{"code":0,"message":"ok","data":' + GOOD + b"}")
        assert reply.headers["x-aicn-node"] == OTHER
        [(_, request)] = served.fake.inference.requests
        assert (request.kind, request.project, request.model, request.stream) == (Kind.CHAT, "p", "m", stream)
        assert b"project" not in request.body


@pytest.mark.parametrize("path", ["/chat/completion/proxy", "/image/gen/proxy"])
async def test_no_node_has_answered(path: str) -> None:
    async with serving(failing(errors.NoNode("none of 2 nodes", retry_after=2.5))) as served:
        for stream in (False, True):
            asked = {"project": "p", "model": "m", "messages": [{}], "prompt": "a bird", "stream": stream}
            reply = await served.request("POST", f"/api/v0{path}", asked)
            assert (reply.status, reply.json) == (503, {"code": 1016, "message": "none of 2 nodes"})
            assert reply.headers["retry-after"] == "3"
