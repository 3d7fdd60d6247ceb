"""Every field of every call, the optional ones too, with what no client should send: refused or passed on, never an internal error."""

from __future__ import annotations

import json
import logging

import pytest

from aicn.gateway.v0.routes import PREFIX, ROUTES
from tests.fakes.answers import ScriptedAnswer
from tests.fakes.http import serving
from tests.fakes.node import OWN, FakeNode

MODEL = {"project": "p", "model": "m"}
SIGNED = {"wallet": "0x" + "0" * 40, "signature": "0x" + "0" * 130, "hash": "0x" + "0" * 64}
CHAT = MODEL | SIGNED | {"messages": [{"role": "user", "content": "x"}], "stream": False, "n": 1, "temperature": 1}
IMAGE = MODEL | SIGNED | {"prompt": "x", "n": 1, "size": "64x64", "width": 64, "height": 64, "ipfs_node": "http://127.0.0.1:1",
                          "response_format": "b64_json"}  # fmt: skip
ENDPOINT = {"model": "m", "api": "http://127.0.0.1:1/x", "type": 0, "headers": {"X-A": "b"}, "api_key": "k", "cid": "c"}
FULL: dict[str, dict[str, object]] = {
    "/peer": {"node_id": OWN},
    "/host/info": {"node_id": OWN},
    "/ai/projects/models": {"project": "p"},
    "/ai/projects/peers": MODEL,
    "/ai/project/register": {"project": "p", "models": [ENDPOINT], "probe": False},
    "/ai/project/unregister": MODEL,
    "/ai/project/peer": {"node_id": OWN},
    "/swarm/connect": {"node_addr": "/ip4/1.2.3.4/tcp/1/p2p/x"},
    "/swarm/disconnect": {"node_addr": "/p2p/x"},
    "/chat/completion": CHAT | {"node_id": OWN},
    "/chat/completion/proxy": CHAT,
    "/embedding": MODEL | SIGNED | {"node_id": OWN, "input": "x", "encoding_format": "float", "dimensions": 8},
    "/image/gen": IMAGE | {"node_id": OWN},
    "/image/gen/proxy": IMAGE,
    "/image/edit": IMAGE | {"node_id": OWN, "image": "https://127.0.0.1:1/a.png", "mask": "https://127.0.0.1:1/m.png"},
    "/keys/create": {"name": "k", "models": ["p/*"], "requests_per_minute": 1, "tokens_per_day": 1, "concurrency": 1,
                     "expires_at": 9_000_000_000, "admin": False},
    "/keys/revoke": {"id": "0123456789ab"},
}  # fmt: skip
WITHOUT_BODY = {"/ai/projects/list", "/swarm/peers", "/swarm/addrs", "/pubsub/peers"}

# As JSON text: some of it no Python value would be written as.
ODD = [
    "null", "true", "-1", "0", "1e999", "-1e999", "0.5", "9" * 30, "-" + "9" * 30, "9" * 4000, "9" * 5000,
    '""', '" "', r'"\u0000"', r'"\ud800"', '"' + "x" * 200_000 + '"', '"../../etc/passwd"', r'"a\nb"', '"٣"',
    "[]", "{}", "[null]", "[[[]]]", "[" + "1," * 5000 + "1]", '{"a":' * 40 + "1" + "}" * 40, '[{"a":1,"a":2}]',
]  # fmt: skip
NUMBERS = ["", "0", "-1", "x", "1e3", "٣", "9" * 30, "9" * 5000, "1&number=2", "%00", "+1", "1_0"]


def variants(body: dict[str, object]) -> list[bytes]:
    """`body` with each of its fields, and each of what is in its lists of objects, in all odd forms."""
    texts = []
    for name, value in body.items():
        rest = {key: other for key, other in body.items() if key != name}
        texts += [f"{json.dumps(rest)[:-1]}{', ' if rest else ''}{json.dumps(name)}: {odd}}}" for odd in ODD]
        if isinstance(value, list) and isinstance(value[0], dict):
            texts += [
                json.dumps(rest)[:-1] + f", {json.dumps(name)}: [{inner.decode()}]}}" for inner in variants(value[0])
            ]
    return [text.encode() for text in texts]


def test_all_calls_are_there() -> None:
    assert FULL.keys() | WITHOUT_BODY == {route.path for route in ROUTES if route.method == "POST"}


@pytest.mark.parametrize("path", sorted(FULL))
async def test_odd_fields(path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    fake = FakeNode()
    fake.inference.script = lambda _: ScriptedAnswer([b'{"choices":[{}],"data":[]}'])
    async with serving(fake, within_s=60) as served, served.client() as client:
        for body in variants(FULL[path]):
            reply = await client.request("POST", PREFIX + path, body)
            assert reply.status < 500 or reply.json["code"] != 5000, (body[-300:], reply.body[:300])
            assert len(reply.body) < 2000, "an error repeats what it was sent"
    assert not caplog.records


@pytest.mark.parametrize("path", ["/ai/projects/peers"])
async def test_odd_numbers_of_the_query(path: str) -> None:
    async with serving() as served:
        for number in NUMBERS:
            query = number.encode().decode("ascii", "ignore") or "%D9%A3"
            reply = await served.request("POST", f"{PREFIX}{path}?number={query}", FULL[path])
            assert reply.json["code"] != 5000, (number, reply.body[:300])
            assert reply.status in (200, 400), (number, reply.body[:300])
