"""The commands that talk to a running node, against a stand-in for it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aicn.cli.main import cli
from aicn.domain.hardware import Disk, HostInfo
from aicn.wire.v0.nodes import encode_host_info
from tests.fakes.api import LOST, ME, OTHER, FakeApi

Aicn = Callable[..., Result]
SERVED = [{"project": "P", "models": ["m1", "m2"]}]


def delta(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


def test_no_node_is_said_with_what_to_do(aicn: Aicn) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        for command in (["id"], ["host"], ["status"], ["peers"], ["models"], ["chat", "hi"], ["unregister", "P"]):
            result = aicn(*command, "--api", place)
            assert result.exit_code == 1
            assert result.stderr == f"Error: no node answers at {place}; start one with: aicn daemon\n"


@pytest.mark.parametrize("value", ["ftp://x", "http://", "http://x:99999", "::::"])
def test_an_api_that_is_no_url(aicn: Aicn, value: str) -> None:
    result = aicn("id", "--api", value)
    assert result.exit_code == 2
    assert "is no URL" in result.stderr


def test_the_api_can_come_from_the_environment(aicn: Aicn, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from aicn.cli.main import cli

    monkeypatch.setenv("AICN_API", api.url)
    assert ME in CliRunner().invoke(cli, ["id"]).stdout


def test_id(aicn: Aicn, api: FakeApi) -> None:
    shown = aicn("id", "--api", api.url).stdout
    assert f"/ip4/127.0.0.1/tcp/6001/p2p/{ME}" in shown
    assert json.loads(aicn("id", "--json", "--api", api.url).stdout)["peer_id"] == ME


def test_host(aicn: Aicn, api: FakeApi) -> None:
    shown = aicn("host", "--api", api.url).stdout
    for words in (
        ME,
        "Microsoft Windows 11 Pro 10.0.22631.3737 Build 22631.3737 x86_64",
        "Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz, 6 cores, 12 threads",
        "16.0 GiB",
        "1863.0 GiB HDD WDC WD20EJRX-89G3VY0",
        "qdesk Qdesk Virtual Display Adapter",
        " NVIDIA GeForce RTX 2080 Ti",
    ):
        assert words in shown
    assert "NVIDIA NVIDIA" not in shown
    assert json.loads(aicn("host", OTHER, "--json", "--api", api.url).stdout) == api.host
    assert api.requests[-1] == ("/api/v0/host/info", {"node_id": OTHER})


def test_host_of_a_machine_of_which_nothing_is_known(aicn: Aicn, api: FakeApi) -> None:
    api.host = encode_host_info(HostInfo(disk=(Disk("unknown", 0),)))
    shown = aicn("host", "--api", api.url).stdout
    assert [line.split()[1:] for line in shown.splitlines()[3:]] == [["none"], ["unknown"], ["unknown"], ["none"]]


def test_status_of_a_ready_node(aicn: Aicn, api: FakeApi) -> None:
    api.projects[ME] = SERVED
    result = aicn("status", "--api", api.url)
    assert result.exit_code == 0
    for words in ("yes", ME, "aicn/9", "1 connected", "P / m1", "P / m2", "1 d 2 h"):
        assert words in result.stdout
    status = json.loads(aicn("status", "--json", "--api", api.url).stdout)
    assert status["ready"] is True
    assert status["peers"] == [OTHER]
    assert status["models"] == [{"project": "P", "model": "m1"}, {"project": "P", "model": "m2"}]


def test_status_of_a_node_that_is_not_ready_is_exit_code_1(aicn: Aicn, api: FakeApi) -> None:
    api.ready = False
    result = aicn("status", "--api", api.url)
    assert result.exit_code == 1
    assert "no: " in result.stdout


def test_peers(aicn: Aicn, api: FakeApi) -> None:
    assert aicn("peers", "--api", api.url).stdout == f"{OTHER}\t/ip4/10.0.0.1/tcp/1\t1.5ms\tOutbound\n"
    assert json.loads(aicn("peers", "--json", "--api", api.url).stdout)[0]["peer"] == OTHER
    api.peers = []
    assert aicn("peers", "--api", api.url).stdout == ""


def test_known_addresses(aicn: Aicn, api: FakeApi) -> None:
    said = aicn("peers", "--known", "--api", api.url).stdout
    assert said == f"{OTHER}\t/ip4/10.0.0.1/tcp/1\n{OTHER}\t/ip6/::1/tcp/1\n"
    assert json.loads(aicn("peers", "--known", "--json", "--api", api.url).stdout)[0] == {"peer": ME, "addrs": []}


def test_models_of_the_network(aicn: Aicn, api: FakeApi) -> None:
    api.projects = {ME: SERVED, OTHER: [{"project": "Q\tx", "models": ["\x1b[31mred"]}, *SERVED]}
    result = aicn("models", "--api", api.url)
    assert result.exit_code == 0
    mine, others = f"{ME}\tP\tm1\n{ME}\tP\tm2\n", f"{OTHER}\tP\tm1\n{OTHER}\tP\tm2\n"
    assert result.stdout == f"{mine}{others}{OTHER}\tQ x\t\ufffd[31mred\n"
    listed = json.loads(aicn("models", "--json", "--api", api.url).stdout)
    assert [(one["node"], one["self"], len(one["models"])) for one in listed] == [(ME, True, 2), (OTHER, False, 3)]


def test_models_when_there_is_no_directory(aicn: Aicn, api: FakeApi) -> None:
    api.refuse["/api/v0/ai/projects/list"] = 501, {"code": 1010, "message": "this node keeps no directory"}
    result = aicn("models", "--api", api.url)
    assert result.exit_code == 1
    assert "this node keeps no directory (code 1010)" in result.stderr


def test_route_explain(aicn: Aicn, api: FakeApi) -> None:
    first = {"node_id": ME, "rank": 0, "seconds": 0.25, "reason": "better of two"}
    short = {"node_id": OTHER, "rank": None, "seconds": 1.0, "reason": "context of 8 tokens is too short"}
    api.route = {"project": "P", "model": "m 1", "nodes": [first, short]}
    result = aicn("route", "explain", "m 1", "--project", "P", "--api", api.url)
    assert result.exit_code == 0
    assert result.stdout == f"1\t{ME}\t0.25 s\tbetter of two\n-\t{OTHER}\t1.00 s\tcontext of 8 tokens is too short\n"
    assert api.requests[-1][0] == "/api/v0/debug/route?model=m+1&type=0&project=P"
    assert json.loads(aicn("route", "explain", "m", "--json", "--api", api.url).stdout) == api.route


def test_models_of_named_nodes_with_errors_per_node(aicn: Aicn, api: FakeApi) -> None:
    api.projects = {OTHER: SERVED}
    assert aicn("models", "--node", OTHER, "--api", api.url).stdout.count(OTHER) == 2
    args = ("models", "--node", OTHER, "--node", OTHER, "--node", LOST, "--api", api.url)
    result = aicn(*args)
    assert result.exit_code == 1
    assert f"{LOST}: it does not answer (code 1004)" in result.stderr
    listed = json.loads(aicn(*args, "--json").stdout)
    assert [one["node"] for one in listed] == [OTHER, LOST]
    assert listed[1]["error"] == "it does not answer (code 1004)"


def test_connect(aicn: Aicn, api: FakeApi) -> None:
    address = f"/ip4/10.0.0.1/tcp/1/p2p/{OTHER}"
    assert aicn("connect", address, "--api", api.url).exit_code == 0
    assert api.requests == [("/api/v0/swarm/connect", {"node_addr": address})]
    api.refuse["/api/v0/swarm/connect"] = (400, {"code": 1001, "message": "node_addr: not a multiaddr"})
    result = aicn("connect", "x", "--api", api.url)
    assert (result.exit_code, result.stderr) == (1, "Error: node_addr: not a multiaddr (code 1001)\n")


def test_disconnect(aicn: Aicn, api: FakeApi) -> None:
    result = aicn("disconnect", f"/p2p/{OTHER}", "--api", api.url)
    assert (result.exit_code, result.stdout) == (0, f"Disconnected from /p2p/{OTHER}\n")
    assert api.requests == [("/api/v0/swarm/disconnect", {"node_addr": f"/p2p/{OTHER}"})]
    assert json.loads(aicn("disconnect", "x", "--json", "--api", api.url).stdout) == {"disconnected": "x"}
    api.refuse["/api/v0/swarm/disconnect"] = (500, {"code": 5000, "message": "not connected"})
    result = aicn("disconnect", OTHER, "--api", api.url)
    assert (result.exit_code, result.stderr) == (1, "Error: not connected (code 5000)\n")


def test_register_says_what_it_replaced(aicn: Aicn, api: FakeApi) -> None:
    api.projects[ME] = SERVED
    args = ("register", "P", "--model", "m2", "http://127.0.0.1:1/v1?a=b", "--type", "text-to-image", "--api", api.url)
    result = aicn(*args)
    assert result.exit_code == 0
    models = [{"model": "m2", "api": "http://127.0.0.1:1/v1?a=b", "type": 1}]
    assert api.requests[-1] == ("/api/v0/ai/project/register", {"project": "P", "models": models})
    assert "m1" in result.stderr
    assert json.loads(aicn(*args, "--json").stdout) == {"project": "P", "models": ["m2"], "replaced": ["m1"]}


def test_register_with_a_key_headers_and_a_probe_shows_none_of_them(
    aicn: Aicn, api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api.projects[ME] = []
    url = "https://models.example/v1/chat/completions"
    args = ("register", "P", "--model", "m", url, "--header", "X-A: s3cret: 1", "--header", "X-B:", "--probe")
    (tmp_path / "key").write_text("s3cret-file\n")
    monkeypatch.setenv("AICN_API_KEY", "s3cret-variable")
    for more, stdin, key in (
        (("--api-key-file", str(tmp_path / "key")), None, "s3cret-file"),
        (("--api-key-file", "-"), "s3cret-stdin\n", "s3cret-stdin"),
        (("--api-key", "s3cret-argument"), None, "s3cret-argument"),
    ):
        result = aicn(*args, *more, "--api", api.url, stdin=stdin)
        assert result.exit_code == 0, result.output
        secrets = {"api_key": key, "headers": {"X-A": "s3cret: 1", "X-B": ""}}
        model = {"model": "m", "api": url, "type": 0, **secrets}
        assert api.requests[-1] == ("/api/v0/ai/project/register", {"project": "P", "models": [model], "probe": True})
        assert "s3cret" not in result.output
    with_variable = CliRunner().invoke(cli, ["register", "P", "--model", "m", url, "--api", api.url])
    assert with_variable.exit_code == 0
    assert "s3cret" not in with_variable.output
    assert api.requests[-1][1]["models"][0]["api_key"] == "s3cret-variable"


@pytest.mark.parametrize("headers", [["s3cret"], ["X: s3cret", "X: s3cret"]])
def test_a_header_that_is_none_is_not_repeated(aicn: Aicn, api: FakeApi, headers: list[str]) -> None:
    options = [part for header in headers for part in ("--header", header)]
    result = aicn("register", "P", "--model", "m", "http://h/", *options, "--api", api.url)
    assert result.exit_code == 2
    assert "s3cret" not in result.output
    assert not api.requests


def test_unregister_a_project_or_one_model(aicn: Aicn, api: FakeApi) -> None:
    assert aicn("unregister", "P", "--api", api.url).exit_code == 0
    assert aicn("unregister", "P", "--model", "m", "--api", api.url).exit_code == 0
    assert [body for _, body in api.requests] == [{"project": "P"}, {"project": "P", "model": "m"}]


def test_something_that_is_no_node(aicn: Aicn, api: FakeApi) -> None:
    api.refuse["/api/v0/id"] = (404, ["nothing"])
    assert "is no aicn node (HTTP 404)" in aicn("id", "--api", api.url).stderr


# ---------------------------------------------------------------------------------------------------------------- chat


def test_chat_streams_and_says_who_answered(aicn: Aicn, api: FakeApi) -> None:
    api.projects[ME] = SERVED
    api.script = [delta("Hello"), delta(" \x1b]0;you\x07"), b"data: [DONE]\n\n"]
    result = aicn("chat", "--system", "Be kind.", "--max-tokens", "5", "--temperature", "0", "Hi", "--api", api.url)
    assert (result.exit_code, result.stdout) == (0, "Hello \ufffd]0;you\ufffd\n")
    assert f"P / m1 on {ME}: 2 tokens" in result.stderr
    assert api.requests[-1][1] == {
        "node_id": ME,
        "project": "P",
        "model": "m1",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "max_tokens": 5,
        "temperature": 0.0,
    }


def test_chat_finds_the_connected_peer_that_has_the_model(aicn: Aicn, api: FakeApi) -> None:
    api.peers = [LOST, OTHER]
    api.projects = {ME: SERVED, OTHER: [{"project": "P", "models": ["big"]}]}
    api.script = [delta("x"), b"data: [DONE]\n\n"]
    result = aicn("chat", "--model", "big", "--json", "Hi", "--api", api.url)
    answer = json.loads(result.stdout)
    assert (answer["node"], answer["model"], answer["content"]) == (OTHER, "big", "x")


def test_chat_with_a_named_node(aicn: Aicn, api: FakeApi) -> None:
    api.projects = {ME: SERVED}
    result = aicn("chat", "--node", OTHER, "Hi", "--api", api.url)
    assert result.exit_code == 1
    assert f"node {OTHER} does not offer a model" in result.stderr
    result = aicn("chat", "--node", LOST, "Hi", "--api", api.url)
    assert f"{LOST}: it does not answer (code 1004)" in result.stderr


def test_chat_without_any_model(aicn: Aicn, api: FakeApi) -> None:
    result = aicn("chat", "--project", "P", "Hi", "--api", api.url)
    assert result.exit_code == 1
    assert "no node of the network offers a model of project P" in result.stderr


def test_chat_reads_a_piped_question(aicn: Aicn, api: FakeApi) -> None:
    api.projects[ME] = SERVED
    api.script = [delta("x"), b"data: [DONE]\n\n"]
    assert aicn("chat", "--api", api.url, stdin="line 1\nline 2\n").exit_code == 0
    assert api.requests[-1][1]["messages"] == [{"role": "user", "content": "line 1\nline 2\n"}]
    assert aicn("chat", "--api", api.url, stdin=" \n").exit_code == 2


def test_chat_that_breaks_off_shows_what_came_and_fails(aicn: Aicn, api: FakeApi) -> None:
    api.projects[ME] = SERVED
    api.script = [delta("so far"), b'event: error\ndata: {"code": 1017, "message": "died"}\n\n']
    result = aicn("chat", "Hi", "--api", api.url)
    assert (result.exit_code, result.stdout) == (1, "so far\n")
    assert result.stderr == "Error: the answer broke off: died (code 1017)\n"


def test_chat_that_is_refused(aicn: Aicn, api: FakeApi) -> None:
    api.projects[ME] = SERVED
    api.refuse["/api/v0/chat/completion"] = (503, {"code": 1016, "message": "busy"})
    result = aicn("chat", "Hi", "--api", api.url)
    assert (result.exit_code, result.stderr) == (1, "Error: busy (code 1016)\n")
