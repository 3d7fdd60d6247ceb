"""The shapes of the v0 HTTP API (spec 1), request and answer, as pure functions.

Decoders take the bytes of a body and raise MalformedBody when they are no JSON, InvalidRequest naming the field (such as
`models[1].api`) when it is the wrong JSON. Unknown members are ignored; in a chat they go on to the model. Encoders give bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aicn.domain.ids import PeerId, parse_peer_id
from aicn.domain.nodes import Connection, NodeInfo
from aicn.domain.registration import KIND_OF_TYPE, Endpoint, Project, check_url
from aicn.errors import InvalidRequest
from aicn.wire.json_body import take

LONGEST_NAME = 128  # characters of a project or model name; they travel in every offer
LONGEST_ADDRESS = 1024  # characters of a multiaddr; a real one with relay and peer ids has under 300
MOST_MODELS = 1000  # of one project: an offer must stay far below pubsub's 1 MiB


@dataclass(frozen=True, slots=True)
class Chat:
    """`POST /chat/completion`."""

    node_id: PeerId
    project: str
    model: str
    stream: bool
    body: bytes  # as sent, less `node_id` and `project`


def decode_chat(body: bytes) -> Chat:
    """A chat request. What is inside a message, and every parameter that does not route, is the model's business."""
    members, rest = take(body, "node_id", "project")
    messages = members.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages: a list of at least one message is needed")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequest(f"messages[{i}]: an object is needed")
    stream = members.get("stream")
    if not isinstance(stream, bool | None):
        raise InvalidRequest("stream: true or false is needed")
    return Chat(
        node_id=parse_peer_id(members.get("node_id")),
        project=_name(members, "project"),
        model=_name(members, "model"),
        stream=bool(stream),
        body=rest,
    )


def decode_node_id(body: bytes) -> PeerId:
    """`POST /ai/project/peer`: whom to ask."""
    return parse_peer_id(take(body)[0].get("node_id"))


def decode_address(body: bytes) -> str:
    """`POST /swarm/connect`: a multiaddr, parsed by whoever dials it."""
    address = take(body)[0].get("node_addr")
    if not isinstance(address, str) or not 0 < len(address) <= LONGEST_ADDRESS:
        raise InvalidRequest("node_addr: a multiaddr is needed, such as /ip4/10.0.20.43/tcp/6001/p2p/16Uiu2HAm…")
    return address


def decode_register(body: bytes) -> tuple[str, tuple[Endpoint, ...]]:
    """`POST /ai/project/register`: the project and its endpoints, the same one given twice only once."""
    members, _ = take(body)
    project = _name(members, "project")
    models = members.get("models")
    if not isinstance(models, list) or not 0 < len(models) <= MOST_MODELS:
        raise InvalidRequest(f"models: a list of 1 to {MOST_MODELS} models is needed")
    return project, tuple(dict.fromkeys(_endpoint(project, item, f"models[{i}]") for i, item in enumerate(models)))


def decode_unregister(body: bytes) -> tuple[str, str | None]:
    """`POST /ai/project/unregister`: the project, and the one model of it if only that is meant."""
    members, _ = take(body)
    project = _name(members, "project")
    return project, _name(members, "model") if members.get("model") is not None else None


def _endpoint(project: str, item: object, where: str) -> Endpoint:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{where}: an object with model and api is needed")
    kind = item.get("type")
    if kind is None:
        kind = 0
    if type(kind) is not int or kind not in KIND_OF_TYPE:  # `type`: True is an int, too
        raise InvalidRequest(f"{where}.type: 0 (text), 1 (text to image) or 2 (image to image) is needed")
    return Endpoint(
        project=project, model=_name(item, "model", where + "."), url=_url(item.get("api"), where + ".api"), type=kind
    )


def _name(members: dict[str, Any], key: str, where: str = "") -> str:
    name = members.get(key)
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where}{key}: a name is needed")
    if len(name) > LONGEST_NAME:
        raise InvalidRequest(f"{where}{key}: {len(name)} characters; at most {LONGEST_NAME} are allowed")
    if not name.isprintable() or name != name.strip():
        raise InvalidRequest(f"{where}{key}: control characters and spaces at its ends are not allowed")
    return name


def _url(url: object, where: str) -> str:
    try:
        check_url(url)
    except InvalidRequest as error:
        raise InvalidRequest(where + error.message.removeprefix("url")) from None
    assert isinstance(url, str)  # check_url saw to it
    return url


# ------------------------------------------------------------------------------------------------------------ answers


def encode_json(value: object) -> bytes:
    """Compact UTF-8 JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def encode_ok(message: str = "ok") -> bytes:
    """The answer of a call that has nothing to tell."""
    return encode_json({"code": 0, "message": message})


def encode_data(data: object) -> bytes:
    """The success envelope around a value."""
    return wrap_data(encode_json(data))


def wrap_data(data: bytes) -> bytes:
    """The success envelope around JSON text, which is not touched."""
    return b'{"code":0,"message":"ok","data":' + data + b"}"


def encode_error(code: int, message: str) -> bytes:
    """The body of a failure; `code` is a number of spec 1."""
    return encode_json({"code": code, "message": message})


def encode_error_event(code: int, message: str) -> bytes:
    """The SSE event that ends a broken answer; `error` is where OpenAI clients look for it."""
    data = encode_json({"code": code, "message": message, "error": {"message": message, "code": code}})
    return b"event: error\ndata: " + data + b"\n\n"


def encode_info(info: NodeInfo) -> dict[str, object]:
    """PeerInfo of `/id`."""
    return {
        "peer_id": info.peer_id,
        "protocol_version": info.protocol_version,
        "agent_version": info.agent_version,
        "addresses": list(info.addresses),
        "protocols": list(info.protocols),
    }


def encode_projects(projects: Iterable[Project]) -> list[dict[str, object]]:
    """`data` of `/ai/project/peer`."""
    return [{"project": project.name, "models": list(project.models)} for project in projects]


def encode_connections(connections: Sequence[Connection]) -> list[dict[str, object]]:
    """`/swarm/peers`."""
    return [
        {
            "id": f"{connection.peer[:10]}-{connection.number}",  # go-libp2p's name of a connection
            "peer": connection.peer,
            "addr": connection.address,
            "latency": go_duration(connection.rtt),
            "direction": connection.direction,
        }
        for connection in connections
    ]


def go_duration(seconds: float) -> str:
    """`seconds` (>= 0) as Go prints a time.Duration: "0s", "208.878448ms", "1.5s", "2m0.25s"."""
    ns = round(seconds * 1e9)
    if ns == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if ns < size * 1000:
            return f"{_decimal(ns, size)}{unit}"
    minutes, rest = divmod(ns, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 10**9)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)
