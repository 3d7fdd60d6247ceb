"""The captured messages of the existing network, byte for byte in both directions (tests/vectors/legacy)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aicn.domain.ids import PeerId
from aicn.domain.offers import NodeType
from aicn.p2p.identity import parse_key, public_key_in
from aicn.wire.completion import parse_object
from aicn.wire.legacy import bodies, chat, envelope
from aicn.wire.legacy.envelope import Type
from aicn.wire.legacy.sealing import seal, unseal

VECTORS = Path(__file__).parents[3] / "vectors" / "legacy"
CAPTURED = json.loads((VECTORS / "messages.json").read_text())
SEALED = json.loads((VECTORS / "encryption.json").read_text())
OURS = parse_key(CAPTURED["receiver_of_all_addressed_messages"]["private_key_base64"])


@pytest.fixture(params=CAPTURED["messages"], ids=lambda one: one["label"])
def captured(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


def plain_of(message: envelope.Envelope) -> bytes:
    if not message.key:
        return message.body
    return unseal(OURS.shared_with(message.key), message.body)


def test_envelopes(captured: dict[str, Any]) -> None:
    data = bytes.fromhex(captured["message_hex"])
    message = envelope.decode(data)
    header = captured["header"]
    assert (message.type, message.code, message.text) == (
        captured["type"],
        captured["result_code"],
        captured["result_message"],
    )
    assert (message.sender, message.receiver or "", message.id) == (header["node_id"], header["receiver"], header["id"])
    assert (message.timestamp, message.key.hex()) == (header["timestamp"], header["node_pub_key_hex"])
    assert message.is_heartbeat == (captured["result_message"] == envelope.HEARTBEAT)
    assert envelope.encode(message) == data


def test_sealed_bodies(captured: dict[str, Any]) -> None:
    message = envelope.decode(bytes.fromhex(captured["message_hex"]))
    assert plain_of(message).hex() == (captured.get("plain_body_hex") or "")
    if message.key:
        secret = OURS.shared_with(message.key)
        assert seal(secret, plain_of(message), nonce=message.body[:12]) == message.body
        assert public_key_in(message.sender) == message.key


def test_bodies_again(captured: dict[str, Any]) -> None:
    """What a body says, written by us, is the same bytes."""
    if not captured.get("plain_body_hex"):
        return
    plain = bytes.fromhex(captured["plain_body_hex"])
    kind = Type(captured["type"])
    if captured["result_code"]:
        assert plain == bodies.EMPTY_ANSWER
    elif bodies.is_question(kind, plain):
        if kind in (Type.CHAT_COMPLETION, Type.IMAGE_GENERATION):
            decode, encode = (
                (chat.decode_chat, chat.encode_chat)
                if kind is Type.CHAT_COMPLETION
                else (chat.decode_image, chat.encode_image)
            )
            asked = decode(plain)
            assert encode(asked.project, asked.model, asked.body) == plain
        else:
            assert plain == bodies.EMPTY_QUESTION
    else:
        assert _rewritten(kind, plain, heartbeat=captured["result_message"] == envelope.HEARTBEAT) == plain


def _rewritten(kind: Type, plain: bytes, *, heartbeat: bool) -> bytes:
    match kind:
        case Type.PEER_IDENTITY:
            return bodies.encode_info(bodies.decode_info(plain, PeerId("x")))
        case Type.HOST_INFO:
            return bodies.encode_host(bodies.decode_host(plain))
        case Type.AI_PROJECT:
            projects, node_type = bodies.decode_projects(plain)
            return bodies.encode_projects(projects, node_type if heartbeat else None)
        case Type.CHAT_COMPLETION:
            body, _, _ = chat.decode_chat_answer(plain)
            completion = parse_object(body)
            assert completion is not None
            return chat.encode_chat_answer(completion)[0]
        case Type.IMAGE_GENERATION:
            images = parse_object(chat.decode_image_answer(plain))
            assert images is not None
            return chat.encode_image_answer(images)


def test_values(captured: dict[str, Any]) -> None:
    said = (captured.get("plain_body") or {}).get("res")
    if captured["type"] == Type.AI_PROJECT and said is not None:
        projects, node_type = bodies.decode_projects(bytes.fromhex(captured["plain_body_hex"]))
        assert [(one.name, list(one.models)) for one in projects] == [
            (one["project"], one.get("models", [])) for one in said.get("projects", [])
        ]
        assert node_type == NodeType(said.get("node_type", 0))


@pytest.mark.parametrize("case", SEALED["cases"], ids=lambda case: case["plaintext_hex"][:8])
def test_encryption(case: dict[str, str]) -> None:
    a, b = (parse_key(SEALED[name]["private_key_base64"]) for name in "ab")
    secret = a.shared_with(b.public)
    assert secret == b.shared_with(a.public) == bytes.fromhex(SEALED["shared_secret_hex"])
    plain, body = bytes.fromhex(case["plaintext_hex"]), bytes.fromhex(case["body_hex"])
    assert seal(secret, plain, nonce=bytes.fromhex(case["nonce_hex"])) == body
    assert unseal(secret, body) == plain
