"""The offers topic: announcements as they travel (proto/offers.proto, docs/wire.md). Decoded here is what strangers say."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from aicn.domain.ids import PeerId, parse_peer_id
from aicn.domain.inference import Kind
from aicn.domain.names import is_name
from aicn.domain.offers import (
    LONGEST_LIFE_S,
    Lost,
    NodeType,
    Offer,
    OfferedModel,
    OfferedProject,
    OffersAsked,
    OffersPage,
)
from aicn.errors import InvalidRequest, ProtocolViolation
from aicn.wire.pb import control_pb2, inference_pb2
from aicn.wire.pb import offers_pb2 as pb

OFFER_BYTES = 128 * 1024  # largest announcement: a thousand models with long names
MOST_PROJECTS = 300  # of one node, which may register 256
MOST_MODELS = 1024  # of one node, over all projects; it may register 1000
PAGE_BYTES = 512 * 1024  # of signed offers in one answer; several of the largest
_MOST_IN_PAGE = 8192  # an empty offer in its envelope has 160 bytes, so that a page of ours holds fewer
_LONGEST_ID = 64  # characters of a peer id
_MOST_ALIASES = 16  # of one model
_MOST_PROTOCOLS = 32
_LONGEST_PROTOCOL = 128  # characters
_LATEST_MS = 2**53  # Unix time; exact as a float
_KINDS = {kind.value: kind for kind in Kind if kind is kind.offered}


def topic(network: str) -> str:
    """The offers topic of the network whose own topic is `network`."""
    return f"{network}/offers/1"


def encode_offer(offer: Offer) -> bytes:
    """An Announcement. Its caller keeps the limits, see `fit`."""
    message = pb.Offer(
        seq=offer.seq,
        issued_ms=round(offer.issued * 1000),
        expires_ms=round(offer.expires * 1000),
        node_type=offer.node_type,
        projects=[pb.OfferedProject(name=one.name, models=map(_model, one.models)) for one in offer.projects],
        protocols=offer.protocols,
        leaving=offer.leaving,
    )
    return pb.Announcement(offer=message).SerializeToString()


def encode_lost(lost: Lost) -> bytes:
    """An Announcement."""
    return pb.Announcement(lost=pb.Lost(node_id=lost.node, seq=lost.seq)).SerializeToString()


def _model(model: OfferedModel) -> pb.OfferedModel:
    assert model.kind is not None, "a node knows its own models"
    return pb.OfferedModel(
        name=model.name,
        kind=inference_pb2.Kind.Name(model.kind.value),
        slots=model.slots,
        in_flight=model.in_flight,
        context=model.context,
        aliases=model.aliases,
    )


def fit(projects: Sequence[OfferedProject], *, spare: int) -> tuple[OfferedProject, ...]:
    """As many of `projects`, in their order, as one announcement holds beside `spare` bytes of other fields.

    What others would not take for a name is left out: it would cost the whole announcement.
    """
    room, models = OFFER_BYTES - spare, MOST_MODELS
    fitting: list[OfferedProject] = []
    for project in projects[:MOST_PROJECTS]:
        room -= len(project.name.encode()) + 16  # tags and lengths
        kept: list[OfferedModel] = []
        if not is_name(project.name):
            continue
        for model in filter(lambda one: is_name(one.name), project.models):
            room -= _model(model).ByteSize() + 8
            models -= 1
            if room < 0 or models < 0:
                break
            kept.append(model)
        if kept:
            fitting.append(OfferedProject(project.name, tuple(kept)))
        if room < 0 or models < 0:
            break
    return tuple(fitting)


def decode(data: bytes, sender: PeerId) -> Offer | Lost:
    """What `sender` has announced. ProtocolViolation for what is no announcement or over a limit.

    Kinds of models that this version does not know are left out.
    """
    if len(data) > OFFER_BYTES:
        raise ProtocolViolation(f"an announcement of {len(data)} bytes; at most {OFFER_BYTES} are taken")
    try:
        message = pb.Announcement.FromString(data)
    except DecodeError:
        raise ProtocolViolation("no announcement") from None
    match message.WhichOneof("announcement"):
        case "offer":
            return _offer(message.offer, sender)
        case "lost":
            return _lost(message.lost)
        case _:
            raise ProtocolViolation("an announcement is empty")


def _offer(message: pb.Offer, sender: PeerId) -> Offer:
    issued, expires = message.issued_ms, message.expires_ms
    _check(message.seq > 0, "offer: no seq")
    _check(issued < expires < _LATEST_MS, "offer: it expires before it was issued, or never")
    _check(expires - issued <= LONGEST_LIFE_S * 1000, f"offer: it lives longer than {LONGEST_LIFE_S:g} s")
    _check(len(message.projects) <= MOST_PROJECTS, f"offer: more than {MOST_PROJECTS} projects")
    _check(sum(len(one.models) for one in message.projects) <= MOST_MODELS, f"offer: more than {MOST_MODELS} models")
    _check(len(message.protocols) <= _MOST_PROTOCOLS, f"offer: more than {_MOST_PROTOCOLS} protocols")
    _check(all(0 < len(one) <= _LONGEST_PROTOCOL for one in message.protocols), "offer: a protocol is no name")
    projects = tuple(OfferedProject(_name(one.name), _models(one.models)) for one in message.projects)
    _check(len({one.name for one in projects}) == len(projects), "offer: a project is there twice")
    return Offer(
        node=sender,
        seq=message.seq,
        issued=issued / 1000,
        expires=expires / 1000,
        node_type=NodeType(message.node_type & _KNOWN_TYPES),
        projects=projects,
        protocols=tuple(message.protocols),
        leaving=message.leaving,
    )


_KNOWN_TYPES = int(NodeType.PUBLIC | NodeType.DIRECTORY | NodeType.MODEL)


def _models(messages: Sequence[pb.OfferedModel]) -> tuple[OfferedModel, ...]:
    models = []
    for one in messages:
        _check(len(one.aliases) <= _MOST_ALIASES, f"offer: a model has more than {_MOST_ALIASES} aliases")
        name, aliases = _name(one.name), tuple(map(_name, one.aliases))
        kind = _KINDS.get(one.kind)
        if kind is not None:
            models.append(OfferedModel(name, kind, one.slots, one.in_flight, one.context, aliases))
    _check(len({(one.name, one.kind) for one in models}) == len(models), "offer: a model is there twice")
    return tuple(models)


def _lost(message: pb.Lost) -> Lost:
    _check(message.seq > 0, "lost: no seq")
    try:
        return Lost(parse_peer_id(message.node_id), message.seq)
    except InvalidRequest as error:
        raise ProtocolViolation(f"lost: {error.message}") from None


def _name(text: str) -> str:
    _check(is_name(text), "offer: a project, a model or an alias is no name")
    return text


# ---- the question for offers (proto/control.proto) ----


def from_asked(asked: OffersAsked) -> control_pb2.OffersRequest:
    return control_pb2.OffersRequest(after=asked.after, only=asked.only)


def to_asked(message: control_pb2.OffersRequest) -> OffersAsked:
    _check(len(message.after) <= _LONGEST_ID and len(message.only) <= _LONGEST_ID, "offers: a node id is too long")
    return OffersAsked(message.after, message.only)


def from_page(page: OffersPage) -> control_pb2.Offers:
    return control_pb2.Offers(signed=page.signed, more_after=page.more_after)


def to_page(message: control_pb2.Offers) -> OffersPage:
    """The offers are not looked at: they are worth what their signatures are."""
    _check(len(message.signed) <= _MOST_IN_PAGE, f"offers: more than {_MOST_IN_PAGE} at once")
    _check(len(message.more_after) <= _LONGEST_ID, "offers: a node id is too long")
    return OffersPage(tuple(message.signed), message.more_after)


def _check(good: bool, complaint: str) -> None:
    if not good:
        raise ProtocolViolation(complaint)
