"""From a TCP connection to a multiplexed one: what peers of other makes look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.security.tls.certificate import LIBP2P_EXTENSION_OID, verify_certificate_chain
from libp2p.security.tls.transport import PROTOCOL_ID as TLS
from libp2p.security.tls.transport import TLSTransport

from aicn.p2p.upgrade import Upgrader


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
