"""Who calls, and what they may do: authentication of bearer tokens and the answer to every question of rights.

Made by `app`; asked by `control` for every request. The rows of `ports.access.AccessRecords` are held in memory whole
(they are few and bounded), so an answer costs microseconds and no database. Invariants: when the rows could not be read
nobody gets in; a token or user that was removed, disabled or has expired loses its rights at once, also in connections
that were made before; a token never has more than its user (`core.access`, rule 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import trio

from ibs.core import limits
from ibs.core.access import AclRule, AuthId, Decision, Privilege, allowed, allowed_within, as_auth_id
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import format_time
from ibs.errors import FailedError, NotAuthenticated, UnavailableError
from ibs.log import get_logger
from ibs.ports.access import AccessRecords, TokenRecord, UserRecord
from ibs.ports.clock import Clock
from ibs.runtime.bus import Bus
from ibs.security.attempts import Attempts
from ibs.security.tokens import parse_bearer, secret_fits

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


_NOBODY = _Rows({}, {}, {})


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
        except BaseException:
            self._rows, self._loaded = _NOBODY, False
            raise
        by_identity: dict[str, list[AclRule]] = {}
        for rule in rules:
            known = AclRule(rule.path, rule.role, rule.auth_id, rule.propagate)
            by_identity.setdefault(rule.auth_id, []).append(known)
        self._rows = _Rows(
            {user.auth_id: user for user in users}, {token.auth_id: token for token in tokens}, by_identity
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
            if not secret_fits(self._token_key, str(who), secret, token.digest if token else None):
                hint = "" if who.is_token else "log in with an API token: USER@REALM!TOKEN:SECRET"
                raise NotAuthenticated(_WRONG, hint=hint)
            self._check_valid(who)
        except NotAuthenticated as error:
            if header:
                self._note_failure(header, peer, error)
            raise
        await self._note_use(str(who))
        return Principal(str(who), peer)

    def decide(self, principal: Principal, privilege: Privilege, path: str) -> Decision:
        """The decision with its reason. Raises NotAuthenticated when the identity no longer holds."""
        if not principal.auth_id:
            raise NotAuthenticated("no credential was given")
        who = as_auth_id(principal.auth_id)
        self._check_valid(who)
        return allowed(self._rules(who), who, path, privilege)

    def _rules(self, who: AuthId) -> list[AclRule]:
        """Those of the user and of the token; they are one list for a user."""
        return [*self._rows.rules.get(str(who.of_user), ()), *self._rows.rules.get(str(who), ())]

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
        return allowed_within(self._rules(who), who, path, privilege)

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
        token, user = self._rows.tokens.get(str(who)), self._rows.users.get(str(who.of_user))
        if token is None or user is None:
            raise NotAuthenticated(_WRONG)
        if not user.enabled:
            raise NotAuthenticated(f"user {user.auth_id} is disabled", hint="ask an administrator")
        if not token.enabled:
            raise NotAuthenticated(f"token {token.auth_id} is disabled", hint="ask an administrator")
        if token.expires_ns is not None and self._clock.now_ns() >= token.expires_ns:
            expired = format_time(datetime.fromtimestamp(token.expires_ns // _NS, UTC))
            raise NotAuthenticated(f"token {token.auth_id} expired at {expired}", hint="make a new token")

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


def _claimed(header: str) -> str:
    """Whom the sender said to be, if that is an identity at all; never a part of a secret."""
    try:
        return str(parse_bearer(header)[0])
    except NotAuthenticated:
        return ""
