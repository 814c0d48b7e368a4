"""The server's certificate: made once, kept, named, private."""

from __future__ import annotations

import hashlib
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ibs.errors import FailedError
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
