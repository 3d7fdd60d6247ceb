"""The directory's calls over a real socket: shapes of spec 1, and what is answered when there is no directory."""

from __future__ import annotations

import pytest

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import OfferedModel, Provider
from aicn.errors import Unsupported
from tests.fakes.http import serving
from tests.fakes.node import OTHER, OWN, FakeNode

OK = {"code": 0, "message": "ok"}
ROUTES = ["/ai/projects/list", "/ai/projects/models", "/ai/projects/peers"]


def provider(node: PeerId, connectivity: Connectivity, rtt: float) -> Provider:
    return Provider(node, OfferedModel("M", Kind.CHAT), Link(connectivity, rtt))


def offering() -> FakeNode:
    fake = FakeNode()
    near, far = provider(OWN, Connectivity.CONNECTED, 0.0891214), provider(OTHER, Connectivity.NOT_CONNECTED, 0.0)
    fake.directory.offers = {"P": {"M": [near, far], "N": [far]}, "Q": {}}
    return fake


async def test_what_the_network_has() -> None:
    async with serving(offering()) as served:
        assert (await served.request("GET", "/api/v0/peers")).json == OK | {"data": sorted([OWN, OTHER])}
        assert (await served.request("POST", "/api/v0/ai/projects/list")).json == OK | {"data": ["P", "Q"]}
        reply = await served.request("POST", "/api/v0/ai/projects/models", {"project": "P"})
        assert reply.json == OK | {"data": ["M", "N"]}


async def test_any_method_asks_that_the_existing_program_takes() -> None:
    async with serving(offering()) as served:
        for path in ROUTES:
            replies = [await served.request(method, f"/api/v0{path}", {"project": "P"}) for method in ("POST", "GET")]
            assert replies[0].json["code"] == 0
            assert replies[0].json == replies[1].json


async def test_the_nearest_nodes() -> None:
    fake = offering()
    async with serving(fake) as served:
        reply = await served.request("POST", "/api/v0/ai/projects/peers?number=7", {"project": "P", "model": "M"})
        assert reply.json == OK | {
            "data": [
                {"node_id": OWN, "connectivity": 1, "latency": 89121},
                {"node_id": OTHER, "connectivity": 0, "latency": 0},
            ]
        }
        for body in ({"project": "P"}, {"project": "P", "model": None}, {"project": "P", "model": ""}):
            await served.request("POST", "/api/v0/ai/projects/peers", body)
        await served.request("POST", "/api/v0/ai/projects/peers?number=0500&number=x", {"project": "P"})
        assert fake.directory.asked == [("P", "M", 7), *[("P", None, 20)] * 3, ("P", None, 100)]


@pytest.mark.parametrize("path", ROUTES)
async def test_a_node_that_keeps_no_directory(path: str) -> None:
    fake = offering()
    fake.directory.failure = Unsupported("this node keeps no directory")
    async with serving(fake) as served:
        reply = await served.request("POST", f"/api/v0{path}", {"project": "P"})
        assert (reply.status, reply.json["code"]) == (501, 1010)


@pytest.mark.parametrize("path", ROUTES[1:])
@pytest.mark.parametrize("body", [{}, {"project": ""}, {"project": 7}, {"project": "x" * 129}, []])
async def test_a_project_has_a_name(path: str, body: object) -> None:
    async with serving(offering()) as served:
        reply = await served.request("POST", f"/api/v0{path}", body)
        assert (reply.status, reply.json["code"]) == (400, 1001)


async def test_who_would_be_asked() -> None:
    async with serving(FakeNode()) as served:
        reply = await served.request("GET", "/api/v0/debug/route?model=M&project=P")
        first = {"node_id": OTHER, "rank": 0, "seconds": 0.25, "reason": "the only one"}
        short = {"node_id": OWN, "rank": None, "seconds": 1.0, "reason": "context of 8 tokens is too short"}
        assert reply.json == OK | {"data": {"project": "P", "model": "M", "nodes": [first, short]}}
        reply = await served.request("GET", "/api/v0/debug/route?model=M&project=P&type=3")
        assert (reply.status, reply.json["message"]) == (503, "no node offers model M of project P")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "model"),
        ("project=P", "model"),
        ("model=" + "x" * 10_000, "model"),
        ("model=M&project=" + "x" * 1000, "project"),
        ("model=M&project=%00", "project"),
        ("model=M&type=4", "type"),
        ("model=M&type=-1", "type"),
    ],
)
async def test_what_is_wrong_with_a_question_of_the_way_is_named(query: str, field: str) -> None:
    async with serving(FakeNode()) as served:
        reply = await served.request("GET", f"/api/v0/debug/route?{query}")
        assert reply.status == 400
        assert reply.json["message"].startswith(f"{field}: ")
