"""Who offers which model: by the running node's directory, or asked of a node itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import httpx
import trio

from aicn.cli.client import Api, ApiError, client_options, explained, taken
from aicn.cli.loop import run

_AT_ONCE = 8  # nodes asked at the same time
_PROJECTS_OF = "/api/v0/ai/project/peer"
_DIRECTORY = "/api/v0/ai/projects"
_MOST_NODES = 100  # of one model: more are never told


@dataclass(frozen=True, slots=True)
class Offer:
    """One model of one node."""

    node: str
    project: str
    model: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a node said: its offers, or why there are none."""

    node: str
    offers: tuple[Offer, ...] = ()
    error: str = ""

    @property
    def complaint(self) -> str:
        """`error` with the node's name, unless it begins with it already."""
        return self.error if self.error.startswith(self.node) else f"{self.node}: {self.error}"


def own_id(api: Api) -> str:
    """The peer id of the running node."""
    return str(api.get("/api/v0/id")["peer_id"])


def connected(api: Api) -> list[str]:
    """The peer ids that the node is connected to, each once."""
    return list(dict.fromkeys(str(entry["peer"]) for entry in api.post("/api/v0/swarm/peers")))


def network(api: Api, *, project: str | None = None, model: str | None = None) -> Iterator[Offer]:
    """What the nodes of the network offer, the nearest node of each model first; asked for while it is read."""
    for of in [project] if project else _names(api.post(f"{_DIRECTORY}/list")):
        for name in [model] if model else _names(api.post(f"{_DIRECTORY}/models", {"project": of})):
            for near in api.post(f"{_DIRECTORY}/peers?number={_MOST_NODES}", {"project": of, "model": name}):
                yield Offer(str(near["node_id"]), of, name)


def _names(listed: Iterable[object]) -> list[str]:
    return [str(one) for one in listed]


def ask(api: Api, nodes: Sequence[str]) -> list[Asked]:
    """What each of `nodes` offers, in their order; a node that fails does not stop the others."""
    return run(partial(_ask_all, api.url, nodes))


def find(api: Api, *, node: str | None, project: str | None, model: str | None) -> Offer:
    """The offer to use: of `node` when named, else of the running node, else of the nearest; ApiError when there is none."""
    me = own_id(api)
    asked = ask(api, [node or me])
    if node and asked[0].error:
        raise ApiError(asked[0].complaint)
    offer = _first(asked, project=project, model=model)
    if offer is None and not node:
        offer = next(network(api, project=project, model=model), None)
    if offer is None:
        what = (f"model {model}" if model else "a model") + (f" of project {project}" if project else "")
        if node:
            raise ApiError(f"node {node} does not offer {what}; see: aicn models --node {node}")
        raise ApiError(f"no node of the network offers {what}; see: aicn models")
    return offer


def _first(answers: Iterable[Asked], *, project: str | None, model: str | None) -> Offer | None:
    offers = (offer for asked in answers for offer in asked.offers)
    return next((o for o in offers if project in (None, o.project) and model in (None, o.model)), None)


async def _ask_all(url: str, nodes: Sequence[str]) -> list[Asked]:
    answers: dict[str, Asked] = {}
    limit = trio.CapacityLimiter(_AT_ONCE)

    async def ask_one(client: httpx.AsyncClient, node: str) -> None:
        async with limit:
            try:
                with explained(url):
                    response = await client.post(_PROJECTS_OF, json={"node_id": node})
                answers[node] = Asked(node, _offers(node, taken(response, url)))
            except ApiError as error:
                answers[node] = Asked(node, error=error.message)

    async with httpx.AsyncClient(**client_options(url)) as client, trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(ask_one, client, node)
    return [answers[node] for node in nodes]


def _offers(node: str, projects: object) -> tuple[Offer, ...]:
    """`data` of the answer: [{"project": …, "models": [name, …]}, …]; null when there are none."""
    try:
        return tuple(Offer(node, str(p["project"]), str(m)) for p in projects or () for m in p["models"] or ())  # type: ignore[attr-defined]
    except (TypeError, KeyError):
        raise ApiError("answered something that is no list of projects") from None
