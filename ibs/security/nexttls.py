"""The certificate that will be served from some day on: checked when it is given, kept until then, or withdrawn.

Used by `services.certificates`. `STATE/tls.next.json` (0600): the day and the PEM, one file, so that a crash leaves
neither without the other. Functions block; what they write is durable when they return.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from ibs.core.names import format_time, parse_time
from ibs.errors import FailedError, FormatError, UsageError
from ibs.security.private import read_private, write_private
from ibs.security.tls import Certificate, checked

FILE: Final = "tls.next.json"


class NextCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """`serve_from`: RFC 3339. `pem`: certificate, chain and key. Never printed: it holds the key."""

    format: int = 1
    serve_from: str
    pem: str

    @property
    def when(self) -> datetime:
        """When it is to be served from."""
        return parse_time(self.serve_from)

    @property
    def content(self) -> bytes:
        """What `tls.install` takes."""
        return self.pem.encode("utf-8", "surrogatepass")


def stage(state: Path, content: bytes, when: datetime, now: datetime) -> tuple[NextCertificate, Certificate]:
    """Keep a certificate to be served from `when`. Raises UsageError for one that no server could use then."""
    certificate = checked(state / FILE, content, now)
    if certificate.expires <= when:
        raise UsageError(f"the certificate expires at {format_time(certificate.expires)}, before it would be served")
    kept = NextCertificate(serve_from=format_time(when), pem=content.decode("utf-8", "surrogatepass"))
    write_private(state / FILE, msgspec.json.encode(kept))
    return kept, certificate


def staged(state: Path, now: datetime) -> tuple[NextCertificate, Certificate] | None:
    """What is kept, if anything. Raises FailedError when it is damaged or can be served no more."""
    raw = read_private(state / FILE)
    if raw is None:
        return None
    try:
        kept = msgspec.json.decode(raw, type=NextCertificate)
        parse_time(kept.serve_from)
        return kept, checked(state / FILE, kept.content, now)
    except (msgspec.DecodeError, FormatError, UsageError) as error:
        raise FailedError(
            f"{state / FILE} does not hold a certificate that can be served: {error}",
            hint="prepare the next certificate anew: ironcore-backup certificate renew --in 7d",
        ) from error


def unstage(state: Path) -> None:
    """Keep nothing any more. Raises FailedError."""
    try:
        (state / FILE).unlink(missing_ok=True)
    except OSError as error:
        raise FailedError(
            f"cannot remove {state / FILE}: {error.strerror}", hint="check the state folder's owner"
        ) from error
