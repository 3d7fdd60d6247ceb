"""Names of models: every model can be named, and no name means two."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import ListedModel, NodeType, Offer, OfferedModel, OfferedProject
from aicn.errors import InvalidRequest, UnknownModel
from aicn.services.catalog import Catalog
from aicn.services.models import LONGEST_ID, ModelName, Models

OWN = PeerId("own")


class World:
    """Models over what nodes offer."""

    def __init__(self) -> None:
        self.catalog = Catalog(OWN, lambda _: Link(Connectivity.CONNECTED, 0.0), clock=lambda: 1000.0)
        self.models = Models(self.catalog, since=500.7)
        self._seq = 0

    def offer(self, node: str, **projects: list[OfferedModel | str]) -> None:
        self._seq += 1
        offered = tuple(
            OfferedProject(
                name.replace("__", "/"), tuple(m if isinstance(m, OfferedModel) else chat(m) for m in models)
            )
            for name, models in projects.items()
        )
        offer = Offer(PeerId(node), self._seq, 1000.0, 1090.0, NodeType.MODEL, offered)
        if node == OWN:
            self.catalog.set_own(offer, b"")
        else:
            assert self.catalog.take(offer)

    def meant(self, text: str, kind: Kind = Kind.CHAT) -> tuple[str, str] | str:
        """The model, or the words that refuse."""
        try:
            return tuple(self.models.resolve(text, kind))  # type: ignore[return-value]
        except (InvalidRequest, UnknownModel) as error:
            return f"{type(error).__name__}: {error.message}"


def chat(name: str, **more: Any) -> OfferedModel:
    return OfferedModel(name, Kind.CHAT, **more)


def test_alone_with_its_project_and_by_alias() -> None:
    world = World()
    world.offer("a", P=["M", chat("N", aliases=("latest", "M2"))], lab=["org/model"])
    assert world.meant("M") == world.meant("P/M") == ("P", "M")
    assert world.meant("latest") == world.meant("P/latest") == world.meant("N") == ("P", "N")
    assert world.meant("org/model") == world.meant("lab/org/model") == ("lab", "org/model")
    for unknown in ("m", "P", "P/", "/M", "Q/M", "", "/", "org/model/", "x" * 10_000, "/" * 10_000):
        assert world.meant(unknown) == f"UnknownModel: model: nobody offers {unknown[:LONGEST_ID]!r}"


def test_own_models_count() -> None:
    world = World()
    world.offer("own", local=["tiny"])
    assert world.meant("tiny") == ("local", "tiny")


def test_a_name_of_two_projects_needs_one_of_them() -> None:
    world = World()
    world.offer("a", P=["M"], Q=[chat("N", aliases=("M",))])
    assert world.meant("M") == "InvalidRequest: model: 'M' is several models; name one of P/M, Q/N"
    assert (world.meant("P/M"), world.meant("Q/M")) == (("P", "M"), ("Q", "N"))
    world.offer("a", P=["M"])
    assert world.meant("M") == ("P", "M")
    world.offer("a", **{f"P{number:02}": ["M"] for number in range(12)})
    assert str(world.meant("M")).endswith("P09/M and 2 more")


def test_a_project_that_does_something_else_by_that_name_does_not_matter() -> None:
    world = World()
    world.offer("a", P=["M"], Q=[OfferedModel("M", Kind.EMBEDDING)])
    assert world.meant("M") == world.meant("M", Kind.COMPLETION) == ("P", "M")
    assert world.meant("M", Kind.EMBEDDING) == ("Q", "M")
    assert world.meant("M", Kind.IMAGE_EDIT) == "UnknownModel: model: 'M' is not one for image edit requests"
    assert world.meant("Q/M") == "UnknownModel: model: 'Q/M' is not one for chat requests"


def test_a_model_of_which_only_the_name_is_known() -> None:
    world = World()
    world.offer("a", P=[OfferedModel("M", None)])
    assert world.meant("M") == world.meant("M", Kind.IMAGE_GENERATION) == ("P", "M")
    assert str(world.meant("M", Kind.EMBEDDING)).endswith("is not one for embedding requests")


def test_an_alias_of_two_models_of_a_project() -> None:
    world = World()
    world.offer("a", P=[chat("M1", aliases=("latest",))])
    world.offer("b", P=[chat("M2", aliases=("latest",))])
    assert world.meant("latest") == "InvalidRequest: model: 'latest' is several models; name one of P/M1, P/M2"
    world.offer("c", P=["latest"])
    assert world.meant("latest") == ("P", "latest")  # a name wins over aliases


def test_what_can_be_read_as_project_and_model_is() -> None:
    world = World()
    world.offer("a", X=["meta/llama"], meta=["llama"], X__meta=["llama"])
    assert world.meant("meta/llama") == ("meta", "llama")
    assert world.meant("X/meta/llama") == ("X", "meta/llama")  # the shortest project


async def test_the_list_sums_up_what_nodes_say() -> None:
    world = World()
    world.offer("b", P=[chat("M", slots=4, in_flight=1, context=8192, aliases=("m",))], A=["Z"])
    world.offer(
        "a", P=[chat("M", slots=2, context=4096), OfferedModel("M", Kind.EMBEDDING, 3), OfferedModel("X", None)]
    )
    world.offer("c", Q=["M"])
    m = ListedModel("P/M", "P", "M", (Kind.CHAT, Kind.EMBEDDING), 2, 9, 1, 8192, ("m",), 500)
    assert await world.models.listed() == [
        ListedModel("Z", "A", "Z", (Kind.CHAT,), 1, 0, 0, 0, (), 500),
        m,
        ListedModel("X", "P", "X", (), 1, 0, 0, 0, (), 500),
        ListedModel("Q/M", "Q", "M", (Kind.CHAT,), 1, 0, 0, 0, (), 500),
    ]
    assert await world.models.describe("P/M") == await world.models.describe("m") == m
    with pytest.raises(InvalidRequest, match="several"):
        await world.models.describe("M")
    with pytest.raises(UnknownModel):
        await world.models.describe("x")


async def test_many_nodes() -> None:
    world = World()
    for number in range(250):
        world.offer(f"node {number:03}", P=["M", f"own {number:03}"])
    listed = await world.models.listed()
    assert (len(listed), listed[0].nodes) == (251, 250)
    assert (await world.models.describe("M")).nodes == 250


names = st.sampled_from(["a", "b", "a/b", "b/a", "a/b/a"])
offered = st.dictionaries(names, st.lists(names, min_size=1, max_size=3, unique=True), max_size=4)


@settings(max_examples=200)
@given(st.lists(offered, max_size=3))
async def test_every_listed_name_names_that_model(nodes: list[dict[str, list[str]]]) -> None:
    """But where two ways to read a full name are both models: only one of them can have it."""
    world = World()
    for number, projects in enumerate(nodes):
        world.offer(f"node {number}", **{name.replace("/", "__"): models for name, models in projects.items()})  # type: ignore[arg-type]
    listed = await world.models.listed()
    there = {
        ModelName(project, model) for projects in nodes for project, models in projects.items() for model in models
    }
    assert [(one.project, one.name) for one in listed] == sorted(there)
    for one in listed:
        found = world.models.resolve(one.id, Kind.CHAT)
        assert found == (one.project, one.name) or (found in there and found.full == f"{one.project}/{one.name}")
