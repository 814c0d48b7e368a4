"""Bodies of the routes about roles, groups of users, and why something is allowed."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ibs.core import limits
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
    """`role_wanted` is the least role that would allow it."""

    privilege: str
    allowed: bool
    reason: str
    role_wanted: str


class Explained(Wire, frozen=True, kw_only=True):
    """`kept_out` is why the identity is refused whatever its rights, such as a token that expired; "" otherwise."""

    auth_id: str
    path: str
    rules: list[ExplainedRule]
    rights: list[ExplainedRight]
    groups: list[str] = []
    kept_out: str = ""


class CertificateView(Wire, frozen=True, kw_only=True):
    """What the server shows those who connect. `fingerprint` is what clients pin."""

    fingerprint: str
    expires: str
    days_left: int
    subject: str
    issuer: str
    self_signed: bool
    names: list[str]


class CertificateReplace(Wire, frozen=True, kw_only=True):
    """`pem`: the server's certificate, those between it and its authority, and its key without a passphrase."""

    pem: Annotated[str, msgspec.Meta(max_length=limits.PRIVATE_FILE_BYTES_MAX)]
