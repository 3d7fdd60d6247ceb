"""Offered models by project and name: finding costs what is found."""

from __future__ import annotations

from collections.abc import Iterator

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind
from aicn.domain.offers import Offer, OfferedModel

_UNTOLD = frozenset({Kind.CHAT, Kind.IMAGE_GENERATION})  # of which a model may be whose kind is not told


class OfferIndex:
    """What is in the offers that were added and not removed."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, dict[PeerId, tuple[OfferedModel, ...]]]] = {}  # project → name or alias → node
        self._projects: dict[str, dict[str, None]] = {}  # name or alias → projects that have it

    def add(self, offer: Offer) -> None:
        for project, name, models in _names(offer):
            self._nodes.setdefault(project, {}).setdefault(name, {})[offer.node] = models
            self._projects.setdefault(name, {})[project] = None

    def remove(self, offer: Offer) -> None:
        """An offer that was added."""
        for project, name, _ in _names(offer):
            names = self._nodes[project]
            del names[name][offer.node]
            if not names[name]:
                del names[name]
                del self._projects[name][project]
                if not self._projects[name]:
                    del self._projects[name]
            if not names:
                del self._nodes[project]

    def projects(self) -> list[str]:
        """Names of all projects, sorted."""
        return sorted(self._nodes)

    def models(self, project: str) -> list[str]:
        """Names of the project's models, sorted; aliases are not among them."""
        names = self._nodes.get(project, {})
        return sorted({one.name for nodes in names.values() for models in nodes.values() for one in models})

    def projects_with(self, name: str) -> list[str]:
        """Names of the projects that have a model of that name or alias, sorted."""
        return sorted(self._projects.get(name, ()))

    def meant(self, project: str, name: str, kind: Kind | None) -> list[str]:
        """What the project's models are really called that have that name or alias, sorted; a name wins over aliases."""
        found = set()
        for models in self._nodes.get(project, {}).get(name, {}).values():
            for one in models:
                if _fits(one, kind):
                    if one.name == name:
                        return [name]
                    found.add(one.name)
        return sorted(found)

    def find(self, project: str, model: str | None, kind: Kind | None) -> dict[PeerId, OfferedModel]:
        """Of each node the model of that name or alias, None: any of the project; rather one that has room."""
        names = self._nodes.get(project, {})
        found: dict[PeerId, OfferedModel] = {}
        for nodes in names.values() if model is None else (names.get(model, {}),):
            for node, models in nodes.items():
                for one in models:
                    before = found.get(node)
                    if _fits(one, kind) and (before is None or is_full(before) > is_full(one)):
                        found[node] = one
        return found


def is_full(model: OfferedModel) -> bool:
    """Whether its node said that all its places are taken."""
    return 0 < model.slots <= model.in_flight


def _fits(model: OfferedModel, kind: Kind | None) -> bool:
    return kind is None or model.kind is kind.offered or (model.kind is None and kind in _UNTOLD)


def _names(offer: Offer) -> Iterator[tuple[str, str, tuple[OfferedModel, ...]]]:
    """Project, name or alias, and the models that have it: one per kind."""
    for project in offer.projects:
        named: dict[str, list[OfferedModel]] = {}
        for model in project.models:
            for name in dict.fromkeys((model.name, *model.aliases)):
                named.setdefault(name, []).append(model)
        for name, models in named.items():
            yield project.name, name, tuple(models)
