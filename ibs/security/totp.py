"""One-time codes of an authenticator: RFC 6238 with SHA-1, six digits, thirty seconds, as all of them know it.

Pure; used by `security.logins`. A code fits one step before and after now, for clocks that differ; that each fits once
only is the caller's to keep, by the step that `matching_step` returns.
"""

from __future__ import annotations

import base64
import hmac
from typing import Final
from urllib.parse import quote

SECRET_BYTES: Final = 20
STEP_SECONDS: Final = 30
DIGITS: Final = 6
_AROUND: Final = (0, -1, 1)


def code(secret: bytes, step: int, digits: int = DIGITS) -> str:
    """The code of one step (RFC 4226, 5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    at = digest[-1] & 0x0F
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**digits).zfill(digits)


def matching_step(secret: bytes, text: str, seconds: int, after: int) -> int | None:
    """The step whose code `text` is, around `seconds` since the epoch and later than `after`; None: there is none."""
    now, found = seconds // STEP_SECONDS, None
    for offset in _AROUND:  # all of them, whatever fits: the time taken tells nothing
        step = now + offset
        fits = hmac.compare_digest(code(secret, max(step, 0)).encode(), text.encode("utf-8", "surrogatepass"))
        if fits and step > after:
            found = step
    return found


def uri(secret: bytes, user: str, issuer: str) -> str:
    """What an authenticator takes, typed or as a QR code."""
    words = base64.b32encode(secret).decode().rstrip("=")
    return f"otpauth://totp/{quote(issuer)}:{quote(user)}?secret={words}&issuer={quote(issuer)}"
