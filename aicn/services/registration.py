"""The projects and models of this node: durable ones by the API, and the one that the node runs itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from aicn.domain.inference import Kind
from aicn.domain.registration import Endpoint, Project, for_kind
from aicn.errors import InvalidRequest, UnknownModel
from aicn.services.ports import RegistrationStore

MOST_PROJECTS = 256
MOST_ENDPOINTS = 1000  # of all projects: they travel in one offer, which must stay far below pubsub's 1 MiB


class Registration:
    """Reads come from memory; a change is on disk before it is seen."""

    def __init__(self, store: RegistrationStore) -> None:
        self._store = store
        self._changing = trio.Lock()  # memory follows the disk in the same order
        self._projects: dict[str, tuple[Endpoint, ...]] = {}
        self._own: Endpoint | None = None  # the embedded model, while it runs
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call `tell` after each change of what `projects` answers, once it is durable. `tell` neither waits nor raises."""
        self._listeners.append(tell)

    def _changed(self) -> None:
        for tell in self._listeners:
            tell()

    async def load(self) -> None:
        """What an earlier run of the node left."""
        projects: dict[str, list[Endpoint]] = {}
        for endpoint in await self._store.load():
            projects.setdefault(endpoint.project, []).append(endpoint)
        self._projects = {name: tuple(endpoints) for name, endpoints in projects.items()}

    async def register(self, project: str, endpoints: Sequence[Endpoint]) -> None:
        """The project has exactly these endpoints from now on, each once.

        InvalidRequest when the node would have too many; StorageError: nothing changed.
        """
        wanted = tuple(dict.fromkeys(endpoints))
        async with self._changing:
            others = [had for name, had in self._projects.items() if name != project]
            if len(others) >= MOST_PROJECTS:
                raise InvalidRequest(f"project: the node has {MOST_PROJECTS} already; unregister one")
            room = MOST_ENDPOINTS - sum(map(len, others))
            if len(wanted) > room:
                raise InvalidRequest(
                    f"models: {len(wanted)}, and the node has room for {room} more beside other projects"
                )
            await self._store.replace_project(project, wanted)
            self._projects[project] = wanted
            self._changed()

    async def unregister(self, project: str, model: str | None = None) -> bool:
        """Drop the project, or one model of it; False when there was none."""
        async with self._changing:
            had = self._projects.get(project, ())
            kept = tuple(endpoint for endpoint in had if model is not None and endpoint.model != model)
            if len(kept) == len(had):
                if self._own is not None and self._own.project == project and model in (None, self._own.model):
                    raise InvalidRequest("project: the node runs this model itself; set local_model.enabled = false")
                return False
            await self._store.replace_project(project, kept)
            if kept:
                self._projects[project] = kept
            else:
                del self._projects[project]
            self._changed()
            return True

    def set_own(self, endpoint: Endpoint | None) -> None:
        """The embedded model has come up (at a new port, perhaps) or is down."""
        self._own = endpoint
        self._changed()

    def endpoints(self) -> list[Endpoint]:
        """All of them, project by project."""
        own = () if self._own is None else (self._own,)
        return [*(endpoint for of_project in self._projects.values() for endpoint in of_project), *own]

    def projects(self) -> list[Project]:
        """By name; each model once."""
        names = {name: [endpoint.model for endpoint in endpoints] for name, endpoints in self._projects.items()}
        if self._own is not None:
            names.setdefault(self._own.project, []).append(self._own.model)
        return [Project(name, tuple(dict.fromkeys(models))) for name, models in sorted(names.items())]

    def find(self, kind: Kind, project: str, model: str) -> Sequence[Endpoint]:
        """The endpoints of the model, at least one, with the URLs for this kind of request. UnknownModel."""
        registered = self._projects.get(project, ())
        if self._own is not None and self._own.project == project:
            registered = (*registered, self._own)
        named = [endpoint for endpoint in registered if endpoint.model == model]
        fitting = [endpoint for one in named if (endpoint := for_kind(one, kind)) is not None]
        if not fitting:
            if named:
                what = f"model {model!r} of project {project!r} is not one for {kind.name.lower()} requests"
                if any(for_kind(one, kind.offered) for one in named):
                    what += ": its endpoint's URL does not end in /chat/completions"
            elif registered:
                what = f"project {project!r} of the node has no model {model!r}"
            else:
                what = f"the node has no project {project!r}"
            raise UnknownModel(what)
        return fitting
