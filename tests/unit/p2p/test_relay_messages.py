"""The messages of circuit relay v2: the bytes that other implementations write and expect."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.domain.ids import PeerId
from aicn.errors import AicnError, ProtocolViolation, TooLarge, Unreachable
from aicn.p2p.relay.client import _circuits, _renewal
from aicn.p2p.relay.messages import HopMessage, Limit, Reservation, Status, StopMessage, expect_ok, on, peer_in, receive
from aicn.wire.framing import encode_frame

PEER = ID.from_base58("16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq")
OTHER = ID.from_base58("12D3KooWA8EXV3KjBxEU5EnsPfneLx84vMWAtTBQBeyooN82KSuS")


class Bytes:
    """A stream that was received already."""

    peer = PeerId("p")

    def __init__(self, data: bytes, piece: int = 1) -> None:
        self.data, self.piece = data, piece

    async def receive_some(self, limit: int | None = None) -> bytes:
        data, self.data = self.data[: self.piece], self.data[self.piece :]
        return data

    def unreceive(self, data: bytes) -> None:
        self.data = data + self.data


def test_the_field_numbers_are_those_of_the_specification() -> None:
    connect = HopMessage(type=HopMessage.CONNECT)
    connect.peer.id = b"\x01\x02"
    assert connect.SerializeToString() == bytes.fromhex("0801 1204 0a02 0102")
    place = Reservation(expire=5, addrs=[b"\x04"])
    status = HopMessage(type=HopMessage.STATUS, status=Status.OK, reservation=place, limit=Limit(duration=1, data=2))
    assert status.SerializeToString() == bytes.fromhex("0802 1a05 0805 1201 04 2204 0801 1002 2864")
    stop = StopMessage(type=StopMessage.STATUS, status=Status.PERMISSION_DENIED, limit=Limit(duration=1))
    assert stop.SerializeToString() == bytes.fromhex("0801 1a02 0801 20ca01")
    assert HopMessage(type=HopMessage.RESERVE).SerializeToString() == bytes.fromhex("0800")  # go insists on the type


@pytest.mark.parametrize("piece", [1, 3, 1000])
async def test_what_follows_a_message_stays_in_the_stream(piece: int) -> None:
    stream = Bytes(encode_frame(HopMessage(type=HopMessage.RESERVE).SerializeToString()) + b"rest", piece)
    messages = on(stream)  # type: ignore[arg-type]
    assert (await receive(messages, HopMessage)).type == HopMessage.RESERVE
    assert messages.release() is stream
    assert stream.data == b"rest"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (encode_frame(b""), ProtocolViolation),  # no type
        (encode_frame(b"\xff"), ProtocolViolation),
        (b"", ProtocolViolation),
        (b"\x05\x08", ProtocolViolation),
        (encode_frame(bytes(4097)), TooLarge),
    ],
)
async def test_what_is_no_message(data: bytes, error: type[AicnError]) -> None:
    with pytest.raises(error):
        await receive(on(Bytes(data)), HopMessage)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HopMessage(type=HopMessage.STATUS, status=Status.OK), None),
        (HopMessage(type=HopMessage.STATUS, status=Status.NO_RESERVATION), "NO_RESERVATION"),
        (HopMessage(type=HopMessage.STATUS), "UNUSED"),
        (HopMessage(type=HopMessage.RESERVE), "not answered by its status"),
    ],
)
async def test_the_answer_of_a_relay(answer: HopMessage, error: str | None) -> None:
    messages = on(Bytes(encode_frame(answer.SerializeToString())))  # type: ignore[arg-type]
    if error is None:
        assert await expect_ok(messages, HopMessage) == answer
    else:
        with pytest.raises((Unreachable, ProtocolViolation), match=error):
            await expect_ok(messages, HopMessage)


@pytest.mark.parametrize("identifier", [b"", bytes(129)])
def test_a_message_without_a_peer(identifier: bytes) -> None:
    message = HopMessage(type=HopMessage.CONNECT)
    message.peer.id = identifier
    with pytest.raises(ProtocolViolation):
        peer_in(message)


class Relay:
    """What the addresses through a relay are made of: the connection to it."""

    def __init__(self, remote: str, direction: str = "Outbound") -> None:
        self.peer, self.remote, self.dialled = PEER, Multiaddr(remote), direction == "Outbound"


def through(relay: Relay, *texts: str) -> list[str]:
    place = Reservation(addrs=[Multiaddr(text).to_bytes() for text in texts])
    return [str(one) for one in _circuits(relay, place)]  # type: ignore[arg-type]


def test_addresses_through_a_relay() -> None:
    end = f"/p2p/{PEER}/p2p-circuit"
    dialled = Relay("/ip4/10.0.0.1/tcp/1")
    assert through(dialled) == [f"/ip4/10.0.0.1/tcp/1{end}"]
    assert through(dialled, f"/ip4/8.8.8.8/tcp/2/p2p/{PEER}", "/ip4/10.0.0.1/tcp/1") == [
        f"/ip4/8.8.8.8/tcp/2{end}",  # what more can dial comes first
        f"/ip4/10.0.0.1/tcp/1{end}",
    ]
    came = Relay("/ip4/10.0.0.1/tcp/40000", "Inbound")  # nobody can dial the port that it came from
    assert through(came) == []
    assert through(came, "/dns4/x.example/tcp/2") == [f"/dns4/x.example/tcp/2{end}"]


def test_a_relay_names_only_itself_and_little() -> None:
    relay = Relay("/ip4/10.0.0.1/tcp/40000", "Inbound")
    assert not through(
        relay,
        f"/ip4/8.8.8.8/tcp/1/p2p/{OTHER}",  # another peer
        f"/ip4/8.8.8.8/tcp/1/p2p/{OTHER}/p2p-circuit",  # a relay behind a relay
        "/ip4/8.8.8.8/udp/1/quic-v1",
    )
    assert len(through(relay, *(f"/ip4/8.8.8.8/tcp/{port}" for port in range(1, 100)))) == 4
    junk = Reservation(addrs=[b"\xff\xff", b"", b"\x04", b"\x36" + b"\xff" * 9 + b"\x01"])
    assert _circuits(relay, junk) == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(("left_s", "renew_s"), [(3600, 1800), (600, 300), (10**9, 1800), (0, 1), (-(10**9), 1)])
def test_a_place_is_renewed_well_before_it_lapses(left_s: int, renew_s: int) -> None:
    place = Reservation(expire=max(0, int(time.time()) + left_s))
    assert _renewal(place) == pytest.approx(renew_s, abs=2)


@given(
    st.lists(st.binary(max_size=60) | st.binary(max_size=40).map(lambda data: b"\xa5\x03" + bytes([len(data)]) + data))
)
def test_no_address_of_a_relay_breaks_us(junk: list[bytes]) -> None:
    relay = Relay("/ip4/10.0.0.1/tcp/1")
    place = Reservation(addrs=[*junk, *(b"\x04\x7f\x00\x00\x01\x06\x00\x01" + one for one in junk)])
    found = _circuits(relay, place)  # type: ignore[arg-type]
    assert 1 <= len(found) <= 4
