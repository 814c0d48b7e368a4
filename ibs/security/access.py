"""Who calls, and what they may do: authentication of bearer tokens and the answer to every question of rights.

Made by `app`; asked by `control` for every request. The rows of `ports.access.AccessRecords` are held in memory whole
(they are few and bounded), so an answer costs microseconds and no database. Invariants: when the rows could not be read
nobody gets in; a token or user that was removed, disabled or has expired loses its rights at once, also in connections
that were made before; a token never has more than its user (`core.access`, rule 3).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import trio

from ibs.core import limits, limits_access
from ibs.core.access import (
    GROUP_MARK,
    ROLES,
    AclRule,
    AuthId,
    Decision,
    Privilege,
    allowed,
    allowed_within,
    as_auth_id,
)
from ibs.core.access_explain import Explanation, explain
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import format_time
from ibs.errors import FailedError, NotAuthenticated, NotFoundError, UnavailableError
from ibs.log import get_logger
from ibs.ports.access import AccessRecords, TokenRecord, UserRecord
from ibs.ports.clock import Clock
from ibs.runtime.bus import Bus
from ibs.security.attempts import Attempts
from ibs.security.tokens import parse_bearer, secret_fits, token_digest

_WRONG = "the credential is not valid"
_NS = 1_000_000_000
_log = get_logger("api")


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `auth_id` "" is nobody: a caller of an open route."""

    auth_id: str
    peer: str = ""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is known of all identities, indexed."""

    users: dict[str, UserRecord]
    tokens: dict[str, TokenRecord]
    rules: dict[str, list[AclRule]]
    roles: Mapping[str, frozenset[Privilege]]
    groups: dict[str, list[str]]
    """Of each user those it is in, with the mark."""


_NOBODY = _Rows({}, {}, {}, ROLES, {})


class AccessChecker:
    """Answers `authenticate`, `allows` and `require`. Call `load` once before, and after every change."""

    anonymous = Principal("")

    def __init__(self, records: AccessRecords, token_key: bytes, *, clock: Clock, bus: Bus[Event]) -> None:
        self._records = records
        self._token_key = token_key
        self._clock = clock
        self._bus = bus
        self._attempts = Attempts(clock)
        self._rows = _NOBODY
        self._loaded = False
        self._loading = trio.Lock()
        self._used: dict[str, int] = {}
        self._noted: dict[str, int] = {}
        self._noting = False
        self._sessions: dict[str, dict[bytes, int]] = {}

    async def load(self) -> None:
        """Read all rows; until they are here the old ones hold. When they cannot be read, nobody gets in any more.

        *Cancellation*: not in between, since a change that is durable must not stay without effect.
        Raises FailedError, UnavailableError.
        """
        with trio.CancelScope(shield=True):
            # One at a time: an older reading must not overwrite a newer one.
            async with self._loading:
                await self._load()

    async def _load(self) -> None:
        try:
            users = await self._records.users()
            tokens = await self._records.tokens()
            rules = await self._records.rules()
            roles = await self._records.roles()
            groups = await self._records.groups()
        except BaseException:
            self._rows, self._loaded = _NOBODY, False
            raise
        by_identity: dict[str, list[AclRule]] = {}
        for rule in rules:
            known = AclRule(rule.path, rule.role, rule.auth_id, rule.propagate)
            by_identity.setdefault(rule.auth_id, []).append(known)
        own = {role.name: known_privileges(role.privileges) for role in roles}
        of_user: dict[str, list[str]] = {}
        for group in groups:
            for member in group.members:
                of_user.setdefault(member, []).append(GROUP_MARK + group.name)
        self._rows = _Rows(
            {user.auth_id: user for user in users},
            {token.auth_id: token for token in tokens},
            by_identity,
            {**own, **ROLES},  # a built-in role is never replaced
            of_user,
        )
        self._loaded = True

    async def authenticate(self, header: str, peer: str) -> Principal:
        """Who sent this `Authorization` header from the address `peer`.

        Raises NotAuthenticated. A right credential always passes: what is limited by address is only how much a wrong
        one can make the server say, so that nobody can lock out others behind the same address.
        """
        if not self._loaded:
            await self.load()
        try:
            who, secret = parse_bearer(header)
            token = self._rows.tokens.get(str(who)) if who.is_token else None
            digest = token.digest if token else self._session_digest(who, secret)
            if not secret_fits(self._token_key, str(who), secret, digest):
                hint = "" if who.is_token else "log in with an API token: USER@REALM!TOKEN:SECRET"
                raise NotAuthenticated(_WRONG, hint=hint)
            self._check_valid(who)
        except NotAuthenticated as error:
            if header:
                self._note_failure(header, peer, error)
            raise
        if who.is_token:
            await self._note_use(str(who))
        return Principal(str(who), peer)

    # --- logins of people ---

    def begin_session(self, auth_id: str, digest: bytes, expires_ns: int) -> None:
        """The secret with this digest stands for the user until then. The oldest of too many goes."""
        now = self._clock.now_ns()
        live = {one: end for one, end in self._sessions.get(auth_id, {}).items() if end > now}
        while len(live) >= limits_access.LOGIN_SESSIONS_PER_USER_MAX:
            del live[next(iter(live))]
        self._sessions[auth_id] = {**live, digest: expires_ns}

    def end_sessions(self, auth_id: str) -> None:
        """All logins of the user, also those that are in use."""
        self._sessions.pop(auth_id, None)

    def sessions_of(self, auth_id: str) -> int:
        """How many logins of the user hold."""
        now = self._clock.now_ns()
        return sum(end > now for end in self._sessions.get(auth_id, {}).values())

    def _session_digest(self, who: AuthId, secret: str) -> bytes | None:
        """The digest of a login that fits, if it holds still."""
        if who.is_token:
            return None
        digest = token_digest(self._token_key, str(who), secret)
        now = self._clock.now_ns()
        live = [one for one, end in self._sessions.get(str(who), {}).items() if end > now]
        return next((one for one in live if hmac.compare_digest(one, digest)), None)

    # --- rights ---

    def decide(self, principal: Principal, privilege: Privilege, path: str) -> Decision:
        """The decision with its reason. Raises NotAuthenticated when the identity no longer holds."""
        if not principal.auth_id:
            raise NotAuthenticated("no credential was given")
        who = as_auth_id(principal.auth_id)
        self._check_valid(who)
        return allowed(self._rules(who), who, path, privilege, self._rows.roles, self._groups(who))

    def explain(self, auth_id: str, path: str) -> Explanation:
        """Why `auth_id` may do what on `path`; by its rules alone, also for one that is disabled or expired.

        Raises UsageError, NotFoundError for an identity that does not exist.
        """
        who = as_auth_id(auth_id)
        if str(who) not in (self._rows.tokens if who.is_token else self._rows.users):
            raise NotFoundError(f"{who} does not exist", hint="see: ironcore-backup user list, token list")
        return explain(self._rules(who), who, path, self._rows.roles, self._groups(who))

    def knows(self, auth_id: str) -> bool:
        """Whether there is such a user, enabled or not."""
        return auth_id in self._rows.users

    def why_not_valid(self, auth_id: str) -> str:
        """Why the token or user is kept out altogether; "" when it is not."""
        who = as_auth_id(auth_id)
        try:
            self._check_user(who.of_user)
            if who.is_token:
                self._check_valid(who)
        except NotAuthenticated as error:
            return error.message
        return ""

    def _rules(self, who: AuthId) -> list[AclRule]:
        """Those of the user, of its groups and of the token."""
        names = dict.fromkeys((str(who.of_user), str(who), *self._groups(who)))
        return [rule for name in names for rule in self._rows.rules.get(name, ())]

    def groups_of(self, who: AuthId) -> list[str]:
        """The groups of the user, or of the token's user, as rules name them."""
        return list(self._groups(who))

    def _groups(self, who: AuthId) -> list[str]:
        return self._rows.groups.get(str(who.of_user), [])

    def allows(self, principal: Principal, privilege: Privilege, path: str) -> bool:
        """Whether the caller holds `privilege` on `path`; False for one whose identity no longer holds."""
        try:
            return self.decide(principal, privilege, path).ok
        except NotAuthenticated:
            return False

    def allows_within(self, principal: Principal, privilege: Privilege, path: str) -> bool:
        """Whether the caller holds `privilege` on `path` or on something below it."""
        if not principal.auth_id:
            return False
        who = as_auth_id(principal.auth_id)
        try:
            self._check_valid(who)
        except NotAuthenticated:
            return False
        return allowed_within(self._rules(who), who, path, privilege, self._rows.roles, self._groups(who))

    def require(self, principal: Principal, privilege: Privilege, path: str) -> None:
        """Raises NotAuthorised (naming identity, missing role and path), NotAuthenticated."""
        self.decide(principal, privilege, path).require()

    async def flush(self) -> None:
        """Write the last-used times that wait; they are only roughly kept otherwise."""
        used, self._used = self._used, {}
        if used:
            try:
                await self._records.tokens_used(used)
            except (FailedError, UnavailableError) as error:
                _log.warning("last-used times of tokens cannot be written", error=error.message)

    def _check_valid(self, who: AuthId) -> None:
        """Token and user exist, are enabled, and the token has not expired. Raises NotAuthenticated."""
        if not who.is_token:
            self._check_user(who)
            if not self.sessions_of(str(who)):
                raise NotAuthenticated(f"the login of {who} has ended", hint="log in again: ironcore-backup login")
            return
        token = self._rows.tokens.get(str(who))
        if token is None:
            raise NotAuthenticated(_WRONG)
        self._check_user(who.of_user)
        if not token.enabled:
            raise NotAuthenticated(f"token {token.auth_id} is disabled", hint="ask an administrator")
        if token.expires_ns is not None and self._clock.now_ns() >= token.expires_ns:
            expired = format_time(datetime.fromtimestamp(token.expires_ns // _NS, UTC))
            raise NotAuthenticated(f"token {token.auth_id} expired at {expired}", hint="make a new token")

    def _check_user(self, who: AuthId) -> None:
        user = self._rows.users.get(str(who))
        if user is None:
            raise NotAuthenticated(_WRONG)
        if not user.enabled:
            raise NotAuthenticated(f"user {user.auth_id} is disabled", hint="ask an administrator")

    def _note_failure(self, header: str, peer: str, error: NotAuthenticated) -> None:
        """Log and publish the first failures of an address; say once that more are kept quiet."""
        count = self._attempts.failed(peer)
        if count > limits.AUTH_FAILURES_MAX:
            return
        last = " (further ones are not shown for a while)" if count == limits.AUTH_FAILURES_MAX else ""
        who = _claimed(header)
        _log.warning(f"login failed{last}", peer=peer, claimed=who, why=error.message)
        self._bus.publish(
            Event(
                time=self._clock.now(),
                source=EventSource.AUTHENTICATION,
                severity=Severity.WARNING,
                kind="authentication.failed",
                text=f"login failed from {peer or 'unknown'}: {error.message}{last}",
                fields={"peer": peer, "auth_id": who, "failures": count},
            )
        )

    async def _note_use(self, auth_id: str) -> None:
        """Remember when the token came in; written at most once a minute for each token."""
        now = self._clock.now_ns()
        grain = limits.TOKEN_LAST_USED_SECONDS * _NS
        if now - self._noted.get(auth_id, 0) < grain:
            return
        self._noted[auth_id] = self._used[auth_id] = now
        if len(self._noted) > limits.TOKENS_MAX:  # of removed tokens
            self._noted = {auth_id: now}
        if not self._noting:
            self._noting = True
            try:
                await self.flush()
            finally:
                self._noting = False


def known_privileges(names: Iterable[str]) -> frozenset[Privilege]:
    """Those of `names` that this program knows; others give nothing."""
    return frozenset(privilege for privilege in Privilege if privilege in frozenset(names))


def _claimed(header: str) -> str:
    """Whom the sender said to be, if that is an identity at all; never a part of a secret."""
    try:
        return str(parse_bearer(header)[0])
    except NotAuthenticated:
        return ""
