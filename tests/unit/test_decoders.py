"""Every decoder of what strangers send, with bytes that nobody meant: only its documented errors, in time and memory that the
length of the input explains.

The tests of each decoder are with its package; this is the one look at all of them. A decoder that is added belongs into the table.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.autonat.pb.autonat_pb2 import Message as AutoNat
from libp2p.kad_dht.pb.kademlia_pb2 import Message as Kad
from libp2p.peer.id import ID
from libp2p.pubsub.pb.rpc_pb2 import RPC
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from multiaddr import Multiaddr

from aicn.config import values
from aicn.config.keys import keys
from aicn.domain.hardware import Cpu, Disk, Gpu, HostInfo, Memory, OperatingSystem
from aicn.domain.ids import PeerId
from aicn.domain.inference import Accepted, Chunk, End, InferenceRequest, Kind, Usage
from aicn.domain.nodes import NodeInfo
from aicn.domain.offers import Lost, NodeType, Offer, OfferedModel, OfferedProject, OffersAsked, OffersPage
from aicn.domain.registration import Project
from aicn.errors import (
    AicnError,
    AnswerBroken,
    Busy,
    Forbidden,
    InvalidRequest,
    MalformedBody,
    ModelFailed,
    ProtocolViolation,
    TooLarge,
)
from aicn.p2p import addresses, autonat, autonat_server, dcutr, multistream, network_key, yamux
from aicn.p2p.dht import wire as dht
from aicn.p2p.psk import xsalsa20
from aicn.p2p.pubsub import messages as pubsub
from aicn.services import wallet
from aicn.wire import completion, control, failure, form, framing, images, inference, json_body, offers, sse
from aicn.wire.legacy import bodies, chat, chat_proxy, envelope, sealing
from aicn.wire.legacy.envelope import Type
from aicn.wire.openai import answers as openai_answers
from aicn.wire.openai import requests as openai
from aicn.wire.pb import failure_pb2
from aicn.wire.v0 import images as v0_images
from aicn.wire.v0 import inference as v0_inference
from aicn.wire.v0 import registration as v0_registration

MIB = 1 << 20
_MUCH = 512 << 10  # bytes of input
_SLOW_S = 3.0  # of CPU for them: ten times what the slowest needs, and half of what a quadratic one does
_TRACED = 64 << 10  # bytes of input whose memory is looked at, which slows everything down
_FACTOR = 100  # bytes of memory per byte of input: JSON's empty lists take 22


@dataclass(frozen=True)
class Decoder:
    """`decode` may raise `errors` and nothing else; `samples` are good, and are broken in small ways."""

    decode: Callable[[bytes], object]
    errors: tuple[type[Exception], ...] = ()
    samples: tuple[bytes, ...] = ()


def frames(data: bytes) -> None:
    """In pieces, as they come from a stream."""
    reader = framing.FrameReader(64 * 1024)
    for at in range(0, len(data), 777):
        reader.feed(data[at : at + 777])
        while reader.next_frame() is not None:
            pass


def events(data: bytes) -> None:
    """In pieces; and all that is asked of a stream afterwards."""
    cutter = sse.EventCutter(limit=64 * 1024)
    for at in range(0, len(data), 777):
        piece = cutter.feed(data[at : at + 777])
        list(sse.iter_data(piece))
    assert isinstance(cutter.finish_reason, str)
    assert cutter.usage is None or cutter.usage.total_tokens >= 0


def negotiation(data: bytes) -> None:
    """In pieces, until there is an agreement."""
    responder = multistream.Responder({"/noise", "/yamux/1.0.0"})
    for at in range(0, len(data), 7):
        responder.receive(data[at : at + 7])
        if responder.protocol is not None:
            return


def session(data: bytes) -> None:
    """As the dialler's bytes, in pieces."""
    listener = yamux.Session(initiator=False)
    for at in range(0, len(data), 777):
        listener.receive(data[at : at + 777])
        listener.data_to_send()


def private(data: bytes) -> None:
    """A nonce and what is enciphered with it."""
    if len(data) >= 24:
        cipher = xsalsa20(bytes(32), data[:24])
        assert len(cipher.encrypt(data[24:])) == len(data) - 24


def peer_address(data: bytes) -> None:
    """As a user's text, and as what peers send; what is dialled is ranked and asked for its parts."""
    try:
        sent = Multiaddr(data)
    except Exception:
        sent = None
    if sent is not None and addresses.diallable(sent):
        assert addresses.rank(sent) >= 0
        addresses.is_public(sent)
        addresses.without_peer(sent)
    addresses.split_peer(data.decode(errors="replace"))


def failure_frame(data: bytes) -> None:
    """Whatever a peer's failure says, it is an error of ours in one line."""
    try:
        told = failure_pb2.Failure.FromString(data)
    except Exception:
        return
    error = failure.from_failure(told)
    assert isinstance(error, AicnError)
    assert error.message.isprintable()


def any_setting(data: bytes) -> None:
    """As the value of every key: a value or a ValueError."""
    text = data.decode(errors="replace")[:10_000]
    for key in keys():
        try:
            values.from_text(key, text)
        except ValueError:
            pass


def completed(data: bytes) -> None:
    completion.parse_completion(data, Kind.CHAT, source="node x")


def asked_autonat(data: bytes) -> None:
    autonat_server._asked(data, ID(b"\x00\x01x"))


def hole_punch(data: bytes) -> None:
    dcutr._read(data, HolePunch.CONNECT)


def rpc(data: bytes) -> None:
    for message in pubsub.parse(data).publish:
        pubsub.check(message)


def signed(data: bytes) -> None:
    message = pubsub.parse_message(data)
    pubsub.topic_of(message)
    pubsub.check(message)


def kad(data: bytes) -> None:
    dht.named(dht.parse(data).closerPeers, 20)


def proxied_request(data: bytes) -> None:
    """In pieces, as they come from a stream, and its end."""
    worker = chat_proxy.Worker(body_bytes=64 * 1024)
    pieces = (data[at : at + 777] for at in range(0, len(data), 777))
    assert any(map(worker.feed, pieces)) or worker.feed(b"")


def proxied_answer(data: bytes) -> None:
    requester = chat_proxy.Requester()
    requester.request("P", "M", b"{}", stream=True)
    pieces = (data[at : at + 777] for at in range(0, len(data), 777))
    assert any(None in requester.feed(piece) for piece in pieces) or None in requester.feed(b"")


def may_pass(data: bytes) -> None:
    """As a member of the topic looks at what it passes on."""
    message = envelope.decode(data)
    bodies.check_complete(message.type, message.body, code=message.code)


def legacy_body(kind: Type) -> Callable[[bytes], object]:
    return lambda data: bodies.check_complete(kind, data, code=0)


_TCP = Multiaddr("/ip4/198.51.100.1/tcp/4001").to_bytes()
_REQUEST = InferenceRequest("id", Kind.CHAT, "P", "M", b"{}", stream=True, deadline=9.0)
_CHAT = b'{"node_id":"x","project":"P","model":"M","messages":[{"role":"user","content":"x"}],"stream":true}'
_EMBED = (
    b'{"node_id":"16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq","project":"P","model":"M","input":["x",[1,2]]}'
)
_PROOF = (
    b'{"wallet":"0x1a642f0E3c3aF545E7AcBD38b07251B3990914F1","hash":"0x5c","signature":"0x91dce71d0a6c6e6b9153d7e069e59e5337fa001957c5a0e8'
    b'5424821590931e9f55a478726bc1e697e061a8efd67a38425281108383b396b5359d6116a4ef9e631b"}'
)
_FORM = (
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nM\r\n'
    b'--B\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n'
    b'--B\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\npng\r\n--B--\r\n'
)
_IMAGE = (
    b'{"node_id":"16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq","project":"P","model":"M","prompt":"x","n":2,'
    b'"size":"1x1","width":1,"height":1,"ipfs_node":"","response_format":"url","image":"http://x/1.png"}'
)
_EVENT = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n'
_VOTE = AutoNat(type=AutoNat.DIAL_RESPONSE, dialResponse={"status": AutoNat.OK, "addr": _TCP}).SerializeToString()
_SIGNED = pubsub.Signer(create_new_key_pair()).message("topic", b"data")


def unframed(frame: bytes) -> bytes:
    reader = framing.FrameReader(MIB)
    reader.feed(frame)
    payload = reader.next_frame()
    assert payload is not None
    return payload


def told(name: str) -> Callable[[bytes], object]:
    return lambda data: control.decode_answer(control.QUESTIONS[name], data)


_OFFER = Offer(
    PeerId("x"),
    7,
    1000.0,
    1090.0,
    NodeType.MODEL,
    (OfferedProject("P", (OfferedModel("M", Kind.CHAT, 32, 1),)),),
    ("/p",),
)
_LOST = Lost(PeerId("16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq"), 7)
ASKED = {"projects": None, "node_info": None, "host_info": None, "offers": OffersAsked("a", "b")}
TOLD = {
    "projects": [Project("P", ("M", "N"))],
    "node_info": NodeInfo(PeerId("16U"), "aicn/0.0.1", "v", ("/ip4/1.2.3.4/tcp/1",), ("/ipfs/ping/1.0.0",)),
    "host_info": HostInfo(
        OperatingSystem("linux"), (Cpu("C", 1, 2),), Memory(2, 1), (Disk("SSD", 1),), (Gpu("V", "P"),)
    ),
    "offers": OffersPage((b"signed",), "a"),
}
_LEGACY = envelope.Envelope(
    int(Type.CHAT_COMPLETION),
    PeerId("16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq"),
    PeerId("16Uiu2HAm5cygUrKCBxtNSMKKvgdr1saPM6XWcgnPyTvK4sdrARGL"),
    "id",
    body=chat.encode_chat("P", "M", _CHAT),
)
_HEARTBEAT = envelope.Envelope(
    int(Type.AI_PROJECT), _LEGACY.sender, None, "", body=bodies.encode_projects(TOLD["projects"], NodeType.MODEL)
)
_LEGACY_BODIES = {
    Type.PEER_IDENTITY: (bodies.encode_info(TOLD["node_info"]),),
    Type.HOST_INFO: (bodies.encode_host(TOLD["host_info"]),),
    Type.AI_PROJECT: (_HEARTBEAT.body,),
    Type.CHAT_COMPLETION: (
        _LEGACY.body,
        chat.encode_chat(
            "P", "M", b'{"messages":[{"role":"user","content":"[{\\"type\\":\\"text\\",\\"text\\":\\"x\\"}]"}]}'
        ),
        chat.encode_chat_answer({"choices": [{"message": {"content": "x"}}], "usage": {"total_tokens": 1}})[0],
    ),
    Type.IMAGE_GENERATION: (
        chat.encode_image("P", "M", _IMAGE),
        chat.encode_image_answer({"choices": [{"cid": "Qm", "image_name": "x.png"}]}),
    ),
}

DECODERS = {
    "framing": Decoder(frames, (ProtocolViolation, TooLarge), (framing.encode_frame(b"x" * 200),)),
    "inference request": Decoder(
        lambda data: inference.decode_request(data, now=0.0),
        (ProtocolViolation, InvalidRequest),
        (unframed(inference.encode_request(_REQUEST, now=0.0)),),
    ),
    "inference answer": Decoder(
        inference.decode_answer,
        (ProtocolViolation,),
        (
            unframed(inference.encode_accepted(Accepted(3, 4))),
            unframed(inference.encode_chunk(Chunk(b"data"))),
            unframed(inference.encode_end(End("stop", Usage(1, 2, 3)))),
            unframed(inference.encode_failure(Busy("x", retry_after=1))),
        ),
    ),
    "control request": Decoder(
        control.decode_request,
        (AicnError,),
        tuple(unframed(control.encode_request(control.QUESTIONS[q], a)) for q, a in ASKED.items()),
    ),
    **{
        f"control answer, {name}": Decoder(
            told(name), (AicnError,), (unframed(control.encode_answer(question, TOLD[name])),)
        )
        for name, question in control.QUESTIONS.items()
    },
    "announcement": Decoder(
        lambda data: offers.decode(data, PeerId("x")),
        (ProtocolViolation,),
        (offers.encode_offer(_OFFER), offers.encode_lost(_LOST)),
    ),
    "failure": Decoder(failure_frame, (), (failure.to_failure(Busy("x", retry_after=2)).SerializeToString(),)),
    "events": Decoder(events, (), (_EVENT,)),
    "json body": Decoder(
        lambda data: json_body.take(data, "node_id", "project"), (MalformedBody, InvalidRequest), (_CHAT,)
    ),
    "chat": Decoder(v0_inference.decode_chat, (MalformedBody, InvalidRequest), (_CHAT,)),
    "openai chat": Decoder(openai.decode_chat, (MalformedBody, InvalidRequest), (_CHAT,)),
    "openai completion": Decoder(
        lambda data: openai.decode_completion(data).body_for("x"),
        (MalformedBody, InvalidRequest),
        (b'{"model":"P/M","prompt":["x"],"stream":true}',),
    ),
    "openai embedding": Decoder(openai.decode_embedding, (MalformedBody, InvalidRequest), (_EMBED,)),
    "openai image": Decoder(
        lambda data: openai.decode_image(data, Kind.IMAGE_EDIT).body_for("x"),
        (MalformedBody, InvalidRequest),
        (_IMAGE,),
    ),
    "openai form": Decoder(
        lambda data: openai.decode_edit_form(data, "multipart/form-data; boundary=B"),
        (MalformedBody, InvalidRequest),
        (_FORM,),
    ),
    "openai images": Decoder(
        lambda data: openai_answers.encode_images(data, source="node x"),
        (ModelFailed,),
        (b'{"created":7,"choices":[{"b64_json":"AA"},{"url":"data:,"}]}',),
    ),
    "embed": Decoder(v0_inference.decode_embed, (MalformedBody, InvalidRequest), (_EMBED,)),
    "register": Decoder(
        v0_registration.decode_register,
        (MalformedBody, InvalidRequest),
        (
            b'{"project":"p","models":[{"model":"m","api":"http://h/x","type":3,"api_key":"k","headers":{"X":"y"}}],"probe":true}',
        ),
    ),
    "wallet": Decoder(wallet.check, (Forbidden,), (_PROOF,)),
    "chat by project": Decoder(v0_inference.decode_project_chat, (MalformedBody, InvalidRequest), (_CHAT,)),
    "completion": Decoder(completed, (ModelFailed,), (b'{"choices":[{"message":{"content":"x"}}]}',)),
    "image task": Decoder(
        lambda data: images.parse_task(data, Kind.IMAGE_GENERATION), (MalformedBody, InvalidRequest), (_IMAGE,)
    ),
    "image call": Decoder(
        lambda data: v0_images.decode_image_at(data, Kind.IMAGE_EDIT), (MalformedBody, InvalidRequest), (_IMAGE,)
    ),
    "drawn images": Decoder(
        lambda data: images.decode_answer(data, source="it"),
        (ModelFailed,),
        (
            b'{"code":0,"data":[{"url":"http://x/1.png"},{"b64_json":"iVBORw0KGgo="},{"url":"data:image/png;base64,iVBO"}]}',
        ),
    ),
    "stored images": Decoder(
        lambda data: images.check_answer(data, source="it"), (ModelFailed,), (images.encode_stored("", [("Qm", "x")]),)
    ),
    "form": Decoder(
        lambda data: form.decode_form(data, "multipart/form-data; boundary=B"),
        (MalformedBody, InvalidRequest),
        (
            b'--B\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\nx\r\n--B--',
        ),
    ),
    "multistream": Decoder(negotiation, (ProtocolViolation,), (multistream.proposal("/noise"),)),
    "multistream answer": Decoder(
        lambda data: multistream.check_answer(data, "/noise"), (AicnError,), (multistream.proposal("/noise"),)
    ),
    "yamux": Decoder(
        session, (ProtocolViolation,), (yamux.HEADER.pack(0, 0, 1, 1, 4) + b"data" + yamux.HEADER.pack(0, 2, 1, 0, 7),)
    ),
    "private network": Decoder(private, (), (bytes(30),)),
    "private network key": Decoder(
        network_key.parse_network_key, (ValueError,), (b"/key/swarm/psk/1.0.0/\n/base16/\n" + b"5a" * 32 + b"\n",)
    ),
    "address": Decoder(
        peer_address,
        (InvalidRequest,),
        (_TCP, b"/ip4/1.2.3.4/tcp/1/p2p/16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq"),
    ),
    "addresses": Decoder(lambda data: addresses.read_plain([data]), (), (_TCP,)),
    "settings": Decoder(any_setting, (), (b"1", b"[1, 2]", b'{ "a" = 1 }', b"/ip4/1.2.3.4/tcp/1")),
    "DHT": Decoder(
        kad,
        (ProtocolViolation,),
        (Kad(type=Kad.FIND_NODE, key=b"k", closerPeers=[{"id": b"x", "addrs": [_TCP]}]).SerializeToString(),),
    ),
    "pubsub": Decoder(rpc, (ProtocolViolation,), (RPC(publish=[_SIGNED]).SerializeToString(),)),
    "pubsub message handed on": Decoder(signed, (ProtocolViolation,), (_SIGNED.SerializeToString(),)),
    "AutoNAT question": Decoder(
        asked_autonat,
        (ProtocolViolation,),
        (AutoNat(type=AutoNat.DIAL, dial={"peer": {"addrs": [_TCP]}}).SerializeToString(),),
    ),
    "AutoNAT answer": Decoder(
        autonat.read_vote,
        (ProtocolViolation,),
        (_VOTE,),
    ),
    "legacy message": Decoder(may_pass, (ProtocolViolation,), (envelope.encode(_LEGACY), envelope.encode(_HEARTBEAT))),
    "legacy sealed body": Decoder(
        lambda data: sealing.unseal(bytes(32), data), (ProtocolViolation,), (sealing.seal(bytes(32), b"x"),)
    ),
    **{
        f"legacy body, {kind.name}": Decoder(legacy_body(kind), (ProtocolViolation,), (b"",) + _LEGACY_BODIES[kind])
        for kind in Type
    },
    "legacy identity": Decoder(
        lambda data: bodies.decode_info(data, PeerId("x")), (ProtocolViolation,), _LEGACY_BODIES[Type.PEER_IDENTITY]
    ),
    "legacy host": Decoder(bodies.decode_host, (ProtocolViolation,), _LEGACY_BODIES[Type.HOST_INFO]),
    "legacy projects": Decoder(bodies.decode_projects, (ProtocolViolation,), _LEGACY_BODIES[Type.AI_PROJECT]),
    "legacy chat": Decoder(chat.decode_chat, (ProtocolViolation,), _LEGACY_BODIES[Type.CHAT_COMPLETION][:2]),
    "legacy chat's answer": Decoder(
        chat.decode_chat_answer, (ProtocolViolation,), _LEGACY_BODIES[Type.CHAT_COMPLETION][2:]
    ),
    "legacy image": Decoder(chat.decode_image, (ProtocolViolation,), _LEGACY_BODIES[Type.IMAGE_GENERATION][:1]),
    "legacy images": Decoder(chat.decode_image_answer, (ProtocolViolation,), _LEGACY_BODIES[Type.IMAGE_GENERATION][1:]),
    "chat-proxy request": Decoder(
        proxied_request,
        (ProtocolViolation, TooLarge),
        (chat_proxy.Requester().request("P", "M", _CHAT, stream=True),),
    ),
    "chat-proxy answer": Decoder(
        proxied_answer,
        (ProtocolViolation, AnswerBroken),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n0\r\n\r\n",
            b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}",
        ),
    ),
    "hole punching": Decoder(
        hole_punch, (ProtocolViolation,), (HolePunch(type=HolePunch.CONNECT, ObsAddrs=[_TCP]).SerializeToString(),)
    ),
}
EACH = pytest.mark.parametrize("name", DECODERS)


@st.composite
def damaged(draw: st.DrawFn, samples: tuple[bytes, ...]) -> bytes:
    """A good sample with a few bytes changed, cut, doubled or put in."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = bytes((draw(st.integers(0, 255)),))
            case 1:
                del data[at : at + draw(st.integers(1, 8))]
            case 2:
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
            case _:
                data[at:at] = draw(st.binary(max_size=12))
    return bytes(data)


def meets(decoder: Decoder, data: bytes) -> None:
    try:
        decoder.decode(data)
    except decoder.errors:
        pass


@EACH
@settings(max_examples=100)
@given(st.data())
def test_junk_and_damage_raise_nothing_undocumented(name: str, data: st.DataObject) -> None:
    decoder = DECODERS[name]
    meets(decoder, data.draw(st.binary(max_size=600) | damaged(decoder.samples)))


@EACH
def test_good_samples_are_taken(name: str) -> None:
    decoder = DECODERS[name]
    for sample in decoder.samples:
        try:
            decoder.decode(sample)
        except InvalidRequest:
            assert name in ("address", "chat")  # two forms of one, and a peer id of nobody


HUGE = {
    "zeros": b"\0",
    "ones": b"\xff",
    "brackets": b"[",
    "objects": b'{"a":',
    "empty lists": b"[],",
    "quotes": b'"',
    "backslashes": b"\\",
    "newlines": b"\n",
    "returns": b"\r",
    "spaces": b" ",
    "slashes": b"/",
    "data lines": b"data: \n",
    "usage": b'"usage" : ',
    "finish": b'"finish_reason"',
    "fields": b"\x0a\x00",
    "nested": b"\x0a\x7f",
    "groups": b"\x0b",
    "choices": b"\x12\x00",
    "parts": b'[{"type":"text","text":"x"},',
    "chunks": b"1\r\nx\r\n",
    "headers": b"a: b\r\n",
    "pings": yamux.HEADER.pack(0, 2, 1, 0, 1),
    "streams": yamux.HEADER.pack(0, 1, 1, 1, 0),
}


@EACH
@pytest.mark.parametrize("what", HUGE)
def test_much_costs_what_its_length_explains(name: str, what: str) -> None:
    unit, decoder = HUGE[what], DECODERS[name]
    began = time.thread_time()
    meets(decoder, unit * (_MUCH // len(unit)))
    assert time.thread_time() - began < _SLOW_S
    tracemalloc.start()
    try:
        meets(decoder, unit * (_TRACED // len(unit)))
        assert tracemalloc.get_traced_memory()[1] < _FACTOR * _TRACED
    finally:
        tracemalloc.stop()
