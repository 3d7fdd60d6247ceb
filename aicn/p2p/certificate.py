"""What the TLS certificate says besides the libp2p extension (libp2p spec, tls/tls.md): nothing that a peer could stumble over.

Upstream's template (security/tls/certificate.py:190) puts Basic Constraints and Key Usage in front of the libp2p extension.
js-libp2p looks at the first extension only and refuses us. Test: tests/unit/p2p/test_upgrade.py.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

_BACKDATED = timedelta(hours=1)  # for peers whose clocks are late
_VALID = timedelta(days=36_500)  # its key lives as long as the process: what is certified is the peer id


def template() -> x509.CertificateBuilder:
    """A certificate to be completed with key, libp2p extension and signature."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "libp2p")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
    )
