"""Bodies of the routes about roles, groups of users, and why something is allowed."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ibs.core import limits, limits_access
from ibs.wire.common import Wire


class RoleView(Wire, frozen=True, kw_only=True):
    """`built_in` ones cannot be changed."""

    name: str
    privileges: list[str]
    comment: str = ""
    built_in: bool = False


class RoleSet(Wire, frozen=True, kw_only=True):
    """A role of one's own, whole."""

    name: str
    privileges: list[str]
    comment: str = ""


class UserGroupView(Wire, frozen=True, kw_only=True):
    """A group of users; rules name it `@name`."""

    name: str
    members: list[str]
    comment: str = ""


class UserGroupSet(Wire, frozen=True, kw_only=True):
    """A group of users, whole."""

    name: str
    members: list[str] = []
    comment: str = ""


class ExplainedRule(Wire, frozen=True, kw_only=True):
    """`of` is `user` or `token`: whose rights it bears on. `fate` says what it does for the path."""

    of: str
    path: str
    role: str
    auth_id: str
    propagate: bool
    inherited: bool
    fate: str


class ExplainedRight(Wire, frozen=True, kw_only=True):
    """`role_wanted` is the least role that would allow it, `grant_to` who must be given it: user, token, or both."""

    privilege: str
    allowed: bool
    reason: str
    role_wanted: str
    grant_to: list[str] = []


class Explained(Wire, frozen=True, kw_only=True):
    """`kept_out` is why the identity is refused whatever its rights, such as a token that expired; "" otherwise."""

    auth_id: str
    path: str
    rules: list[ExplainedRule]
    rights: list[ExplainedRight]
    groups: list[str] = []
    kept_out: str = ""


class CertificateView(Wire, frozen=True, kw_only=True):
    """What the server shows those who connect. `fingerprint` is what clients pin.

    `next_fingerprint` is served from `next_from` on; `unaware` are hosts whose agents were not told of it yet.
    """

    fingerprint: str
    expires: str
    days_left: int
    subject: str
    issuer: str
    self_signed: bool
    names: list[str]
    next_fingerprint: str = ""
    next_from: str = ""
    unaware: list[str] = []


class CertificateRenew(Wire, frozen=True, kw_only=True):
    """Serve the new certificate in so many seconds, 0 for at once."""

    seconds: Annotated[float, msgspec.Meta(ge=0, le=limits_access.CERTIFICATE_NEXT_SECONDS_MAX)] = 0


class CertificateReplace(Wire, frozen=True, kw_only=True):
    """`pem`: the server's certificate, those between it and its authority, and its key without a passphrase.

    Served in so many `seconds`, 0 for at once.
    """

    seconds: Annotated[float, msgspec.Meta(ge=0, le=limits_access.CERTIFICATE_NEXT_SECONDS_MAX)] = 0
    pem: Annotated[str, msgspec.Meta(max_length=limits.PRIVATE_FILE_BYTES_MAX)]


class LoginRequest(Wire, frozen=True, kw_only=True):
    """`code` of the second factor, or a recovery code; "" without one."""

    auth_id: str
    password: str
    code: str = ""


class LoginGranted(Wire, frozen=True, kw_only=True):
    """`secret` goes with `auth_id` as that of a token does, until `expires` or a restart of the server."""

    auth_id: str
    secret: str
    expires: str


class PasswordSet(Wire, frozen=True, kw_only=True):
    """The password that the user logs in with from now on."""

    password: str


class LoginView(Wire, frozen=True, kw_only=True):
    """How a user may log in. `sessions` is how many logins hold at present."""

    auth_id: str
    password: bool
    totp: bool
    recovery_left: int
    sessions: int


class TotpMade(Wire, frozen=True, kw_only=True):
    """A second factor; its secret and codes are in this answer and nowhere else. `uri` is what a QR code holds."""

    auth_id: str
    secret: str
    uri: str
    recovery: list[str]
