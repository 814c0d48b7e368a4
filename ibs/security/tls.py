"""The server's certificate: self-signed, made at the first start, valid for ten years, pinned by its fingerprint.

Or another that an administrator gave; either is replaced only on request, and the one before it is kept beside it.

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
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ibs.core.ids import hex_fingerprint
from ibs.core.names import format_time
from ibs.errors import FailedError, UsageError
from ibs.security.private import read_private, write_private

FILE: Final = "tls.pem"
VALID_DAYS: Final = 3653
RSA_BITS_MIN: Final = 2048
_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key in one PEM file. `fingerprint` is the colon form; `expires` aware."""

    path: Path
    fingerprint: str
    expires: datetime
    subject: str = ""
    issuer: str = ""
    names: tuple[str, ...] = ()

    @property
    def self_signed(self) -> bool:
        """Whether nobody else vouches for it."""
        return self.subject == self.issuer


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
    return _described(path, certificate)


def install(state: Path, content: bytes, now: datetime) -> Certificate:
    """Put certificate and key (PEM, leaf first, then those between it and its authority) in the place of the old ones.

    The old file stays as `tls.pem.previous`. Blocks. *Durability*: durable when it returns. Raises UsageError for what
    no server can use; nothing is changed then.
    """
    certificate = _checked(content, now)
    path, new = state / FILE, state / f"{FILE}.new"
    write_private(new, content)
    try:
        server_context(_described(new, certificate), [])
    except FailedError as error:
        new.unlink(missing_ok=True)
        raise UsageError("the certificate cannot be used by a server", hint=str(error.__cause__)[:200]) from error
    previous = read_private(path)
    if previous is not None:
        write_private(state / f"{FILE}.previous", previous)
    write_private(path, content)
    new.unlink(missing_ok=True)
    return _described(path, certificate)


def checked(path: Path, content: bytes, now: datetime) -> Certificate:
    """What `content` (PEM) holds, as if it lay in `path`. Raises UsageError for what no server can use."""
    return _described(path, _checked(content, now))


def make(node: str, names: Iterable[str], now: datetime) -> bytes:
    """A new self-signed certificate with its key, as PEM."""
    return _make(node, names, now)


def _checked(content: bytes, now: datetime) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificates(content)[0]
    except (ValueError, IndexError) as error:
        hint = "give certificate and key in PEM, the server's own certificate first"
        raise UsageError("there is no certificate in it", hint=hint) from error
    try:
        key = serialization.load_pem_private_key(content, None)
    except TypeError as error:
        raise UsageError("the key is encrypted", hint="give it without a passphrase: openssl pkey -in KEY") from error
    except ValueError as error:
        raise UsageError("there is no private key in it", hint="give certificate and key in one PEM file") from error
    if key.public_key() != certificate.public_key():
        raise UsageError("the key is not that of the certificate", hint="the server's own certificate comes first")
    if certificate.not_valid_after_utc <= now:
        raise UsageError(f"the certificate expired at {format_time(certificate.not_valid_after_utc)}")
    if certificate.not_valid_before_utc > now:
        raise UsageError(f"the certificate is not valid before {format_time(certificate.not_valid_before_utc)}")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_BITS_MIN:
        raise UsageError(f"its RSA key has {key.key_size} bits", hint=f"use {RSA_BITS_MIN} or more, or P-256")
    return certificate


def _described(path: Path, certificate: x509.Certificate) -> Certificate:
    der = certificate.public_bytes(serialization.Encoding.DER)
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(str(name.value) for name in found)
    except (x509.ExtensionNotFound, ValueError):
        names = ()
    return Certificate(
        path,
        certificate_fingerprint(der),
        certificate.not_valid_after_utc,
        certificate.subject.rfc4514_string(),
        certificate.issuer.rfc4514_string(),
        names,
    )


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
