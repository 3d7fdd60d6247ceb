"""From a TCP connection to a multiplexed one: what peers of other makes look at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.security.tls.certificate import LIBP2P_EXTENSION_OID, verify_certificate_chain
from libp2p.security.tls.transport import PROTOCOL_ID as TLS
from libp2p.security.tls.transport import TLSTransport

from aicn.errors import Unsupported
from aicn.p2p.upgrade import Upgrader, meet, propose, respond

PROTOCOLS = st.lists(st.sampled_from(["/noise", "/tls/1.0.0", "/x", "/" + "long" * 50]), min_size=1, unique=True)
DELAYS = st.lists(st.floats(0, 0.01), max_size=20)  # s, of one write each; the later ones take no time


def test_the_tls_certificate_has_the_libp2p_extension_alone() -> None:
    keys = create_new_key_pair()
    tls = Upgrader(keys, psk=None, streams_per_connection=1)._security[str(TLS)]
    assert isinstance(tls, TLSTransport)
    certificate = x509.load_pem_x509_certificate(tls.get_certificate_pem().encode())
    assert [extension.oid for extension in certificate.extensions] == [LIBP2P_EXTENSION_OID]
    assert verify_certificate_chain([certificate]) == keys.public_key
    now = datetime.now(UTC)
    assert certificate.not_valid_before_utc < now - timedelta(minutes=30)
    assert certificate.not_valid_after_utc > now + timedelta(days=3650)


class Wire:
    """One end of a connection on which each write takes its time."""

    def __init__(
        self, stream: trio.testing.MemoryReceiveStream, sink: trio.testing.MemorySendStream, delays: list[float]
    ):
        self._stream, self._sink, self._delays = stream, sink, list(delays)

    async def read(self, n: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(n))

    async def write(self, data: bytes) -> None:
        await trio.sleep(self._delays.pop() if self._delays else 0)
        half = len(data) // 2  # and comes in two pieces
        await self._sink.send_all(data[:half])
        await trio.sleep(0)
        await self._sink.send_all(data[half:])


Side = Callable[[Wire], Awaitable[object]]


def run_both(
    one: Side, other: Side, delays: tuple[list[float], list[float]], *, late_s: float = 0.0
) -> tuple[object, object]:
    """The results of the two sides, or what they raised; then both must still read what the other wrote behind it."""

    async def run_side(side: Side, wire: Wire, late_s: float, results: list[object], at: int) -> None:
        await trio.sleep(late_s)
        try:
            results[at] = await side(wire)
        except Unsupported as error:
            results[at] = error
            await wire._sink.aclose()
        else:
            await wire.write(b"behind")
            rest = b""
            while len(rest) < len(b"behind"):
                rest += await wire.read(100)
            assert rest == b"behind"

    async def main() -> tuple[object, object]:
        sink_a, stream_a = trio.testing.memory_stream_one_way_pair()
        sink_b, stream_b = trio.testing.memory_stream_one_way_pair()
        results: list[object] = [None, None]
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_side, one, Wire(stream_a, sink_b, delays[0]), 0.0, results, 0)
                nursery.start_soon(run_side, other, Wire(stream_b, sink_a, delays[1]), late_s, results, 1)
        return results[0], results[1]

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@given(PROTOCOLS, PROTOCOLS, DELAYS, DELAYS)
def test_both_agree_on_the_first_that_both_speak(
    ours: list[str], theirs: list[str], a: list[float], b: list[float]
) -> None:
    common = [one for one in ours if one in theirs]
    if common:
        results = run_both(lambda wire: propose(wire, ours), lambda wire: respond(wire, theirs), (a, b))
        assert results == (common[0], common[0])


@given(PROTOCOLS, DELAYS, DELAYS)
def test_who_finds_nothing_in_common_says_so(ours: list[str], a: list[float], b: list[float]) -> None:
    async def refuse(wire: Wire) -> object:
        with pytest.raises(Exception, match="closed during the negotiation"):  # by the one who gives up
            await respond(wire, ())
        raise Unsupported("as expected")

    one, other = run_both(lambda wire: propose(wire, ours), refuse, (a, b))
    assert isinstance(one, Unsupported)
    assert isinstance(other, Unsupported)


@given(PROTOCOLS, DELAYS, DELAYS, st.floats(0, 0.5), st.booleans())
def test_two_that_have_both_dialled_agree_on_who_proposes(
    protocols: list[str], a: list[float], b: list[float], late_s: float, patient: bool
) -> None:
    patience = (2.0, 0.3) if patient else (0.3, 2.0)
    one, other = run_both(
        lambda wire: meet(wire, protocols, patience[0]),
        lambda wire: meet(wire, protocols, patience[1]),
        (a, b),
        late_s=late_s,
    )
    assert one == (protocols[0], not patient)
    assert other == (protocols[0], patient)
