"""From a TCP connection to a multiplexed one: private network, security, muxer, each agreed on with multistream-select.

Upstream's upgrader (transport/upgrader.py) takes whatever muxer class it likes (stream_muxer/muxer_multistream.py:143), asks twice
where once is enough, and waits for more of what is plainly junk, such as the bytes of another private network.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import trio
from libp2p.abc import IRawConnection, ISecureConn, ISecureTransport
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as new_noise_key
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.security.tls.transport import PROTOCOL_ID as TLS
from libp2p.security.tls.transport import IdentityConfig
from libp2p.security.tls.transport import TLSTransport as Tls

from aicn.errors import ProtocolViolation, Unsupported
from aicn.p2p import certificate, multistream
from aicn.p2p.muxer import Yamux
from aicn.p2p.network_key import OtherNetwork
from aicn.p2p.psk import PrivateConnection
from aicn.p2p.yamux import Limits

YAMUX = "/yamux/1.0.0"


class Closed(ProtocolViolation):
    """The peer has closed the connection before all was agreed on."""


class Duplex(Protocol):
    """What multistream-select needs of a connection."""

    async def read(self, n: int | None = None) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


class Upgrader:
    """Upgrades connections in the name of one node."""

    def __init__(self, key: KeyPair, *, psk: bytes | None, streams_per_connection: int) -> None:
        self._psk = psk
        self._limits = Limits(inbound_streams=streams_per_connection)
        # In the order in which we propose them. Never plaintext, never secio: upstream's default accepts both
        # (libp2p/__init__.py:661).
        self._security: dict[str, ISecureTransport] = {
            str(NOISE): Noise(key, noise_privkey=new_noise_key().private_key),
            str(TLS): Tls(key, identity_config=IdentityConfig(cert_template=certificate.template())),
        }

    async def outbound(self, raw: IRawConnection, peer: ID) -> Yamux:
        """Upgrade a connection that we dialled. An exception when it fails or `peer` is not who answers."""
        raw = self._protect(raw)
        with self._one_network():
            security = await propose(raw, tuple(self._security))
        secured = await self._security[security].secure_outbound(raw, peer)
        if secured.get_remote_peer() != peer:
            raise ProtocolViolation(f"{secured.get_remote_peer()} answers there")
        await propose(secured, (YAMUX,))
        return self._muxer(secured, peer)

    async def simultaneous(self, raw: IRawConnection, peer: ID, *, patience_s: float) -> Yamux:
        """Upgrade a connection that both sides have dialled. An exception when it fails or `peer` is not who answers.

        Who is client in the handshakes is not settled among implementations: go-libp2p before 0.42 has the one that asked for
        the hole punching as client, later ones, as the specification, the other. So we are the client, unless the peer proposes
        within `patience_s` of its greeting; two who do so need different patience.
        """
        raw = self._protect(raw)
        with self._one_network():
            security, initiator = await meet(raw, tuple(self._security), patience_s)
        raw.is_initiator = initiator
        transport = self._security[security]
        secured = await (transport.secure_outbound(raw, peer) if initiator else transport.secure_inbound(raw))
        if secured.get_remote_peer() != peer:
            raise ProtocolViolation(f"{secured.get_remote_peer()} answers there")
        await (propose(secured, (YAMUX,)) if initiator else respond(secured, (YAMUX,)))
        return self._muxer(secured, peer)

    async def inbound(self, raw: IRawConnection) -> Yamux:
        """Upgrade a connection that we accepted. An exception when it fails."""
        raw = self._protect(raw)
        with self._one_network():
            security = await respond(raw, self._security)
        secured = await self._security[security].secure_inbound(raw)
        await respond(secured, (YAMUX,))
        return self._muxer(secured, secured.get_remote_peer())

    def _protect(self, raw: IRawConnection) -> IRawConnection:
        return raw if self._psk is None else PrivateConnection(raw, self._psk)

    @contextmanager
    def _one_network(self) -> Iterator[None]:
        """The block begins the conversation: with another key all is junk from the first byte on. OtherNetwork.

        Whoever takes ours for junk just closes the connection; then it is a guess.
        """
        try:
            yield
        except multistream.NoGreeting as error:
            if self._psk is None:
                raise
            raise OtherNetwork("the peer has another private network key, or none") from error
        except (Closed, IOException) as error:
            if self._psk is None:
                raise
            raise Closed(
                "closed at the first bytes; perhaps the peer has another private network key, or none"
            ) from error

    def _muxer(self, secured: ISecureConn, peer: ID) -> Yamux:
        return Yamux(secured, peer, limits=self._limits)


async def propose(connection: Duplex, protocols: Sequence[str]) -> str:
    """Agree on one of `protocols`, the first one preferred, as initiator. Unsupported when the peer speaks none."""
    await connection.write(multistream.proposal(protocols[0]))
    await _expect_greeting(connection)
    return await _await_agreement(connection, protocols)


async def meet(connection: Duplex, protocols: Sequence[str], patience_s: float) -> tuple[str, bool]:
    """Agree with a peer of which it is not known what it takes itself for: as initiator unless it proposes in time.

    What was agreed on, and whether we are the initiator.
    """
    await connection.write(multistream.HEADER)
    await _expect_greeting(connection)
    first = b""
    with trio.move_on_after(patience_s):
        first = await _read_byte(connection)
    if not first:
        await connection.write(multistream.encode(protocols[0]))
        return await _await_agreement(connection, protocols), True
    responder = multistream.Responder(protocols)
    responder.receive(multistream.HEADER)  # both have been sent
    return await _respond(connection, responder, first), False


async def _await_agreement(connection: Duplex, protocols: Sequence[str]) -> str:
    """The first of `protocols` was proposed: the one that the peer agrees to."""
    for protocol in protocols:
        if protocol is not protocols[0]:
            await connection.write(multistream.encode(protocol))
        answer = await _read_message(connection)
        if answer == protocol.encode():
            return protocol
        if answer != b"na":
            raise ProtocolViolation("multistream-select: an answer to something else")
    raise Unsupported(f"the peer speaks none of {', '.join(protocols)}")


async def respond(connection: Duplex, protocols: Container[str]) -> str:
    """Agree on one of `protocols` as responder. Nothing behind the agreement is read."""
    return await _respond(connection, multistream.Responder(protocols), b"")


async def _respond(connection: Duplex, responder: multistream.Responder, received: bytes) -> str:
    while True:
        if answer := responder.receive(received):
            await connection.write(answer)
        if responder.protocol is not None:
            return responder.protocol
        received = await _read_byte(connection)


async def _expect_greeting(connection: Duplex) -> None:
    for expected in multistream.HEADER:
        if (await _read_byte(connection))[0] != expected:
            raise multistream.NoGreeting("no multistream-select there; perhaps another private network")


async def _read_message(connection: Duplex) -> bytes:
    buffer = b""
    while (taken := multistream.take_message(buffer)) is None:
        buffer += await _read_byte(connection)
    return taken[0]


async def _read_byte(connection: Duplex) -> bytes:
    """One byte: what follows the negotiation belongs to the next layer. The TCP connection is buffered, see fixes/tcp.py."""
    byte = await connection.read(1)
    if not byte:
        raise Closed("closed during the negotiation")
    return byte
