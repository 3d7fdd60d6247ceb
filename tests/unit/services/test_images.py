from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aicn.config.schema import Ipfs, Limits
from aicn.domain.inference import End, InferenceRequest, Kind, Part, Usage
from aicn.domain.registration import Endpoint
from aicn.errors import AicnError, DeadlineExceeded, InvalidRequest, IpfsFailed, ModelFailed
from aicn.services.images import Images
from aicn.services.ports import Answer
from tests.fakes.answers import ScriptedAnswer, ScriptedEndpoints, Step
from tests.fakes.png import draw_png

PNGS = [draw_png(number) for number in range(3)]
ENDPOINT = Endpoint("P", "M", "http://user:secret@127.0.0.1:1088/v1/images/generations", type=1)
API = "http://10.0.0.1:5001"


@dataclass
class FakeStore:
    added: list[tuple[str, bytes]] = field(default_factory=list)
    dead: bool = False
    gate: trio.Event | None = None

    async def check(self, api: str) -> None:
        if self.dead:
            raise ModelFailed(f"no IPFS node answers at {api}")

    async def add(self, api: str, data: bytes) -> str:
        if self.gate is not None:
            await self.gate.wait()
        self.added.append((api, data))
        return f"Qm{len(self.added)}"


@dataclass
class FakeFetcher:
    served: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    async def fetch(self, location: str, *, endpoint: str, most: int) -> bytes:
        self.asked.append((location, endpoint, most))
        return self.served[location]


@dataclass
class World:
    endpoints: ScriptedEndpoints
    store: FakeStore
    fetcher: FakeFetcher
    images: Images

    async def ask(self, kind: Kind = Kind.IMAGE_GENERATION, **members: Any) -> Any:
        """The whole answer, decoded."""
        answer = await self.images.open(ENDPOINT, a_request(kind, **members))
        body = b"".join([chunk.data async for chunk in answer])
        assert answer.end is not None
        return json.loads(body)


def a_request(kind: Kind = Kind.IMAGE_GENERATION, *, deadline_s: float = 60.0, **members: Any) -> InferenceRequest:
    body = json.dumps({"model": "M", "prompt": "a bird"} | members).encode()
    return InferenceRequest("r", kind, "P", "M", body, stream=False, deadline=trio.current_time() + deadline_s)


def answered(*images: bytes | str) -> bytes:
    data = [
        {"url": image} if isinstance(image, str) else {"b64_json": base64.b64encode(image).decode()} for image in images
    ]
    return json.dumps({"code": 0, "created": 9, "data": data}).encode()


def a_world(steps: Sequence[Step], *, limits: Limits | None = None, **ipfs: Any) -> World:
    endpoints, store, fetcher = ScriptedEndpoints(lambda _: steps), FakeStore(), FakeFetcher()
    config = Ipfs(**({"api": API} | ipfs))
    return World(endpoints, store, fetcher, Images(endpoints, fetcher, store, ipfs=config, limits=limits or Limits()))


async def test_what_was_drawn_is_stored_and_named() -> None:
    world = a_world([answered(PNGS[0], "http://127.0.0.1/1.jpg")])
    jpeg = b"\xff\xd8\xff" + bytes(20)
    world.fetcher.served["http://127.0.0.1/1.jpg"] = jpeg
    data = await world.ask(n=2)
    assert data["ipfs_node"] == API
    assert [choice["cid"] for choice in data["choices"]] == ["Qm1", "Qm2"]
    names = [choice["image_name"].rpartition(".") for choice in data["choices"]]
    assert [extension for _, _, extension in names] == ["png", "jpg"]
    assert len({name for name, _, _ in names}) == 2
    assert all(len(name) == 16 and name.isalnum() and name == name.lower() for name, _, _ in names)
    assert world.store.added == [(API, PNGS[0]), (API, jpeg)]
    assert world.fetcher.asked == [("http://127.0.0.1/1.jpg", ENDPOINT.url, Limits().answer_bytes - len(PNGS[0]))]


async def test_the_endpoint_is_asked_for_both_sizes_and_not_for_what_is_ours() -> None:
    world = a_world([answered(PNGS[0])], allowed_nodes=("10.0.0.2",))
    await world.ask(width=64, height=32, seed=5, ipfs_node="http://10.0.0.2:5001")
    asked = json.loads(world.endpoints.requests[0][1].body)
    expected = {"model": "M", "prompt": "a bird", "seed": 5, "n": 1, "size": "64x32", "width": 64, "height": 32}
    assert asked == expected


async def test_other_requests_go_through_untouched() -> None:
    world = a_world([b"anything"])
    request = a_request(Kind.CHAT)
    answer = await world.images.open(ENDPOINT, request)
    assert answer is world.endpoints.answers[0]
    assert world.endpoints.requests == [(ENDPOINT, request)]


async def test_the_files_of_an_edit_go_on() -> None:
    world = a_world([answered(PNGS[0])])
    part = Part("image", "a.png", "image/png", PNGS[1])
    request = a_request(Kind.IMAGE_EDIT)
    request = InferenceRequest(**{name: getattr(request, name) for name in request.__slots__} | {"parts": (part,)})
    await world.images.open(ENDPOINT, request)
    assert world.endpoints.requests[0][1].parts == (part,)


@pytest.mark.parametrize(
    ("asked", "ipfs", "used", "shown"),
    [
        ("", {}, API, API),
        (API, {}, API, API),
        (f"{API}/", {}, API, API),
        ("", {"public_url": "http://ipfs.example:8080"}, API, "http://ipfs.example:8080"),
        ("http://ipfs.example:8080", {"public_url": "http://ipfs.example:8080"}, API, "http://ipfs.example:8080"),
        ("http://10.0.0.2:5001", {"allowed_nodes": ("10.0.0.2",)}, "http://10.0.0.2:5001", "http://10.0.0.2:5001"),
        ("http://10.0.0.2:5001/x?y", {"allowed_nodes": ("10.0.0.2:5001",)}, "http://10.0.0.2:5001", "http://10.0.0.2:5001"),
        ("http://10.0.0.2:5001", {"allowed_nodes": ("10.0.0.2",), "api": ""}, "http://10.0.0.2:5001", "http://10.0.0.2:5001"),
        ("", {"api": "http://user:secret@10.0.0.1:5001"}, "http://user:secret@10.0.0.1:5001", API),
    ],
)  # fmt: skip
async def test_which_ipfs_node_is_used(asked: str, ipfs: dict[str, Any], used: str, shown: str) -> None:
    world = a_world([answered(PNGS[0])], **ipfs)
    data = await world.ask(ipfs_node=asked)
    assert (world.store.added, data["ipfs_node"]) == ([(used, PNGS[0])], shown)


@pytest.mark.parametrize(
    ("members", "ipfs", "error", "what"),
    [
        ({}, {"api": ""}, ModelFailed, "set ipfs.api"),
        ({"ipfs_node": "http://10.0.0.2:5001"}, {}, IpfsFailed, "ipfs.allowed_nodes"),
        ({"ipfs_node": "http://10.0.0.2:5002"}, {"allowed_nodes": ("10.0.0.2:5001",)}, IpfsFailed, "allowed_nodes"),
        ({"ipfs_node": "http://10.0.0.2@10.0.0.3/"}, {"allowed_nodes": ("10.0.0.2",)}, IpfsFailed, "10.0.0.3"),
        ({"ipfs_node": "http://10.0.0.1:5002"}, {}, IpfsFailed, "allowed_nodes"),
        ({"ipfs_node": "file:///etc/passwd"}, {}, InvalidRequest, "^ipfs_node: "),
        ({"n": 0}, {}, InvalidRequest, "^n: "),
    ],
)
async def test_what_a_client_may_not_is_refused_before_the_model_works(
    members: dict[str, Any], ipfs: dict[str, Any], error: type[AicnError], what: str
) -> None:
    world = a_world([answered(PNGS[0])], **ipfs)
    with pytest.raises(error, match=what) as caught:
        await world.ask(**members)
    assert world.endpoints.requests == []
    assert "secret" not in caught.value.message


async def test_a_dead_ipfs_node_is_found_before_the_model_works() -> None:
    world = a_world([answered(PNGS[0])])
    world.store.dead = True
    with pytest.raises(ModelFailed, match="no IPFS node answers"):
        await world.ask()
    assert world.endpoints.requests == []


async def test_images_are_never_streamed() -> None:
    world = a_world([])
    request = a_request()
    streamed = InferenceRequest(**{name: getattr(request, name) for name in request.__slots__} | {"stream": True})
    with pytest.raises(InvalidRequest, match="stream"):
        await world.images.open(ENDPOINT, streamed)


@pytest.mark.parametrize("inline", ["url", "b64_json"])
async def test_inline_images_need_no_ipfs_node(inline: str) -> None:
    world = a_world([answered(PNGS[0], PNGS[1])], api="")
    world.store.dead = True
    data = await world.ask(response_format=inline)
    texts = [choice[inline].removeprefix("data:image/png;base64,") for choice in data["choices"]]
    assert [base64.b64decode(text) for text in texts] == PNGS[:2]
    assert data["created"] == 9
    assert world.store.added == []


async def test_large_inline_answers_travel_in_pieces_and_have_a_limit() -> None:
    large = PNGS[0] + bytes(600_000)
    world = a_world([answered(large)], limits=Limits(answer_bytes=1_000_000))
    answer = await world.images.open(ENDPOINT, a_request(response_format="b64_json"))
    pieces = [chunk.data async for chunk in answer]
    assert [len(piece) for piece in pieces][:3] == [256 * 1024] * 3
    assert base64.b64decode(json.loads(b"".join(pieces))["choices"][0]["b64_json"]) == large
    world = a_world([answered(large, large)], limits=Limits(answer_bytes=1_500_000))
    with pytest.raises(ModelFailed, match="over limits"):
        await world.ask(response_format="b64_json")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"code": 3, "message": "no GPU"}', "http://127.0.0.1:1088 failed with code 3: no GPU"),
        (answered(b"<html>"), r"data\[0\] is no image"),
        (answered(PNGS[0], b"text"), r"data\[1\] is no image"),
        (b"nothing", "no JSON"),
    ],
)
async def test_an_endpoint_that_does_not_draw_is_the_models_fault(body: bytes, what: str) -> None:
    world = a_world([body])
    answer = await world.images.open(ENDPOINT, a_request())
    for _ in range(2):  # said again when asked again
        with pytest.raises(ModelFailed, match=what) as caught:
            await answer.receive()
        assert "secret" not in caught.value.message
    assert world.store.added == []
    assert world.endpoints.answers[0].closed


async def test_what_the_endpoint_counted_is_told() -> None:
    class Counting(ScriptedEndpoints):
        async def open(self, endpoint: Endpoint, request: InferenceRequest) -> Answer:
            return ScriptedAnswer([answered(PNGS[0])], end=End(usage=Usage(1, 2, 3)))

    images = Images(Counting(lambda _: []), FakeFetcher(), FakeStore(), ipfs=Ipfs(api=API), limits=Limits())
    answer = await images.open(ENDPOINT, a_request())
    assert len([chunk async for chunk in answer]) == 1
    assert answer.end == End(usage=Usage(1, 2, 3))


async def test_the_deadline_holds_while_images_are_stored(autojump_clock: MockClock) -> None:
    world = a_world([answered(PNGS[0])])
    world.store.gate = trio.Event()
    answer = await world.images.open(ENDPOINT, a_request(deadline_s=5))
    with pytest.raises(DeadlineExceeded):
        await answer.receive()
    assert trio.current_time() < 6
    assert world.endpoints.answers[0].closed


async def test_a_client_that_leaves_ends_it_at_every_stage(autojump_clock: MockClock) -> None:
    for stage in ("endpoint", "store"):
        world = a_world([trio.Event(), answered(PNGS[0])] if stage == "endpoint" else [answered(PNGS[0])])
        world.store.gate = trio.Event()
        answer = await world.images.open(ENDPOINT, a_request())
        with trio.move_on_after(1):
            await answer.receive()
        await answer.aclose()
        assert world.endpoints.answers[0].closed
        assert world.store.added == []
        with pytest.raises(trio.ClosedResourceError):
            await answer.receive()
