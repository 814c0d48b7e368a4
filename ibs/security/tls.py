"""The server's certificate: self-signed, made at the first start, valid for ten years, pinned by its fingerprint.

Used by `app` and tests. Key and certificate are one file, `STATE/tls.pem` (0600), so that a crash cannot leave one
without the other. Clients pin the SHA-256 of the certificate's DER, so its names matter to browsers only. TLS 1.3 only,
without session tickets: nothing here resumes, and a ticket that a client never reads can break a half-closed stream.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ibs.core.ids import hex_fingerprint
from ibs.errors import FailedError
from ibs.security.private import read_private, write_private

FILE: Final = "tls.pem"
VALID_DAYS: Final = 3653
_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key in one PEM file. `fingerprint` is the colon form; `expires` aware."""

    path: Path
    fingerprint: str
    expires: datetime


def certificate_fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate in DER, as people read it: `aa:bb:…`."""
    return hex_fingerprint(hashlib.sha256(der).digest())


def ensure_certificate(
    state: Path, node: str, names: Iterable[str] = (), *, now: datetime | None = None
) -> Certificate:
    """The certificate in the folder `state`; made now (for `node`, this host and `names`) if there is none. Blocks.

    Raises FailedError when the file there does not hold a certificate and its key: it is never replaced on its own,
    since every client has it pinned.
    """
    path = state / FILE
    content = read_private(path)
    if content is None:
        # The wall clock is right here: the dates are for other machines. They are made once in ten years.
        content = _make(node, names, now or datetime.now(UTC))
        write_private(path, content)
    try:
        certificate = x509.load_pem_x509_certificate(content)
        serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
        raise _damaged(path) from error
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Certificate(path, certificate_fingerprint(der), certificate.not_valid_after_utc)


def server_context(certificate: Certificate, alpn: Sequence[str]) -> ssl.SSLContext:
    """TLS 1.3 for a server that speaks the protocols `alpn`, best first. Blocks. Raises FailedError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.set_alpn_protocols(list(alpn))
    try:
        context.load_cert_chain(certificate.path)
    except (OSError, ssl.SSLError) as error:
        raise _damaged(certificate.path) from error
    return context


def _damaged(path: Path) -> FailedError:
    return FailedError(
        f"{path} does not hold a certificate and its key",
        hint="bring it back from a backup of the state folder; or move it away, restart, and pin the new fingerprint",
    )


def _make(node: str, names: Iterable[str], now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node[:64])])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # for clients whose clocks are behind
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(_alternatives([node, "localhost", *names])), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private


def _alternatives(names: Iterable[str]) -> list[x509.GeneralName]:
    """DNS names and addresses, each once; what is neither is left out. The loopback addresses are always there."""
    found: dict[str, x509.GeneralName] = {}
    for name in ("127.0.0.1", "::1", *names):
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            if _HOST.fullmatch(name) and len(name) <= 253:
                found.setdefault(name.lower(), x509.DNSName(name))
        else:
            if not address.is_unspecified:
                found.setdefault(str(address), x509.IPAddress(address))
    return list(found.values())
