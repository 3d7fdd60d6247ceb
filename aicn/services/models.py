"""Models as clients name them, over all projects of the network.

A model is named `model` where one project has a model (or an alias) of that name, and `project/model` always. Both names may hold
slashes themselves: what can be read as `project/model` is, the shortest project first, so that every model can be named whatever
others call theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind
from aicn.domain.names import LONGEST_NAME
from aicn.domain.offers import ListedModel, OfferedModel
from aicn.errors import InvalidRequest, UnknownModel
from aicn.services.catalog import MOST_OFFERS, Catalog

LONGEST_ID = 2 * LONGEST_NAME + 1  # characters: project/model
_CHOICES_TOLD = 10  # names in one message
_AT_A_TIME = 500  # models looked at before others have their turn: 2 ms


class ModelName(NamedTuple):
    """A model of a project, by its own name."""

    project: str
    model: str

    @property
    def full(self) -> str:
        return f"{self.project}/{self.model}"


class Models:
    """What names mean, by what the catalog holds now; this node's own models are in it."""

    def __init__(self, catalog: Catalog, *, since: float) -> None:
        self._catalog = catalog
        self._since = int(since)  # Unix time

    def resolve(self, text: str, kind: Kind) -> ModelName:
        """The model that `text` names. UnknownModel: nobody offers it for `kind`; InvalidRequest: several projects have it."""
        found = self._find(text, kind)
        if not found and self._find(text, None):
            what = kind.name.lower().replace("_", " ")
            raise UnknownModel(f"model: {text!r} is not one for {what} requests")
        return _the_one(found, text)

    async def listed(self) -> Sequence[ListedModel]:
        """All models of the network, by project and name."""
        return await self._merge(self._catalog.nodes())

    async def describe(self, text: str) -> ListedModel:
        """The model that `text` names, whatever it does. UnknownModel, InvalidRequest as `resolve`."""
        name = _the_one(self._find(text, None), text)
        providers = self._catalog.providers(*name, most=MOST_OFFERS)
        listed = await self._merge((provider.node for provider in providers), name)
        if not listed:  # gone meanwhile
            raise _nobody(text)
        return listed[0]

    def _find(self, text: str, kind: Kind | None) -> list[ModelName]:
        if len(text) > LONGEST_ID:
            return []
        for project, model in _splits(text):
            if names := self._catalog.meant(project, model, kind):
                return [ModelName(project, name) for name in names]
        return [
            ModelName(project, name)
            for project in self._catalog.projects_with(text)
            for name in self._catalog.meant(project, text, kind)
        ]

    async def _merge(self, nodes: Iterable[PeerId], only: ModelName | None = None) -> list[ListedModel]:
        merged: dict[ModelName, _Sum] = {}
        seen = 0
        for node in nodes:
            offer = self._catalog.offer(node)
            for project in offer.projects if offer is not None else ():
                for model in project.models:
                    name = ModelName(project.name, model.name)
                    if only is None or name == only:
                        merged.setdefault(name, _Sum()).add(node, model)
                    seen += 1
                    if seen % _AT_A_TIME == 0:
                        await trio.lowlevel.checkpoint()
        listed = []
        for name in sorted(merged):
            listed.append(merged[name].listed(self._id(name), name, self._since))
            if len(listed) % _AT_A_TIME == 0:
                await trio.lowlevel.checkpoint()
        return listed

    def _id(self, name: ModelName) -> str:
        return name.model if self._find(name.model, None) == [name] else name.full


@dataclass(slots=True)
class _Sum:
    """What the nodes say of one model."""

    kinds: set[Kind] = field(default_factory=set)
    nodes: set[PeerId] = field(default_factory=set)
    aliases: set[str] = field(default_factory=set)
    slots: int = 0
    in_flight: int = 0
    context: int = 0

    def add(self, node: PeerId, model: OfferedModel) -> None:
        if model.kind is not None:
            self.kinds.add(model.kind)
        self.nodes.add(node)
        self.aliases.update(model.aliases)
        self.slots += model.slots
        self.in_flight += model.in_flight
        self.context = max(self.context, model.context)

    def listed(self, shown: str, name: ModelName, since: int) -> ListedModel:
        return ListedModel(
            id=shown,
            project=name.project,
            name=name.model,
            kinds=tuple(sorted(self.kinds, key=lambda kind: kind.value)),
            nodes=len(self.nodes),
            slots=self.slots,
            in_flight=self.in_flight,
            context=self.context,
            aliases=tuple(sorted(self.aliases)),
            since=since,
        )


def _splits(text: str) -> Iterator[tuple[str, str]]:
    """The ways to read `text` as project and model."""
    at = text.find("/")
    while at >= 0:
        yield text[:at], text[at + 1 :]
        at = text.find("/", at + 1)


def _the_one(found: Sequence[ModelName], text: str) -> ModelName:
    if len(found) == 1:
        return found[0]
    if not found:
        raise _nobody(text)
    choices = ", ".join(one.full for one in found[:_CHOICES_TOLD])
    more = f" and {len(found) - _CHOICES_TOLD} more" if len(found) > _CHOICES_TOLD else ""
    raise InvalidRequest(f"model: {text!r} is several models; name one of {choices}{more}")


def _nobody(text: str) -> UnknownModel:
    return UnknownModel(f"model: nobody offers {text[:LONGEST_ID]!r}")
