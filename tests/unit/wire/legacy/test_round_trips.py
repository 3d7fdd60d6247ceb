"""Everything that can be said over the topic, written and read again, with the limits of its numbers and texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.hardware import Cpu, Disk, Gpu, HostInfo, Memory, OperatingSystem
from aicn.domain.ids import PeerId
from aicn.domain.nodes import NodeInfo
from aicn.domain.offers import NodeType
from aicn.domain.registration import Project
from aicn.errors import InvalidRequest, ModelFailed, ProtocolViolation, Unsupported
from aicn.wire.legacy import bodies, chat, envelope
from aicn.wire.legacy.envelope import Envelope, Type
from aicn.wire.legacy.sealing import NONCE_BYTES, TAG_BYTES, seal, unseal
from aicn.wire.pb import legacy_pb2 as pb

ALICE = PeerId("16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq")
BOB = PeerId("16Uiu2HAm5cygUrKCBxtNSMKKvgdr1saPM6XWcgnPyTvK4sdrARGL")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
contents = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40)
int32 = st.integers(-(2**31) + 1, 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
uint64 = st.integers(0, 2**64 - 1)
uint32 = st.integers(0, 2**32 - 1)
wallets = st.fixed_dictionaries({}, optional={name: texts.filter(bool) for name in ("wallet", "signature", "hash")})

envelopes = st.builds(
    Envelope,
    type=st.sampled_from(list(map(int, Type))) | int32,
    sender=st.just(ALICE),
    receiver=st.just(BOB),
    id=texts.filter(bool),
    body=st.binary(max_size=200),
    key=st.binary(max_size=64),
    code=int32,
    text=texts,
    timestamp=int64,
    client_version=st.text(st.characters(max_codepoint=127), max_size=60),
)
hosts = st.builds(
    HostInfo,
    os=st.builds(OperatingSystem, *([texts] * 6)),
    cpu=st.lists(st.builds(Cpu, texts, uint32, uint32), max_size=4).map(tuple),
    memory=st.builds(Memory, int64, int64),
    disk=st.lists(st.builds(Disk, texts, uint64, texts, texts), max_size=4).map(tuple),
    gpu=st.lists(st.builds(Gpu, texts, texts), max_size=4).map(tuple),
)
infos = st.builds(
    NodeInfo,
    peer_id=st.just(ALICE),
    protocol_version=texts,
    agent_version=texts,
    addresses=st.lists(texts, max_size=4).map(tuple),
    protocols=st.lists(texts, max_size=4).map(tuple),
)
projects = st.lists(
    st.builds(Project, names, st.lists(names, max_size=5, unique=True).map(tuple)),
    max_size=5,
    unique_by=lambda project: project.name,
)


@given(envelopes)
def test_envelopes(said: Envelope) -> None:
    assert envelope.decode(envelope.encode(said)) == said


@given(
    secret=st.binary(min_size=32, max_size=32), plain=st.binary(max_size=300), at=st.integers(0), bit=st.integers(0, 7)
)
def test_sealed_bodies(secret: bytes, plain: bytes, at: int, bit: int) -> None:
    sealed = bytearray(seal(secret, plain))
    assert len(sealed) == NONCE_BYTES + len(plain) + TAG_BYTES
    assert unseal(secret, bytes(sealed)) == plain
    sealed[at % len(sealed)] ^= 1 << bit
    for broken in (bytes(sealed), bytes(sealed[: at % len(sealed)])):
        with pytest.raises(ProtocolViolation):
            unseal(secret, broken)


@given(infos)
def test_identities(info: NodeInfo) -> None:
    assert bodies.decode_info(bodies.encode_info(info), ALICE) == info


@given(hosts)
def test_hosts(host: HostInfo) -> None:
    plain = bodies.encode_host(host)
    assert bodies.decode_host(plain) == host
    bodies.check_complete(Type.HOST_INFO, plain, code=0)


@given(projects, st.sampled_from([None, NodeType.PUBLIC | NodeType.DIRECTORY, NodeType.MODEL]))
def test_projects(offered: list[Project], node_type: NodeType | None) -> None:
    assert bodies.decode_projects(bodies.encode_projects(offered, node_type)) == (
        tuple(offered),
        node_type or NodeType(0),
    )


@given(messages=st.lists(st.tuples(names, contents), max_size=5), wallet=wallets)
def test_chats(messages: list[tuple[str, str]], wallet: dict[str, str]) -> None:
    said = [{"role": role, "content": text} for role, text in messages]
    asked = {"model": "M", "messages": said, "stream": False, **wallet}
    plain = chat.encode_chat("P", "M", json.dumps(asked).encode())
    bodies.check_complete(Type.CHAT_COMPLETION, plain, code=0)
    got = chat.decode_chat(plain)
    assert (got.project, got.model, json.loads(got.body)) == ("P", "M", asked)


@given(
    created=int64.filter(lambda number: number > -(2**63)),
    choices=st.lists(st.tuples(int32, names, contents, texts), min_size=1, max_size=4),
    usage=st.tuples(int32, int32, int32),
)
def test_answers_to_chats(created: int, choices: list[tuple[int, str, str, str]], usage: tuple[int, int, int]) -> None:
    answered = {
        "created": created,
        "choices": [
            {"index": index, "message": {"role": role, "content": text}, "finish_reason": finish}
            for index, role, text, finish in choices
        ],
        "usage": dict(zip(("completion_tokens", "prompt_tokens", "total_tokens"), usage, strict=True)),
    }
    plain, timestamp = chat.encode_chat_answer(answered)
    assert timestamp == created
    bodies.check_complete(Type.CHAT_COMPLETION, plain, code=0)
    body, finish_reason, counted = chat.decode_chat_answer(plain)
    assert json.loads(body) == answered
    assert finish_reason == choices[0][3]
    assert counted.completion_tokens == max(0, usage[0])


@given(prompt=contents, n=st.integers(1, 2**31 - 1), size=texts.filter(bool), width=int32, wallet=wallets)
def test_images(prompt: str, n: int, size: str, width: int, wallet: dict[str, str]) -> None:
    asked = {"model": "M", "prompt": prompt, "n": n, "size": size, "ipfs_node": "http://1.2.3.4:5001", **wallet}
    asked |= {"width": width} if width else {}
    plain = chat.encode_image("P", "M", json.dumps(asked).encode())
    bodies.check_complete(Type.IMAGE_GENERATION, plain, code=0)
    got = chat.decode_image(plain)
    assert (got.project, got.model, json.loads(got.body)) == ("P", "M", asked)


@given(texts, st.lists(st.tuples(texts, texts), max_size=4))
def test_answers_with_images(ipfs_node: str, choices: list[tuple[str, str]]) -> None:
    answered = {"ipfs_node": ipfs_node, "choices": [{"cid": cid, "image_name": name} for cid, name in choices]}
    assert json.loads(chat.decode_image_answer(chat.encode_image_answer(answered))) == answered


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "content", "text", "type", "message", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
MEMBERS = ("messages", "choices", "usage", "created", "wallet", "prompt", "n", "width", "ipfs_node", "size", "tools")


@given(st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=6))
def test_any_json_becomes_a_message_that_kills_nobody(members: dict[str, Any]) -> None:
    """Of clients and endpoints, with halves of characters and numbers beyond all fields."""
    body = json.dumps(members).encode()
    try:
        bodies.check_complete(Type.CHAT_COMPLETION, chat.encode_chat("P", "M", body), code=0)
    except (InvalidRequest, Unsupported):
        pass
    try:
        bodies.check_complete(Type.CHAT_COMPLETION, chat.encode_chat_answer(members)[0], code=0)
    except ModelFailed:
        pass
    bodies.check_complete(Type.IMAGE_GENERATION, chat.encode_image("P", "M", body), code=0)
    chat.encode_image_answer(members)


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{}]},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/1.png"}}]}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]},
    ],
)
def test_what_the_topic_does_not_carry(members: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="old protocol"):
        chat.encode_chat("P", "M", json.dumps(members).encode())


def test_lists_of_texts_and_halves_of_characters() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two \ud83d"}]
    plain = chat.encode_chat("P", "M", json.dumps({"messages": [{"role": "user", "content": parts}]}).encode())
    assert json.loads(chat.decode_chat(plain).body)["messages"] == [{"role": "user", "content": "one two ?"}]


def test_an_answer_with_more_than_text() -> None:
    with pytest.raises(ModelFailed, match="more than text"):
        chat.encode_chat_answer({"choices": [{"message": {"content": {"a": 1}}}]})


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        (Type.HOST_INFO, {"os", "memory"}),
        (Type.CHAT_COMPLETION, {"usage"}),
        (Type.CHAT_COMPLETION, {"wallet"}),
        (Type.IMAGE_GENERATION, {"wallet"}),
    ],
)
def test_bodies_that_kill(kind: Type, needed: set[str]) -> None:
    """A submessage is absent; or the body nests deeper than we read, but not than they do."""
    fields = {Type.HOST_INFO: pb.HostInfoBody, Type.CHAT_COMPLETION: pb.ChatCompletionBody}
    body = fields.get(kind, pb.ImageGenerationBody)()
    part = body.req if needed == {"wallet"} else body.res
    for name in needed:
        part.SetInParent()
        with pytest.raises(ProtocolViolation, match=name):
            bodies.check_complete(kind, body.SerializeToString(), code=0)
        bodies.check_complete(kind, body.SerializeToString(), code=1006)
        getattr(part, name).SetInParent()
    bodies.check_complete(kind, body.SerializeToString(), code=0)
    deep = b"\x0a\x00" + b"\xfb\x3f" * 200 + b"\xfc\x3f" * 200  # groups of field 1023
    with pytest.raises(ProtocolViolation):
        bodies.check_complete(kind, deep, code=0)
    bodies.check_complete(99, deep, code=0)
    bodies.check_complete(kind, b"", code=0)


def test_answers_with_countless_choices() -> None:
    with pytest.raises(ProtocolViolation, match="too many"):
        chat.decode_chat_answer(pb.ChatCompletionBody(res={"choices": [{}] * 1001}).SerializeToString())
    with pytest.raises(ProtocolViolation, match="too many"):
        chat.decode_image_answer(pb.ImageGenerationBody(res={"choices": [{}] * 1001}).SerializeToString())
