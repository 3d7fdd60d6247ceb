"""URLs taken apart, and connections made: TLS with a certificate of our own."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aicn.backends.connection import parse_target
from aicn.backends.pool import Pool, open_pool
from aicn.errors import InvalidRequest, ModelFailed
from tests.fakes.endpoint import Connection, answers, open_scripted, response

OK = response(200, b"fine", "text/plain")


async def post(pool: Pool, url: str) -> bytes:
    answer = await pool.post(url, headers=[], body=b"{}", within=2)
    return await answer.read(100, within=2)


async def fails(pool: Pool, url: str) -> str:
    with pytest.raises(ModelFailed) as caught:
        await post(pool, url)
    return caught.value.message


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("http://a", b"a", b"/"),
        ("HTTP://A:80/x/?y=1", b"a", b"/x/?y=1"),
        ("https://a:443?q", b"a", b"/?q"),
        ("https://a:80", b"a:80", b"/"),
        ("http://[fe80::1]:8080/", b"[fe80::1]:8080", b"/"),
    ],
)
def test_targets(url: str, host: bytes, path: bytes) -> None:
    target = parse_target(url)
    assert (target.headers[0], target.path) == ((b"Host", host), path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/", "http://", "gopher://a", "", "/v1"])
async def test_only_http_is_spoken(url: str) -> None:
    async with open_pool(connect_s=1) as pool:
        with pytest.raises(InvalidRequest):
            await post(pool, url)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that has signed itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "loopback.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(pem))
    return path


def server_tls(certificate: Path) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.set_alpn_protocols(["h2", "http/1.1"])
    return tls


async def test_tls_with_a_trusted_certificate(certificate: Path) -> None:
    chosen = []

    async def script(connection: Connection) -> None:
        while await connection.receive_request() is not None:
            chosen.append(connection.stream.selected_alpn_protocol())
            await connection.send(OK)

    trust = ssl.create_default_context(cafile=certificate)
    async with open_scripted(script, tls=server_tls(certificate)) as server, open_pool(connect_s=2, tls=trust) as pool:
        assert [await post(pool, server.url()) for _ in range(3)] == [b"fine"] * 3
        assert (server.connections, chosen) == (1, ["http/1.1"] * 3)
        by_name = server.url().replace("127.0.0.1", "localhost")
        assert "certificate not accepted: Hostname mismatch" in await fails(pool, by_name)


async def test_tls_certificates_are_verified(certificate: Path) -> None:
    async with open_scripted(answers(OK), tls=server_tls(certificate)) as server, open_pool(connect_s=2) as pool:
        message = await fails(pool, server.url())
    assert message.startswith(
        f"cannot connect to the model endpoint https://127.0.0.1:{server.port}: TLS: certificate not acc"
    )
    assert not server.requests


async def test_tls_to_a_server_without_it_and_to_one_that_is_silent() -> None:
    async with open_scripted(answers(OK)) as server, open_pool(connect_s=2) as pool:
        message = await fails(pool, server.url().replace("http:", "https:"))
    assert "TLS: " in message or "no answer within" in message
