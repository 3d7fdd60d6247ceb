"""The yamux session: bytes, rules, and what a hostile peer may try."""

import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aicn.errors import ProtocolViolation
from aicn.p2p.yamux import ACK_BATCH, MAX_PAYLOAD, RECORD, REORDERING, Limits, Session
from aicn.p2p.yamux_stream import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    INITIAL_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    Broken,
    Stream,
)


def frame(kind: int, flags: int, stream_id: int, length: int, body: bytes = b"", version: int = 0) -> bytes:
    return HEADER.pack(version, kind, flags, stream_id, length) + body


def data_frame(stream_id: int, body: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, stream_id, len(body), body)


def sent(session: Session) -> bytes:
    out = bytearray()
    while piece := session.data_to_send():
        out += piece
    return bytes(out)


def frames_of(data: bytes) -> list[tuple[int, int, int, int, bytes]]:
    """(type, flags, stream id, length, body) of every frame."""
    found = []
    while data:
        version, kind, flags, stream_id, length = HEADER.unpack_from(data)
        assert version == 0
        size = HEADER.size + (length if kind == DATA else 0)
        found.append((kind, flags, stream_id, length, data[HEADER.size : size]))
        data = data[size:]
    return found


def client(limits: Limits = Limits()) -> Session:
    return Session(initiator=True, limits=limits)


def server(limits: Limits = Limits()) -> Session:
    return Session(initiator=False, limits=limits)


def exchange(here: Session, there: Session) -> None:
    """Carry everything both ways until nothing is left."""
    while here.unsent or there.unsent:
        there.receive(sent(here))
        here.receive(sent(there))


def connected() -> tuple[Session, Session, Stream, Stream]:
    here, there = client(), server()
    ours = here.open()
    here.send(ours, b"x")
    there.receive(sent(here))
    theirs = there.accept()
    assert theirs is not None
    assert there.take(theirs) == b"x"
    exchange(here, there)
    return here, there, ours, theirs


# ---- what goes over the wire ----


def test_the_golden_bytes_of_a_whole_stream():
    here, there = client(), server()
    ours = here.open()
    here.send(ours, b"hello")
    here.send_eof(ours)
    request = sent(here)
    assert request.hex() == (
        "000000010000000100000005" + b"hello".hex()  # DATA, SYN, stream 1, 5 bytes
        + "000100040000000100000000"  # WINDOW_UPDATE, FIN, stream 1
    )  # fmt: skip
    there.receive(request)
    theirs = there.accept()
    assert there.take(theirs) == b"hello"
    assert theirs.at_eof
    there.send(theirs, b"world")
    there.send_eof(theirs)
    answer = sent(there)
    assert answer.hex() == "000000020000000100000005" + b"world".hex() + "000100040000000100000000"  # ACK on the first
    here.receive(answer)
    assert here.take(ours) == b"world"
    assert ours.at_eof
    assert not here.streams
    assert not there.streams


@pytest.mark.parametrize(
    ("session", "act", "wire"),
    [
        (client, lambda s: s.send(s.open(), b"a"), "00000001000000010000000161"),
        (server, lambda s: s.send(s.open(), b"a"), "00000001000000020000000161"),
        (client, lambda s: s.announce(s.open()), "000100010000000100000000"),
        (client, lambda s: s.send_eof(s.open()), "000100050000000100000000"),
        (client, lambda s: s.abort(s.open()), ""),
        (client, lambda s: s.ping(), "000200010000000000000001"),
        (client, lambda s: s.go_away(1), "000300000000000000000001"),
    ],
)
def test_golden_frames(session, act, wire):
    one = session()
    act(one)
    assert sent(one).hex() == wire


def test_a_reset_is_a_window_update_with_rst():
    here, _, ours, _ = connected()
    here.abort(ours)
    assert sent(here).hex() == "000100080000000100000000"


def test_ids_are_given_in_the_order_of_the_first_frames():
    here = client()
    first, second = here.open(), here.open()
    here.send(second, b"b")
    here.send(first, b"a")
    assert (first.id, second.id) == (3, 1)


def test_ping_is_answered_and_goes_ahead_of_data():
    here, there = client(), server()
    here.send(here.open(), b"x" * 1000)
    number = here.ping()
    request = sent(here)
    assert frames_of(request)[0] == (PING, SYN, 0, number, b"")
    there.receive(request)
    here.receive(sent(there))
    assert here.answered == number


def test_acks_ride_along_or_go_in_batches():
    here, there = client(), server()
    for _ in range(ACK_BATCH - 1):
        here.send(here.open(), b"x")
    there.receive(sent(here))
    assert not there.unsent
    assert here.unacknowledged == ACK_BATCH - 1
    here.send(here.open(), b"x")
    exchange(here, there)
    assert here.unacknowledged == 0
    here.send(here.open(), b"x")
    there.receive(sent(here))
    there.ping()
    exchange(here, there)
    assert here.unacknowledged == 0


def test_bulk_data_makes_full_records():
    here = client()
    stream = here.open()
    data = random.Random(1).randbytes(200_000)
    for start in range(0, len(data), 40_000):
        here.send(stream, data[start : start + 40_000])
    records = []
    while record := here.data_to_send():
        records.append(record)
    assert [len(record) for record in records[:-1]] == [RECORD] * 3
    assert here.unsent == 0
    assert b"".join(body for *_, body in frames_of(b"".join(records))) == data


def test_a_ping_goes_ahead_but_never_into_a_frame():
    here, there = client(), server()
    here.send(here.open(), bytes(1000))
    here.send(here.open(), bytes(1000))
    there.receive(here.data_to_send(500))
    here.ping()
    there.receive(sent(here))
    assert len(there.take(there.accept())) == len(there.take(there.accept())) == 1000
    assert frames_of(there.data_to_send())[0][:2] == (PING, ACK)


def test_small_frames_share_one_record():
    here = client()
    for _ in range(100):
        here.send(here.open(), b"x" * 100)
    assert len(here.data_to_send()) == 100 * 112
    assert here.unsent == 0


# ---- windows ----


def test_a_sender_stops_at_the_window_and_goes_on_with_credit():
    here, there, ours, theirs = connected()
    total = 0
    while taken := here.send(ours, bytes(MAX_PAYLOAD)):
        total += taken
    assert total == INITIAL_WINDOW - 1  # one byte went before
    exchange(here, there)
    assert ours.send_window == 0
    there.take(theirs, 1000)
    exchange(here, there)
    assert ours.send_window == 0  # not worth a frame
    there.take(theirs)
    exchange(here, there)
    assert ours.send_window == theirs.recv_window == theirs.window == 2 * INITIAL_WINDOW


def test_windows_grow_to_the_limit_and_give_it_back():
    here, there, ours, theirs = connected()
    for _ in range(100):
        while here.send(ours, bytes(MAX_PAYLOAD)):
            pass
        exchange(here, there)
        there.take(theirs)
        exchange(here, there)
    assert theirs.window == Limits().window
    here.abort(ours)
    exchange(here, there)
    assert there._lent == 0


def test_growth_ends_with_the_budget_of_the_connection():
    here, there = client(), server(Limits(unread_bytes=2 * INITIAL_WINDOW))
    for expected in (2 * INITIAL_WINDOW, INITIAL_WINDOW):
        ours = here.open()
        here.send(ours, bytes(MAX_PAYLOAD))
        there.receive(sent(here))
        theirs = there.accept()
        for _ in range(50):
            here.send(ours, bytes(MAX_PAYLOAD))
            exchange(here, there)
            there.take(theirs)
        assert theirs.window == expected


def test_put_back_is_read_again_and_keeps_the_account():
    here, there, ours, theirs = connected()
    here.send(ours, b"header body")
    exchange(here, there)
    there.put_back(theirs, there.take(theirs)[7:])
    assert there.take(theirs) == b"body"
    while here.send(ours, bytes(MAX_PAYLOAD)):
        pass
    exchange(here, there)
    data = there.take(theirs)
    there.put_back(theirs, data)
    assert theirs.recv_window + len(theirs.buffer) + theirs.consumed == theirs.window
    assert there.take(theirs) == data


# ---- ends ----


def test_half_close_leaves_the_other_direction_open():
    here, there, ours, theirs = connected()
    here.send_eof(ours)
    exchange(here, there)
    assert theirs.at_eof
    assert not theirs.ended
    there.send(theirs, b"still here")
    exchange(here, there)
    assert here.take(ours) == b"still here"
    there.send_eof(theirs)
    exchange(here, there)
    assert ours.ended
    assert theirs.ended


def test_reset_throws_away_and_is_no_end():
    here, there, ours, theirs = connected()
    here.send(ours, b"half an answer")
    here.abort(ours)
    exchange(here, there)
    assert theirs.broken is Broken.RESET
    assert not theirs.at_eof
    assert not there.take(theirs)
    assert there.unread == 0


def test_what_a_fin_completed_survives_reset_and_loss():
    here, there, ours, theirs = connected()
    here.send(ours, b"complete")
    here.send_eof(ours)
    here.abort(ours)
    exchange(here, there)
    assert theirs.broken is Broken.RESET
    assert there.take(theirs) == b"complete"
    assert theirs.at_eof

    here, there, ours, theirs = connected()
    here.send(ours, b"not complete")
    there.receive(sent(here))
    there.lose()
    assert theirs.broken is Broken.LOST
    assert there.take(theirs) == b"not complete"
    assert not theirs.at_eof
    assert not there.streams


def test_frames_after_the_end_are_dropped():
    here, there, ours, theirs = connected()
    there.abort(theirs)
    here.send(ours, b"under way")
    here.send_eof(ours)
    exchange(here, there)
    assert ours.broken is Broken.RESET
    assert there.unread == 0


def test_data_after_fin_resets_the_stream_only():
    _, there, _, theirs = connected()
    there.receive(frame(WINDOW_UPDATE, FIN, 1, 0) + data_frame(1, b"more"))
    assert theirs.broken is Broken.RESET
    assert frames_of(sent(there)) == [(WINDOW_UPDATE, RST, 1, 0, b"")]


def test_a_stream_reset_before_it_was_accepted_is_left_out():
    there = server()
    there.receive(data_frame(1, b"x", SYN) + frame(WINDOW_UPDATE, RST, 1, 0) + data_frame(3, b"y", SYN))
    assert there.accept().id == 3
    assert there.accept() is None


def test_a_stream_that_nobody_reads_holds_nothing_and_gives_no_credit():
    here, there, ours, theirs = connected()
    here.send(ours, b"unread")
    exchange(here, there)
    there.discard(theirs)
    while here.send(ours, bytes(MAX_PAYLOAD)):
        pass
    exchange(here, there)
    assert there.unread == 0
    assert not theirs.buffer
    assert ours.send_window == 0
    there.send(theirs, b"answer")
    here.send_eof(ours)
    there.send_eof(theirs)
    exchange(here, there)
    assert here.take(ours) == b"answer"
    assert not here.streams
    assert not there.streams


# ---- limits ----


def test_streams_over_the_limit_are_refused_until_one_ends():
    there = server(Limits(inbound_streams=2))
    there.receive(b"".join(data_frame(i, b"x", SYN) for i in (1, 3, 5)))
    assert (WINDOW_UPDATE, RST, 5, 0, b"") in frames_of(sent(there))
    there.receive(data_frame(5, b"under way"))
    there.abort(there.accept())
    there.receive(data_frame(7, b"x", SYN))
    assert [there.accept().id, there.accept().id] == [3, 7]


def test_streams_over_the_backlog_are_refused_until_one_is_accepted():
    there = server(Limits(accept_backlog=1))
    there.receive(data_frame(1, b"x", SYN) + data_frame(3, b"x", SYN))
    assert (WINDOW_UPDATE, RST, 3, 0, b"") in frames_of(sent(there))
    assert there.accept().id == 1
    there.receive(data_frame(5, b"x", SYN))
    assert there.accept().id == 5


def test_the_stream_that_exceeds_the_unread_bytes_is_reset():
    there = server(Limits(unread_bytes=1000))
    there.receive(data_frame(1, bytes(900), SYN) + data_frame(3, bytes(50), SYN) + data_frame(1, bytes(51)))
    first, second = there.accept(), there.accept()
    assert first.id == 3
    assert second is None
    assert there.unread == 50


def test_ids_run_out_without_a_wrong_frame():
    here = client()
    here._next_id = 0xFFFFFFFF
    assert here.accepts_new
    stream = here.open()
    assert not here.accepts_new
    here.send(stream, b"last")
    assert frames_of(sent(here))[0][2] == 0xFFFFFFFF
    assert not here.accepts_new


# ---- hostile peers ----

OPEN = data_frame(1, b"x", SYN)

HOSTILE = {
    "version": frame(DATA, SYN, 1, 0, version=1),
    "type": frame(4, 0, 1, 0),
    "flags": frame(DATA, 0x10 | SYN, 1, 0),
    "high flags": frame(DATA, 0x8000 | SYN, 1, 0),
    "length": frame(DATA, SYN, 1, Limits().window + 1),
    "greatest length": frame(DATA, SYN, 1, 0xFFFFFFFF),
    "first frame over the window": data_frame(1, bytes(INITIAL_WINDOW + 1), SYN),
    "later frame over the window": OPEN + data_frame(1, bytes(INITIAL_WINDOW)),
    "credit overflow": OPEN + frame(WINDOW_UPDATE, 0, 1, 0xFFFFFFFF),
    "credit overflow with SYN": frame(WINDOW_UPDATE, SYN, 1, 0xFFFFFFFF),
    "parity": data_frame(2, b"x", SYN),
    "id in use": OPEN + OPEN,
    "id used before": OPEN + frame(WINDOW_UPDATE, RST, 1, 0) + OPEN,
    "id far behind": data_frame(1 + 2 * REORDERING, b"x", SYN) + OPEN,
    "stream zero": data_frame(0, b"x"),
    "SYN of stream zero": data_frame(0, b"x", SYN),
    "data on a stream never opened": data_frame(5, b"x"),
    "data on a stream that we never opened": data_frame(2, b"x"),
    "data on a skipped id": data_frame(3, b"x", SYN) + data_frame(1, b"x"),
    "SYN and ACK": data_frame(1, b"x", SYN | ACK),
    "ping on a stream": frame(PING, SYN, 1, 7),
    "ping without flag": frame(PING, 0, 0, 7),
    "ping with both flags": frame(PING, SYN | ACK, 0, 7),
    "go away on a stream": frame(GO_AWAY, 0, 1, 0),
    "pings and never a read": frame(PING, SYN, 0, 7) * 22_000,
    "refused streams and never a read": b"".join(data_frame(i, b"", SYN) for i in range(1, 50_000, 2)),
}


@pytest.mark.parametrize("attack", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_frames_are_violations(attack):
    with pytest.raises(ProtocolViolation):
        server().receive(attack)


@pytest.mark.parametrize("attack", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_frames_are_violations_however_they_are_cut(attack):
    session = server()
    with pytest.raises(ProtocolViolation):
        for start in range(0, len(attack), 5_000):
            session.receive(attack[start : start + 5_000])


def test_streams_announced_out_of_order_are_taken():
    there = server()
    ids = list(range(1, 400, 2))
    random.Random(3).shuffle(ids)
    there.receive(b"".join(data_frame(i, b"x", SYN) for i in ids))
    assert [there.accept().id for _ in ids] == ids


@given(st.lists(st.binary(max_size=100), max_size=20), st.booleans())
def test_junk_raises_only_the_one_error(pieces, initiator):
    session = Session(initiator=initiator)
    try:
        for piece in pieces:
            session.receive(piece)
    except ProtocolViolation:
        pass


HEADERS = st.tuples(
    st.sampled_from([DATA, WINDOW_UPDATE, PING, GO_AWAY]),
    st.sampled_from([0, SYN, ACK, FIN, RST, SYN | FIN, SYN | RST, FIN | RST, ACK | FIN]),
    st.integers(0, 9),
    st.one_of(st.integers(0, 40), st.just(0xFFFFFFFF)),
)


@given(st.lists(HEADERS, max_size=40), st.booleans())
@example(headers=[(DATA, FIN, 3, 1)] * 2, initiator=True)  # data after FIN breaks: its FIN must not end it again
def test_plausible_junk_raises_only_the_one_error_and_keeps_the_accounts(headers, initiator):
    session = Session(initiator=initiator, limits=Limits(inbound_streams=3, accept_backlog=2, unread_bytes=100))
    ours = [session.open() for _ in range(3)]
    for stream in ours[:2]:
        session.send(stream, b"x")
    try:
        for kind, flags, stream_id, length in headers:
            session.receive(
                frame(kind, flags, stream_id, length, bytes(length) if kind == DATA and length < 100 else b"")
            )
    except ProtocolViolation:
        pass
    live = [*session.streams.values()]
    assert session.unread == sum(len(stream.buffer) for stream in live) <= 100
    assert session._inbound == sum(stream.inbound for stream in live) <= 3
    assert session.unacknowledged == sum(stream.unacknowledged for stream in [*live, ours[2]])
    assert all(0 <= stream.recv_window <= stream.window for stream in live)


# ---- two sessions ----


def test_one_byte_at_a_time():
    here, there = client(), server()
    ours = here.open()
    here.send(ours, b"hello")
    here.ping()
    here.send_eof(ours)
    for byte in sent(here):
        there.receive(bytes([byte]))
    theirs = there.accept()
    assert there.take(theirs) == b"hello"
    assert theirs.at_eof
    there.send(theirs, b"world")
    there.send_eof(theirs)
    for byte in sent(there):
        here.receive(bytes([byte]))
    assert here.take(ours) == b"world"
    assert here.answered == 1


class Side:
    """A session, the bytes on their way to it, and what each of its streams has sent and received."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.incoming = bytearray()
        self.streams: list[Stream] = []
        self.wrote: dict[Stream, bytearray] = {}
        self.read: dict[Stream, bytearray] = {}

    def add(self, stream: Stream) -> None:
        self.streams.append(stream)
        self.wrote[stream] = bytearray()
        self.read[stream] = bytearray()

    def accept(self) -> None:
        while (stream := self.session.accept()) is not None:
            self.add(stream)

    def deliver(self, size: int) -> None:
        piece = bytes(self.incoming[:size])
        del self.incoming[:size]
        self.session.receive(piece)
        self.accept()


def act(generator: random.Random, side: Side, other: Side) -> None:
    """One random step of one side."""
    session = side.session
    what = generator.choices(["open", "flush", "deliver", "ping", "use"], [3, 10, 20, 1, 33])[0]
    if what == "open" and len(side.streams) < 20:
        side.add(session.open())
    elif what == "flush":
        other.incoming += session.data_to_send()
    elif what == "deliver":
        side.deliver(generator.choice([1, 11, 100, 5_000, 200_000]))
    elif what == "ping":
        session.ping()
    elif side.streams:
        use(generator, side, generator.choice(side.streams))


def use(generator: random.Random, side: Side, stream: Stream) -> None:
    """One random step of one side with one of its streams."""
    session = side.session
    what = generator.choices(["send", "take", "put back", "eof", "abort"], [20, 9, 1, 2, 1])[0]
    if what == "send" and stream.sendable:
        data = generator.randbytes(generator.choice([1, 100, 20_000, 100_000]))
        side.wrote[stream] += data[: session.send(stream, data)]
    elif what == "take":
        side.read[stream] += session.take(stream, generator.choice([None, 1, 100, 10_000]))
    elif what == "put back":
        data = session.take(stream)
        session.put_back(stream, data[len(data) // 2 :])
        side.read[stream] += data[: len(data) // 2]
    elif what == "eof":
        session.send_eof(stream)
    elif what == "abort":
        session.abort(stream)


def check(side: Side) -> None:
    session = side.session
    for stream in session.streams.values():
        assert stream.recv_window + len(stream.buffer) + stream.consumed == stream.window <= session.limits.window
        assert stream.recv_window >= 0
    assert session.unread == sum(len(stream.buffer) for stream in session.streams.values())
    assert session._lent == sum(stream.window - INITIAL_WINDOW for stream in session.streams.values())


def drain(*sides: Side) -> None:
    """Carry and read everything."""
    going = True
    while going:
        going = False
        for here, there in (sides, sides[::-1]):
            there.incoming += sent(here.session)
            here.deliver(len(here.incoming))
            for stream in here.streams:
                here.read[stream] += here.session.take(stream)
            check(here)
            going |= bool(there.incoming or here.session.unsent)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(50, 600))
def test_random_interleavings_keep_data_windows_and_ends(seed, steps):
    generator = random.Random(seed)
    sides = [Side(client()), Side(server())]
    for _ in range(steps):
        here, there = generator.sample(sides, 2)
        act(generator, here, there)
        check(here)
    drain(*sides)
    by_id = [{stream.id: stream for stream in side.streams if stream.id} for side in sides]
    for (here, there), (ours, theirs) in ((sides, by_id), (sides[::-1], by_id[::-1])):
        for stream_id, stream in ours.items():
            if stream_id not in theirs:
                assert stream.broken is not None  # reset before it was accepted
                continue
            other = theirs[stream_id]
            arrived, wrote = there.read[other], here.wrote[stream]
            assert wrote.startswith(arrived)
            if other.at_eof or (stream.broken is None and other.broken is None):
                assert arrived == wrote
            assert (stream.broken is None) == (other.broken is None) or stream.ended == other.ended
