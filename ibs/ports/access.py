"""Where identities and access rules are kept. Implemented by `catalog` (SQLite); used by `security`.

All changes are durable when the call returns. Times are ns since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class UserRecord:
    """`auth_id` is `user@realm`. A disabled user's tokens are refused too."""

    auth_id: str
    enabled: bool
    comment: str
    created_ns: int


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """`auth_id` is `user@realm!token`; `digest` keyed BLAKE3-256 of the secret; None: never expires, never used."""

    auth_id: str
    user: str
    digest: bytes = field(repr=False)
    enabled: bool
    comment: str
    created_ns: int
    expires_ns: int | None = None
    last_used_ns: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class AclRecord:
    """`auth_id` (user or token) has `role` on `path`, and below it if `propagate`."""

    path: str
    auth_id: str
    role: str
    propagate: bool = True


@dataclass(frozen=True, slots=True, order=True)
class RoleRecord:
    """A role beside the built-in ones. `privileges` are names, sorted."""

    name: str
    privileges: tuple[str, ...]
    comment: str = ""


@dataclass(frozen=True, slots=True, order=True)
class GroupRecord:
    """A group of users. `name` without the mark that rules write before it; `members` are `user@realm`, sorted."""

    name: str
    members: tuple[str, ...]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """How a user logs in. `password` Argon2id, "" none; `totp` sealed, b"" none; `recovery` digests, spaces between.

    `totp_step` is the last one whose code was used.
    """

    auth_id: str
    password: str = field(repr=False)
    totp: bytes = field(repr=False)
    totp_step: int
    recovery: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """Wrong logins of late: of a user (`kind` "user") or from an address ("peer")."""

    kind: str
    name: str
    count: int
    last_ns: int


class LoginRecords(Protocol):
    """Passwords and second factors of users."""

    async def login(self, auth_id: str) -> LoginRecord | None:
        """None when the user has none, or does not exist."""
        ...

    async def failures(self) -> Sequence[FailureRecord]:
        """All that are kept, the oldest first."""
        ...

    async def note_failures(self, records: Sequence[FailureRecord], *, since_ns: int, rows_max: int) -> None:
        """Add or replace, durably; those before `since_ns` go, and the oldest of more than `rows_max` of a kind."""
        ...

    async def forget_failures(self, kind: str, name: str) -> None:
        """Nothing when there is none."""
        ...

    async def set_login(self, record: LoginRecord) -> None:
        """Add or replace. Raises NotFoundError without the user."""
        ...


class AccessRecords(Protocol):
    """Users, their tokens, groups and roles, and who has which role where."""

    async def users(self) -> Sequence[UserRecord]:
        """All, by auth-id."""
        ...

    async def add_user(self, record: UserRecord) -> None:
        """Raises ConflictError when it exists, or there are too many."""
        ...

    async def set_user(self, auth_id: str, *, enabled: bool) -> None:
        """Raises NotFoundError."""
        ...

    async def remove_user(self, auth_id: str) -> None:
        """With its tokens and all rules that name it or them. Raises NotFoundError."""
        ...

    async def tokens(self) -> Sequence[TokenRecord]:
        """All, by auth-id."""
        ...

    async def add_token(self, record: TokenRecord) -> None:
        """Raises ConflictError when it exists, or there are too many; NotFoundError without the user."""
        ...

    async def put_token(self, record: TokenRecord) -> None:
        """Add, or replace the token of that auth-id; its rules stay. Raises NotFoundError without the user."""
        ...

    async def set_token(self, auth_id: str, *, enabled: bool) -> None:
        """Raises NotFoundError."""
        ...

    async def remove_token(self, auth_id: str) -> None:
        """With the rules that name it. Raises NotFoundError."""
        ...

    async def tokens_used(self, times: Mapping[str, int]) -> None:
        """Note when tokens last came in; unknown ones are passed over."""
        ...

    async def rules(self) -> Sequence[AclRecord]:
        """All, by path."""
        ...

    async def grant(self, rule: AclRecord) -> None:
        """Add, or replace the rule of the same path, auth-id and role. Raises ConflictError: too many."""
        ...

    async def revoke(self, path: str, auth_id: str, role: str) -> None:
        """Raises NotFoundError."""
        ...

    async def roles(self) -> Sequence[RoleRecord]:
        """All, by name."""
        ...

    async def add_role(self, record: RoleRecord) -> None:
        """Raises ConflictError when it exists, or there are too many."""
        ...

    async def set_role(self, record: RoleRecord) -> None:
        """Replace the role of that name. Raises NotFoundError."""
        ...

    async def remove_role(self, name: str) -> None:
        """Raises NotFoundError; ConflictError while a rule gives it."""
        ...

    async def groups(self) -> Sequence[GroupRecord]:
        """All, by name."""
        ...

    async def add_group(self, record: GroupRecord) -> None:
        """Raises ConflictError when it exists, or there are too many; NotFoundError for a member that is no user."""
        ...

    async def set_group(self, record: GroupRecord) -> None:
        """Replace the group of that name. Raises NotFoundError, also for a member that is no user."""
        ...

    async def remove_group(self, name: str, holder: str) -> None:
        """With the rules for `holder`, the name that rules know it by. Raises NotFoundError."""
        ...
