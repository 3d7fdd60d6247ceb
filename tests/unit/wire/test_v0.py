"""The shapes of spec 1: what is read, what is refused and how, what is written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connection, NodeInfo
from aicn.domain.registration import Endpoint, Project
from aicn.errors import InvalidRequest, MalformedBody
from aicn.wire.v0 import answers, inference, nodes, registration, swarm

NODE = "16Uiu2HAm5cygUrKCBxtNSMKKvgdr1saPM6XWcgnPyTvK4sdrARGL"
CHAT = {"node_id": NODE, "project": "DecentralGPT", "model": "Llama3-70B", "messages": [{"role": "user"}]}
MODEL = {"model": "Llama3-70B", "api": "http://127.0.0.1:1042/v1/chat/completions?key=a%20b", "type": 0}


def test_a_chat_is_passed_on_as_it_was_sent() -> None:
    body = f'{{"node_id": "{NODE}", "project": "p", "model": "m", "temperature": 0.70, "messages": [{{"a": "\\u00e9"}}], "wallet": ""}}'
    node_id, chat = inference.decode_chat(body.encode())
    assert (node_id, chat.project, chat.model, chat.stream) == (NODE, "p", "m", False)
    assert chat.body == b'{"model": "m", "temperature": 0.70, "messages": [{"a": "\\u00e9"}], "wallet": ""}'


def test_a_project_is_registered_as_the_existing_programs_configuration_spells_it() -> None:
    entry = {"Project": "P", "Models": [{"Model": "M", "API": "http://127.0.0.1:1/", "Type": 1, "CID": ""}]}
    assert registration.decode_register(json.dumps(entry).encode()) == (
        "P",
        (Endpoint("P", "M", "http://127.0.0.1:1/", 1),),
        False,
    )
    both = entry | {"project": "Q"}  # as the API spells it counts
    assert registration.decode_register(json.dumps(both).encode()).project == "Q"


def test_a_chat_by_project_names_no_node() -> None:
    body = json.dumps(CHAT).encode()
    assert inference.decode_project_chat(body) == inference.decode_chat(body)[1]
    without = json.dumps({k: v for k, v in CHAT.items() if k != "node_id"}).encode()
    assert inference.decode_project_chat(without) == inference.decode_project_chat(body)
    with pytest.raises(InvalidRequest, match=r"^project: "):
        inference.decode_project_chat(json.dumps({"model": "m", "messages": [{}]}).encode())


@pytest.mark.parametrize(("stream", "streams"), [(True, True), (False, False), (None, False)])
def test_stream(stream: object, streams: bool) -> None:
    assert inference.decode_chat(json.dumps(CHAT | {"stream": stream}).encode())[1].stream is streams


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"node_id": None}, "node_id"),
        ({"node_id": ""}, "node_id"),
        ({"node_id": "hello"}, "node_id"),
        ({"node_id": 5}, "node_id"),
        ({"node_id": [NODE]}, "node_id"),
        ({"project": None}, "project"),
        ({"project": ""}, "project"),
        ({"project": 1}, "project"),
        ({"project": "x" * 129}, "project"),
        ({"model": None}, "model"),
        ({"model": "a\nb"}, "model"),
        ({"model": " a"}, "model"),
        ({"model": "\ud800"}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": [{}, "hi"]}, r"messages\[1\]"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
    ],
)
def test_a_wrong_chat_names_the_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}: "):
        inference.decode_chat(json.dumps(CHAT | change).encode())


@pytest.mark.parametrize("field", ["node_id", "project", "model", "messages"])
def test_a_missing_member_of_a_chat_is_named(field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}: "):
        inference.decode_chat(json.dumps({k: v for k, v in CHAT.items() if k != field}).encode())


def test_register() -> None:
    two = {"model": "Qwen/Qwen2 72B", "api": "https://[::1]/x"}
    body = {"project": "模型", "models": [MODEL, two, MODEL, {**two, "type": 1, "more": 1}, {**two, "type": None}]}
    wanted = registration.decode_register(json.dumps(body).encode())
    llama = Endpoint("模型", "Llama3-70B", "http://127.0.0.1:1042/v1/chat/completions?key=a%20b", 0)
    qwen = Endpoint("模型", "Qwen/Qwen2 72B", "https://[::1]/x", 0)
    assert wanted == ("模型", (llama, qwen, llama, replace(qwen, type=1), qwen), False)


def test_register_with_secrets_and_a_probe() -> None:
    secret = {"headers": {"X-Team": "blue team", "X-Empty": ""}, "api_key": "sk-1/2=_"}
    models = [MODEL | secret, MODEL | {"type": 3, "context": 4096}, MODEL | {"headers": {}, "context": None}]
    body = {"project": "p", "models": models, "probe": True}
    wanted = registration.decode_register(json.dumps(body).encode())
    assert wanted.probe
    assert [(one.headers, one.api_key, one.type) for one in wanted.endpoints] == [
        ((("X-Team", "blue team"), ("X-Empty", "")), "sk-1/2=_", 0),
        ((), "", 3),
        ((), "", 0),
    ]
    assert [one.context for one in wanted.endpoints] == [0, 4096, 0]
    assert "sk-1" not in repr(wanted)
    assert "blue" not in repr(wanted)


SECRET = "s3cret-value"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"context": -1}, "context"),
        ({"context": True}, "context"),
        ({"context": 2**31}, "context"),
        ({"context": "4096"}, "context"),
        ({"api_key": ""}, "api_key"),
        ({"api_key": 7}, "api_key"),
        ({"api_key": f"{SECRET} x"}, "api_key"),
        ({"api_key": f"{SECRET}\r\nX: y"}, "api_key"),
        ({"api_key": SECRET * 400}, "api_key"),
        ({"headers": [SECRET]}, "headers"),
        ({"headers": {"X": 1, "Y": SECRET}}, "headers"),
        ({"headers": {f"X: {SECRET}": ""}}, "headers"),
        ({"headers": {"": SECRET}}, "headers"),
        ({"headers": {"X\n": SECRET}}, "headers"),
        ({"headers": {"X": f"{SECRET}\r\nY: z"}}, "headers.X"),
        ({"headers": {"X": f"{SECRET} "}}, "headers.X"),
        ({"headers": {"X": f"{SECRET}é"}}, "headers.X"),
        ({"headers": {"X": SECRET, "x": SECRET}}, "headers.x"),
        ({"headers": {f"X{n}": SECRET for n in range(33)}}, "headers"),
        ({"headers": {"X": SECRET * 700}}, "headers"),
        *(
            ({"headers": {name: SECRET}}, f"headers.{name}")
            for name in [
                "Host", "CONTENT-LENGTH", "content-type", "Connection", "TE", "Transfer-Encoding", "Upgrade", "Trailer", "Keep-Alive",
                "Proxy-Connection", "Accept", "Expect", "Content-Encoding",
            ]
        ),
        ({"headers": {"authorization": SECRET}, "api_key": SECRET}, "api_key"),
        ({"api": f"http://u:{SECRET}@h/", "api_key": SECRET}, "api_key"),
        ({"api": f"http://u:{SECRET}@h/", "headers": {"Authorization": SECRET}}, "headers.Authorization"),
    ],
)  # fmt: skip
def test_headers_and_keys_that_cannot_be_sent_are_named_and_not_repeated(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        registration.decode_register(json.dumps({"project": "p", "models": [MODEL, MODEL | change]}).encode())
    assert caught.value.message.startswith(f"models[1].{field}: ")
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "project"),
        ({"project": ""}, "project"),
        ({"project": "p"}, "models"),
        ({"project": "p", "models": []}, "models"),
        ({"project": "p", "models": {}}, "models"),
        ({"project": "p", "models": [MODEL] * 1001}, "models"),
        ({"project": "p", "models": [MODEL, 1]}, "models[1]"),
        ({"project": "p", "models": [MODEL], "probe": "yes"}, "probe"),
        ({"project": "p", "models": [MODEL, {}]}, "models[1].model"),
        ({"project": "p", "models": [MODEL, MODEL | {"model": ""}]}, "models[1].model"),
        ({"project": "p", "models": [MODEL | {"type": 4}]}, "models[0].type"),
        ({"project": "p", "models": [MODEL | {"type": True}]}, "models[0].type"),
        ({"project": "p", "models": [MODEL | {"type": "0"}]}, "models[0].type"),
        ({"project": "p", "models": [MODEL | {"type": 1.0}]}, "models[0].type"),
        *(
            ({"project": "p", "models": [MODEL | {"api": api}]}, "models[0].api")
            for api in [
                None, "", 1, "file:///etc/passwd", "ftp://h/x", "127.0.0.1:1042", "http://", "http:///x", "http://h:99999/", "http://h:0/",
                "http://h:x/", "http://[::1", "http://a b/", "http://h/\r\nX: y", "http://h/é", "http://h/" + "x" * 2048,
            ]
        ),
    ],
)  # fmt: skip
def test_a_wrong_registration_names_the_field(body: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        registration.decode_register(json.dumps(body).encode())
    assert caught.value.message.startswith(field + ": ")


def test_unregister() -> None:
    assert registration.decode_unregister(b'{"project":"p"}') == ("p", None)
    assert registration.decode_unregister(b'{"project":"p","model":null}') == ("p", None)
    assert registration.decode_unregister(b'{"project":"p","model":"m"}') == ("p", "m")
    assert registration.decode_unregister(b'{"Project":"p","Model":"m"}') == ("p", "m")
    with pytest.raises(InvalidRequest, match=r"^model: "):
        registration.decode_unregister(b'{"project":"p","model":""}')


def test_node_id_and_address() -> None:
    assert nodes.decode_node_id(json.dumps({"node_id": NODE}).encode()) == NODE
    assert swarm.decode_address(b'{"node_addr":"/ip4/1.2.3.4/tcp/1/p2p/x"}') == "/ip4/1.2.3.4/tcp/1/p2p/x"
    for wrong in (b"{}", b'{"node_addr":""}', b'{"node_addr":1}', b'{"node_addr":"' + b"x" * 3000 + b'"}'):
        with pytest.raises(InvalidRequest, match=r"^node_addr: "):
            swarm.decode_address(wrong)


@given(st.binary(max_size=60))
def test_junk_never_crashes_a_decoder(body: bytes) -> None:
    for decode in (
        inference.decode_chat,
        nodes.decode_node_id,
        swarm.decode_address,
        registration.decode_register,
        registration.decode_unregister,
    ):
        with pytest.raises((MalformedBody, InvalidRequest)):
            decode(body)


def test_the_envelope_leaves_an_answer_untouched() -> None:
    answer = b'{"choices": [], "created": 1.50 ,"t":"\\u00e9"}'
    assert answers.wrap_data(answer) == b'{"code":0,"message":"ok","data":' + answer + b"}"
    assert answers.encode_data([]) == b'{"code":0,"message":"ok","data":[]}'
    assert answers.encode_ok() == b'{"code":0,"message":"ok"}'
    assert answers.encode_error(1001, "é") == '{"code":1001,"message":"é"}'.encode()


def test_the_error_event_is_one_event() -> None:
    event = answers.encode_error_event(1017, "a\nb")
    head, data, *rest = event.split(b"\n")
    assert (head, rest) == (b"event: error", [b"", b""])
    assert json.loads(data.removeprefix(b"data: ")) == {
        "code": 1017,
        "message": "a\nb",
        "error": {"message": "a\nb", "code": 1017},
    }


def test_shapes_of_nodes_and_connections() -> None:
    info = NodeInfo(PeerId(NODE), "aicn/0.0.1", "aicn/1", ("/ip4/1.2.3.4/tcp/1",), ())
    assert nodes.encode_info(info) == {
        "peer_id": NODE,
        "protocol_version": "aicn/0.0.1",
        "agent_version": "aicn/1",
        "addresses": ["/ip4/1.2.3.4/tcp/1"],
        "protocols": [],
    }
    connection = Connection(7, PeerId(NODE), "/ip4/1.2.3.4/tcp/6001", 0.208878448, "Inbound")
    assert swarm.encode_connections([connection]) == [
        {
            "id": "16Uiu2HAm5-7",
            "peer": NODE,
            "addr": "/ip4/1.2.3.4/tcp/6001",
            "latency": "208.878448ms",
            "direction": "Inbound",
        }
    ]
    assert list(swarm.encode_connections([connection])[0]) == ["id", "peer", "addr", "latency", "direction"]
    assert swarm.encode_addresses([(NODE, ("/ip4/1.2.3.4/tcp/1",)), (NODE, ())]) == [
        {"peer": NODE, "addrs": ["/ip4/1.2.3.4/tcp/1"]},
        {"peer": NODE, "addrs": []},
    ]
    assert registration.encode_projects([Project("p", ("a", "b"))]) == [{"project": "p", "models": ["a", "b"]}]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (1e-9, "1ns"), (1.5e-6, "1.5µs"), (0.001, "1ms"), (0.208878448, "208.878448ms"), (0.0205, "20.5ms"), (1, "1s"),
        (1.5, "1.5s"), (59.999, "59.999s"), (60, "1m0s"), (90.25, "1m30.25s"), (3600, "1h0m0s"), (3661.5, "1h1m1.5s"),
    ],
)  # fmt: skip
def test_go_duration(seconds: float, text: str) -> None:
    assert swarm.go_duration(seconds) == text
