"""API tokens: their secrets, how they are kept, and how a request presents them.

Pure but for entropy; used by `security.access` and `security.identities`. A secret has 256 random bits, so it is kept
as a keyed BLAKE3 digest (guessing it is hopeless, a slow hash would only slow the server), bound to its auth-id.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Callable
from typing import Final

from blake3 import blake3

from ibs.core import limits
from ibs.core.access import AuthId, check_auth_id
from ibs.errors import NotAuthenticated, UsageError

SECRET_BYTES: Final = 32
_DECOY: Final = bytes(32)


def new_secret(entropy: Callable[[int], bytes] = os.urandom) -> str:
    """43 characters of base64url: 256 random bits."""
    return base64.urlsafe_b64encode(entropy(SECRET_BYTES)).rstrip(b"=").decode()


def token_digest(key: bytes, auth_id: str, secret: str) -> bytes:
    """What is kept of a secret. `key` is `ServerSecrets.token_key`; a digest does not fit another auth-id."""
    return blake3(f"{auth_id}\0{secret}".encode("utf-8", "surrogatepass"), key=key).digest()


def secret_fits(key: bytes, auth_id: str, secret: str, digest: bytes | None) -> bool:
    """Whether `secret` belongs to `digest`; takes the same time for None, an identity that is not known."""
    equal = hmac.compare_digest(token_digest(key, auth_id, secret), _DECOY if digest is None else digest)
    return equal and digest is not None


def parse_bearer(header: str) -> tuple[AuthId, str]:
    """Identity and secret of `Bearer AUTH-ID:SECRET`. Raises NotAuthenticated, which repeats nothing of a secret."""
    if not header:
        raise NotAuthenticated("no credential was given")
    scheme, _, credential = header[: limits.AUTHORIZATION_CHARS_MAX + 1].partition(" ")
    auth_id, colon, secret = credential.strip().partition(":")
    malformed = len(header) > limits.AUTHORIZATION_CHARS_MAX or scheme.lower() != "bearer" or not colon or not secret
    try:
        who = None if malformed else check_auth_id(auth_id)
    except UsageError:
        who = None
    if who is None:
        hint = "send: Authorization: Bearer USER@REALM!TOKEN:SECRET"
        raise NotAuthenticated("the credential is malformed", hint=hint)
    return who, secret
