"""Changing who exists and who may do what: users, tokens, rules.

Made by `app`; called by `control`, which has checked Access.Modify (or Access.Audit for the listings). Each change is
checked, durable, in force at once, and told on the bus for the audit log. Invariant: when a call returns or fails,
`AccessChecker` answers by what is on disk, or lets nobody in.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import trio

from ibs.core import limits
from ibs.core.access import GROUP_MARK, ROLES, ROOT, AclRule, AuthId, check_auth_id
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import format_time, parse_time
from ibs.errors import ConflictError, NotFoundError, UsageError
from ibs.ports.access import AccessRecords, AclRecord, TokenRecord, UserRecord
from ibs.ports.clock import Clock
from ibs.runtime.bus import Bus
from ibs.security.access import AccessChecker, known_privileges
from ibs.security.tokens import new_secret, token_digest
from ibs.wire.system import AclEntry, TokenCreate, TokenCreated, TokenView, UserCreate, UserView

_NS: Final = 1_000_000_000


class Identities:
    """Users, tokens and rules. `by` is always the auth-id of who asked for the change."""

    def __init__(
        self,
        records: AccessRecords,
        checker: AccessChecker,
        token_key: bytes,
        *,
        clock: Clock,
        bus: Bus[Event],
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._records = records
        self._checker = checker
        self._token_key = token_key
        self._clock = clock
        self._bus = bus
        self._entropy = entropy
        self._changing = trio.Lock()
        self.known_realm: Callable[[str], Awaitable[bool]] = _only_built_in
        """Whether there is a realm of that name beside the built-in one."""

    async def users(self) -> list[UserView]:
        """All users, by name."""
        return [_user_view(user) for user in await self._records.users()]

    async def create_user(self, by: str, request: UserCreate) -> UserView:
        """A user without rights. Raises UsageError, ConflictError."""
        who = check_auth_id(request.auth_id)
        if who.is_token:
            raise UsageError(f"{who} is a token, not a user", hint="write a user like anna@ibs")
        if who.realm != ROOT.realm and not await self.known_realm(who.realm):
            raise UsageError(
                f"realm {who.realm} does not exist", hint=f"use {ROOT.realm}, or see: ironcore-backup realm list"
            )
        record = UserRecord(str(who), True, check_comment(request.comment), self._clock.now_ns())
        async with self.change(by, "access.user-created", f"user {who} was made", auth_id=str(who)):
            await self._records.add_user(record)
        return _user_view(record)

    async def set_user(self, by: str, auth_id: str, *, enabled: bool) -> UserView:
        """Let a user and its tokens in again, or keep them out.

        Raises NotFoundError, ConflictError for root and for the one that asks.
        """
        if not enabled:
            _refuse_root(auth_id)
            _refuse_self(by, auth_id)
        what = "enabled" if enabled else "disabled"
        async with self.change(by, f"access.user-{what}", f"user {auth_id} was {what}", auth_id=auth_id):
            await self._records.set_user(auth_id, enabled=enabled)
        found = next((user for user in await self.users() if user.auth_id == auth_id), None)
        return found or UserView(auth_id=auth_id, enabled=enabled)  # removed meanwhile

    async def remove_user(self, by: str, auth_id: str) -> None:
        """With its tokens and rules; its backups stay. Raises NotFoundError, ConflictError for root."""
        _refuse_root(auth_id)
        async with self.change(by, "access.user-removed", f"user {auth_id} was removed", auth_id=auth_id):
            await self._records.remove_user(auth_id)

    async def tokens(self) -> list[TokenView]:
        """All tokens, by name; never their secrets."""
        return [_token_view(token) for token in await self._records.tokens()]

    async def create_token(self, by: str, request: TokenCreate) -> TokenCreated:
        """A token of a user, without rights of its own until rules give it some. The secret is told here only.

        Raises UsageError, NotFoundError without the user, ConflictError.
        """
        who = check_auth_id(request.auth_id)
        if not who.is_token:
            raise UsageError(f"{who} is not a token", hint="write a token like anna@ibs!laptop")
        now = self._clock.now_ns()
        expires_ns = int(parse_time(request.expires).timestamp()) * _NS if request.expires else None
        if expires_ns is not None and expires_ns <= now:
            raise UsageError(f"the time {request.expires} has passed", hint="give a later one, or none")
        secret = new_secret(self._entropy)
        record = self._token(who, secret, check_comment(request.comment), expires_ns)
        fields = {"auth_id": str(who), "expires": request.expires}
        async with self.change(by, "access.token-created", f"token {who} was made", **fields):
            await self._records.add_token(record)
        return TokenCreated(auth_id=str(who), secret=secret)

    async def set_token(self, by: str, auth_id: str, *, enabled: bool) -> TokenView:
        """Let a token in again, or keep it out. Raises NotFoundError, ConflictError for the one that asks."""
        if not enabled:
            _refuse_self(by, auth_id)
        what = "enabled" if enabled else "disabled"
        async with self.change(by, f"access.token-{what}", f"token {auth_id} was {what}", auth_id=auth_id):
            await self._records.set_token(auth_id, enabled=enabled)
        found = next((token for token in await self.tokens() if token.auth_id == auth_id), None)
        return found or TokenView(auth_id=auth_id, enabled=enabled)

    async def remove_token(self, by: str, auth_id: str) -> None:
        """With its rules. Raises NotFoundError."""
        async with self.change(by, "access.token-removed", f"token {auth_id} was removed", auth_id=auth_id):
            await self._records.remove_token(auth_id)

    async def acl(self) -> list[AclEntry]:
        """All rules, by path."""
        return [
            AclEntry(path=rule.path, role=rule.role, auth_id=rule.auth_id, propagate=rule.propagate)
            for rule in await self._records.rules()
        ]

    async def grant(self, by: str, entry: AclEntry) -> AclEntry:
        """Give a role on a path. Raises UsageError, NotFoundError for an identity that does not exist."""
        own = {role.name: known_privileges(role.privileges) for role in await self._records.roles()}
        AclRule(entry.path, entry.role, entry.auth_id, entry.propagate).checked({**own, **ROLES})
        if entry.auth_id == str(ROOT):
            raise ConflictError(f"{ROOT} has every right already", hint="rules matter for its tokens, and for others")
        text = f"{entry.auth_id} was given {entry.role} on {entry.path}"
        fields = {"auth_id": entry.auth_id, "path": entry.path, "role": entry.role}
        async with self.change(by, "access.granted", text, **fields):
            users = {user.auth_id for user in await self._records.users()}
            tokens = {token.auth_id for token in await self._records.tokens()}
            groups = {GROUP_MARK + group.name for group in await self._records.groups()}
            if entry.auth_id not in users | tokens | groups:
                hint = "make it first: ironcore-backup user create, token create, usergroup create"
                raise NotFoundError(f"{entry.auth_id} does not exist", hint=hint)
            await self._records.grant(AclRecord(entry.path, entry.auth_id, entry.role, entry.propagate))
        return entry

    async def revoke(self, by: str, path: str, role: str, auth_id: str) -> None:
        """Take a role on a path away. Raises NotFoundError."""
        text = f"{auth_id} lost {role} on {path}"
        async with self.change(by, "access.revoked", text, auth_id=auth_id, path=path, role=role):
            await self._records.revoke(path, auth_id, role)

    async def reset_token(self, by: str, who: AuthId, comment: str) -> str:
        """Make the token anew if it is there or not, enabled, with the role Admin on /; return its secret.

        For the server's own administrator. Raises NotFoundError without the user.
        """
        secret = new_secret(self._entropy)
        async with self.change(by, "access.token-created", f"token {who} was made anew", auth_id=str(who)):
            await self._records.put_token(self._token(who, secret, comment, None))
            await self._records.grant(AclRecord("/", str(who), "Admin"))
        return secret

    def _token(self, who: AuthId, secret: str, comment: str, expires_ns: int | None) -> TokenRecord:
        return TokenRecord(
            auth_id=str(who),
            user=str(who.of_user),
            digest=token_digest(self._token_key, str(who), secret),
            enabled=True,
            comment=comment,
            created_ns=self._clock.now_ns(),
            expires_ns=expires_ns,
        )

    @asynccontextmanager
    async def change(self, by: str, kind: str, text: str, **fields: str) -> AsyncIterator[None]:
        """One change at a time; shielded, so that what is on disk is also in force when it is over."""
        async with self._changing:
            with trio.CancelScope(shield=True):
                try:
                    yield
                finally:
                    await self._checker.load()
        self._bus.publish(
            Event(
                time=self._clock.now(),
                source=EventSource.CONFIGURATION,
                severity=Severity.NOTICE,
                kind=kind,
                text=f"{text} by {by}"[: limits.EVENT_TEXT_CHARS_MAX],
                fields={**fields, "by": by},
            )
        )


def check_comment(text: str) -> str:
    if len(text) > limits.COMMENT_CHARS_MAX:
        raise UsageError(f"the comment has {len(text)} characters, allowed are {limits.COMMENT_CHARS_MAX}")
    if not text.isprintable():
        raise UsageError("the comment holds line breaks or control characters", hint="write it in one line")
    return text


def _refuse_self(by: str, auth_id: str) -> None:
    if by == auth_id or by.startswith(f"{auth_id}!"):
        raise ConflictError(
            f"{by} would lock itself out by that", hint="ask with another credential, such as the server's root token"
        )


def _refuse_root(auth_id: str) -> None:
    if auth_id == str(ROOT):
        raise ConflictError(f"{ROOT} is always there", hint="disable or remove its tokens instead")


async def _only_built_in(_name: str) -> bool:
    return False


def _user_view(user: UserRecord) -> UserView:
    return UserView(auth_id=user.auth_id, enabled=user.enabled, comment=user.comment)


def _token_view(token: TokenRecord) -> TokenView:
    return TokenView(
        auth_id=token.auth_id,
        enabled=token.enabled,
        comment=token.comment,
        expires=_time(token.expires_ns),
        last_used=_time(token.last_used_ns),
    )


def _time(time_ns: int | None) -> str:
    return "" if time_ns is None else format_time(datetime.fromtimestamp(time_ns // _NS, UTC))
