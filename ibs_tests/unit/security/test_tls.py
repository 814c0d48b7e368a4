"""The server's certificate: made once, kept, named, private."""

from __future__ import annotations

import hashlib
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from ibs.errors import FailedError, UsageError
from ibs.security import tls

NOW = datetime(2026, 11, 22, 19, tzinfo=UTC)


def load(made: tls.Certificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(made.path.read_bytes())


def test_made_once_and_kept(tmp_path: Path) -> None:
    made = tls.ensure_certificate(tmp_path, "web01", now=NOW)
    assert tls.ensure_certificate(tmp_path, "other", now=NOW + timedelta(days=900)) == made
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert tls.ensure_certificate(tmp_path / "b", "web01", now=NOW).fingerprint != made.fingerprint


def test_what_is_in_it(tmp_path: Path) -> None:
    names = ["192.0.2.7", "0.0.0.0", "backup.example.org", "not a name", "web01", "::1", "-x", "2001:db8::1"]
    made = tls.ensure_certificate(tmp_path, "web01", names, now=NOW)
    certificate = load(made)
    assert certificate.subject.rfc4514_string() == "CN=web01"
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternatives.get_values_for_type(x509.DNSName) == ["web01", "localhost", "backup.example.org"]
    addresses = [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    assert addresses == ["127.0.0.1", "::1", "192.0.2.7", "2001:db8::1"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert certificate.not_valid_before_utc < NOW
    assert made.expires - NOW > timedelta(days=3650)
    certificate.verify_directly_issued_by(certificate)


def test_the_fingerprint_is_sha256_of_the_der(tmp_path: Path) -> None:
    made = tls.ensure_certificate(tmp_path, "web01")
    der = ssl.PEM_cert_to_DER_cert(made.path.read_text("ascii").partition("-----BEGIN PRIVATE")[0])
    digest = hashlib.sha256(der).hexdigest()
    assert made.fingerprint == ":".join(digest[n : n + 2] for n in range(0, 64, 2))


def test_odd_node_names_do_no_harm(tmp_path: Path) -> None:
    for number, node in enumerate(["ö", "x" * 63, "a b"]):
        made = tls.ensure_certificate(tmp_path / str(number), node)
        tls.server_context(made, ["http/1.1"])


@pytest.mark.parametrize("content", [b"", b"garbage", b"certificate only"])
def test_a_damaged_file_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    made = tls.ensure_certificate(tmp_path, "web01")
    if content == b"certificate only":
        content = made.path.read_bytes().partition(b"-----BEGIN PRIVATE")[0]
    made.path.write_bytes(content)
    with pytest.raises(FailedError, match="does not hold a certificate and its key"):
        tls.ensure_certificate(tmp_path, "web01")
    assert made.path.read_bytes() == content
    with pytest.raises(FailedError):
        tls.server_context(made, [])


def test_the_server_speaks_tls_1_3_only_and_without_tickets(tmp_path: Path) -> None:
    context = tls.server_context(tls.ensure_certificate(tmp_path, "web01"), ["ibs-data/1", "http/1.1"])
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.num_tickets == 0


def key_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def test_another_certificate_takes_its_place_and_the_old_one_is_kept(tmp_path: Path) -> None:
    before = tls.ensure_certificate(tmp_path, "web01", now=NOW)
    old = before.path.read_bytes()
    made = tls.install(tmp_path, tls.make("web01", ["web01", "x.example"], NOW), NOW)
    assert made.fingerprint != before.fingerprint
    assert "x.example" in made.names
    assert made.self_signed
    assert tls.ensure_certificate(tmp_path, "web01") == made
    assert (tmp_path / "tls.pem.previous").read_bytes() == old
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tls.pem", "tls.pem.previous"]


def test_what_no_server_can_use_changes_nothing(tmp_path: Path) -> None:
    before = tls.ensure_certificate(tmp_path, "web01", now=NOW)
    good = tls.make("web01", [], NOW)
    certificate, _, _ = good.partition(b"-----BEGIN PRIVATE")
    weak = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    small = (
        x509.CertificateBuilder(name, name, weak.public_key(), 1, NOW, NOW + timedelta(days=9))
        .sign(weak, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    for content, when, why in (
        (b"nothing", NOW, "no certificate"),
        (certificate, NOW, "no private key"),
        (certificate + key_pem(ec.generate_private_key(ec.SECP256R1())), NOW, "not that of the certificate"),
        (certificate + key_pem(ec.generate_private_key(ec.SECP256R1()), b"pass"), NOW, "is encrypted"),
        (good, NOW + timedelta(days=4000), "expired at"),
        (good, NOW - timedelta(days=4000), "not valid before"),
        (small + key_pem(weak), NOW + timedelta(days=1), "1024 bits"),
    ):
        with pytest.raises(UsageError, match=why):
            tls.install(tmp_path, content, when)
    assert tls.ensure_certificate(tmp_path, "web01") == before
    assert [file.name for file in tmp_path.iterdir()] == ["tls.pem"]
