"""Logging in as a person: password, second factor, recovery codes, and how long wrong ones make everybody wait.

Made by `app`; called by `control`. A login gives a secret for `user@realm` itself, good for some hours or until the
server restarts, with the user's own rights; API tokens need none of this and stay as they are. Invariants: passwords
are kept as Argon2id, one-time secrets sealed under the server key, recovery codes as keyed digests; each code works
once; whether a user exists is not told by answer or time; who must wait is refused before anything is computed; a
wrong login is counted durably before it is answered, so a restart is no way around the wait.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import trio
from nacl import pwhash
from nacl.exceptions import CryptoError

from ibs.core import limits, limits_access
from ibs.core.access import ROOT, AuthId, check_auth_id
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import format_time
from ibs.errors import BusyError, ConflictError, NotAuthenticated, NotFoundError, UnavailableError, UsageError
from ibs.ports.access import FailureRecord, LoginRecord, LoginRecords
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.bus import Bus
from ibs.security import totp
from ibs.security.access import AccessChecker
from ibs.security.attempts import peer_key
from ibs.security.backoff import Backoff
from ibs.security.identities import Identities
from ibs.security.secrets import ServerSecrets
from ibs.security.tokens import new_secret, token_digest
from ibs.version import PRODUCT
from ibs.wire.access import LoginGranted, LoginRequest, LoginView, TotpMade

_NS = 1_000_000_000
_PURPOSE = "totp"
_USER, _PEER = "user", "peer"
_WRONG = "the login is not valid"
_DECOY = LoginRecord("", "", b"", 0, "")
AskRealm = Callable[[AuthId, str], Awaitable[bool]]
"""Whether the user's realm takes the password. Raises UnavailableError when it cannot say; False without the realm."""


class Logins:
    """One a server. `by` is always the auth-id of who asked for the change."""

    def __init__(
        self,
        records: LoginRecords,
        checker: AccessChecker,
        identities: Identities,
        secrets: ServerSecrets,
        *,
        clock: Clock,
        bus: Bus[Event],
        pool: Pool,
        entropy: Callable[[int], bytes] = os.urandom,
        ask_realm: AskRealm | None = None,
    ) -> None:
        self._records = records
        self._checker = checker
        self._identities = identities
        self._secrets = secrets
        self._clock = clock
        self._bus = bus
        self._pool = pool
        self._entropy = entropy
        self._users = Backoff(clock, limits_access.LOGIN_FREE_FAILURES)
        self._peers = Backoff(clock, limits_access.LOGIN_FREE_FAILURES)
        self._recalled = False
        self._one = trio.Lock()  # a code is used once, and guessing does not get faster by asking at once
        self._decoy_hash = b""
        self._ask_realm = ask_realm
        self._asking: set[str] = set()

    # --- logging in ---

    async def log_in(self, request: LoginRequest, peer: str) -> LoginGranted:
        """A secret for the user. Raises NotAuthenticated."""
        try:
            who = _check_user(request.auth_id)
        except UsageError as error:  # a stranger hears of nothing but its login
            raise NotAuthenticated(error.message, hint=error.hint) from error
        if who.realm == ROOT.realm:
            async with self._one:
                await self._recall()
                self._refuse_waiting(str(who), peer)
                record = await self._records.login(str(who))
                fits = await self._pool.cpu(self._password_fits, record, request.password)
                await self._let_in(who, record if fits else None, request.code, peer)
        else:
            await self._by_realm(who, request, peer)
        secret = new_secret(self._entropy)
        expires_ns = self._clock.now_ns() + limits_access.LOGIN_SESSION_SECONDS * _NS
        digest = token_digest(self._secrets.token_key, str(who), secret)
        self._checker.begin_session(str(who), digest, expires_ns)
        self._tell("authentication.login", f"{who} logged in from {peer or 'unknown'}", Severity.INFO, str(who), peer)
        return LoginGranted(auth_id=str(who), secret=secret, expires=_time(expires_ns))

    async def _by_realm(self, who: AuthId, request: LoginRequest, peer: str) -> None:
        """Let somebody in whose password is kept elsewhere. Raises NotAuthenticated, UnavailableError.

        The realm is asked without the lock, since it may take long; who guesses at once is refused instead.
        """
        with self._alone(f"{_USER} {_counted(who)}", f"{_PEER} {peer_key(peer)}"):
            async with self._one:
                await self._recall()
                self._refuse_waiting(_counted(who), peer)
            # Hanging up does not make a guess uncounted, and a realm that dawdles holds nobody for long.
            with trio.CancelScope(shield=True):
                fits = await self._realm_takes(who, request.password)
                async with self._one:
                    record = None
                    if fits and self._checker.knows(str(who)):
                        record = await self._records.login(str(who)) or replace(_DECOY, auth_id=str(who))
                    await self._let_in(who, record, request.code, peer)

    async def _realm_takes(self, who: AuthId, password: str) -> bool:
        """The realm's answer. Raises UnavailableError."""
        if self._ask_realm is None or not 0 < len(password) <= limits_access.PASSWORD_CHARS_MAX:
            return False
        with trio.move_on_after(limits_access.REALM_SECONDS_MAX):
            return await self._ask_realm(who, password)
        raise UnavailableError(f"realm {who.realm} does not answer", hint="try again later")

    async def _let_in(self, who: AuthId, record: LoginRecord | None, code: str, peer: str) -> None:
        """What follows a password that was right (there is a `record`) or not. Raises NotAuthenticated."""
        if record is None:
            raise await self._failed(_counted(who), peer)
        used = await self._second_factor(record, code, _counted(who), peer)
        if why := self._checker.why_not_valid(str(who)):
            raise NotAuthenticated(why, hint="ask an administrator")
        if used is not None:
            await self._records.set_login(used)
        if self._users.forget(_counted(who)):
            await self._records.forget_failures(_USER, _counted(who))

    @contextmanager
    def _alone(self, *names: str) -> Iterator[None]:
        """One login at a time of a user and from an address, and few in all. Raises BusyError."""
        if self._asking.intersection(names) or len(self._asking) >= limits_access.REALM_LOGINS_AT_ONCE * len(names):
            raise BusyError("another login of this user or address is under way", hint="try again in a moment")
        self._asking.update(names)
        try:
            yield
        finally:
            self._asking.difference_update(names)

    def log_out(self, auth_id: str) -> None:
        """All logins of a user end; its tokens stay."""
        self._checker.end_sessions(auth_id)

    async def _recall(self) -> None:
        """Once, before the first login is looked at: without the counts of before nobody gets in."""
        if self._recalled:
            return
        now_ns = self._clock.now_ns()
        for one in await self._records.failures():
            counts = self._users if one.kind == _USER else self._peers
            counts.recall(one.name, one.count, (now_ns - one.last_ns) / _NS)
        self._recalled = True

    def _refuse_waiting(self, user: str, peer: str) -> None:
        wait = max(self._users.wait(user), self._peers.wait(peer_key(peer)))
        if wait > 0:
            raise NotAuthenticated(
                f"too many failed logins for {user} or from {peer or 'there'}; try again in {int(wait) + 1} seconds",
                hint="API tokens are not affected",
            )

    async def _failed(self, user: str, peer: str) -> NotAuthenticated:
        of_user, from_peer = self._users.failed(user), self._peers.failed(peer_key(peer))
        count = max(of_user, from_peer)
        now_ns = self._clock.now_ns()
        with trio.CancelScope(shield=True):  # hanging up does not make a guess uncounted
            await self._records.note_failures(
                [FailureRecord(_USER, user, of_user, now_ns), FailureRecord(_PEER, peer_key(peer), from_peer, now_ns)],
                since_ns=now_ns - int(limits_access.LOGIN_FORGET_SECONDS) * _NS,
                rows_max=limits.AUTH_PEERS_MAX,
            )
        text = f"login of {user} from {peer or 'unknown'} failed, {count} times by now"
        if count <= limits_access.LOGIN_FREE_FAILURES or count & (count - 1) == 0:  # a flood is not a flood of events
            self._tell("authentication.failed", text, Severity.WARNING, user, peer)
        return NotAuthenticated(_WRONG, hint="check user, password and code")

    def _password_fits(self, record: LoginRecord | None, password: str) -> bool:
        """Takes the same time for a user that is not known or has no password."""
        given = password.encode("utf-8", "surrogatepass")[: limits_access.PASSWORD_CHARS_MAX * 4]
        known = record.password.encode() if record is not None else b""
        if not known:
            self._decoy_hash = self._decoy_hash or _hash(new_secret(self._entropy))
        try:
            return pwhash.verify(known or self._decoy_hash, given) and bool(known)
        except CryptoError:
            return False

    async def _second_factor(self, record: LoginRecord, code: str, user: str, peer: str) -> LoginRecord | None:
        """The record with the code used up; None when the user has no second factor. Raises NotAuthenticated."""
        if not record.totp:
            return None
        if not code:
            raise NotAuthenticated("a code of the second factor is needed", hint="give it, or a recovery code")
        text = code.strip().replace(" ", "")
        seconds = self._clock.now_ns() // _NS
        step = totp.matching_step(self._secrets.unseal(_PURPOSE, record.totp), text, seconds, record.totp_step)
        if step is not None:
            return replace(record, totp_step=step)
        left, wanted = record.recovery.split(), self._recovery_digest(record.auth_id, text)
        kept = [one for one in left if not hmac.compare_digest(one, wanted)]
        if len(kept) == len(left):
            raise await self._failed(user, peer)
        self._tell(
            "authentication.recovery",
            f"{record.auth_id} used a recovery code, {len(kept)} are left",
            Severity.WARNING,
            user,
            peer,
        )
        return replace(record, recovery=" ".join(kept))

    def _recovery_digest(self, user: str, text: str) -> str:
        return token_digest(self._secrets.token_key, f"recovery {user}", text.upper().replace("-", "")).hex()

    # --- setting up ---

    async def set_password(self, by: str, auth_id: str, password: str) -> LoginView:
        """For logging in; ends the user's logins. Raises UsageError, NotFoundError."""
        user = _check_user(auth_id)
        who = str(user)
        if user.realm != ROOT.realm:
            raise UsageError(f"the password of {who} is kept by its realm", hint="change it there")
        if not limits_access.PASSWORD_CHARS_MIN <= len(password) <= limits_access.PASSWORD_CHARS_MAX:
            raise UsageError(
                f"a password has at least {limits_access.PASSWORD_CHARS_MIN} characters",
                hint="a few words in a row are easier to remember than signs",
            )
        hashed = (await self._pool.cpu(_hash, password)).decode()
        return await self._set(
            by, who, "got a password", "access.password-set", lambda old: replace(old, password=hashed)
        )

    async def enable_totp(self, by: str, auth_id: str) -> TotpMade:
        """A second factor for the user, with recovery codes; all shown here only. Raises ConflictError."""
        user = _check_user(auth_id)
        who = str(user)
        record = await self._records.login(who) or _DECOY
        if user.realm == ROOT.realm and not record.password:
            raise ConflictError(f"{who} has no password", hint=f"first: ironcore-backup user password {who}")
        if record.totp:
            raise ConflictError(f"{who} has a second factor", hint=f"first: ironcore-backup user totp disable {who}")
        secret = self._entropy(totp.SECRET_BYTES)
        codes = [_recovery_code(self._entropy) for _ in range(limits_access.RECOVERY_CODES)]
        digests = " ".join(self._recovery_digest(who, one) for one in codes)
        sealed = self._secrets.seal(_PURPOSE, secret)

        def change(old: LoginRecord) -> LoginRecord:
            return replace(old, totp=sealed, totp_step=0, recovery=digests)

        await self._set(by, who, "got a second factor", "access.totp-enabled", change)
        words = base64.b32encode(secret).decode().rstrip("=")
        return TotpMade(auth_id=who, secret=words, uri=totp.uri(secret, who, PRODUCT), recovery=codes)

    async def disable_totp(self, by: str, auth_id: str) -> LoginView:
        """The password alone is enough from now on. Raises NotFoundError."""
        who = str(_check_user(auth_id))

        def change(old: LoginRecord) -> LoginRecord:
            return replace(old, totp=b"", totp_step=0, recovery="")

        return await self._set(by, who, "has no second factor any more", "access.totp-disabled", change)

    async def show(self, auth_id: str) -> LoginView:
        """How the user may log in; never a secret. Raises NotFoundError."""
        who = str(_check_user(auth_id))
        if who not in [user.auth_id for user in await self._identities.users()]:
            raise NotFoundError(f"user {who} does not exist", hint="see: ironcore-backup user list")
        return self._view(await self._records.login(who) or replace(_DECOY, auth_id=who))

    async def _set(
        self, by: str, who: str, what: str, kind: str, change: Callable[[LoginRecord], LoginRecord]
    ) -> LoginView:
        await self.show(who)
        async with self._one, self._identities.change(by, kind, f"user {who} {what}", auth_id=who):
            before = await self._records.login(who) or replace(_DECOY, auth_id=who)
            after = change(before)
            await self._records.set_login(after)
        self._checker.end_sessions(who)
        return self._view(after)

    def _view(self, record: LoginRecord) -> LoginView:
        return LoginView(
            auth_id=record.auth_id,
            password=bool(record.password),
            totp=bool(record.totp),
            recovery_left=len(record.recovery.split()),
            sessions=self._checker.sessions_of(record.auth_id),
        )

    def _tell(self, kind: str, text: str, severity: Severity, user: str, peer: str) -> None:
        fields = {"auth_id": user, "peer": peer}
        self._bus.publish(Event(self._clock.now(), EventSource.AUTHENTICATION, severity, kind, text, fields))


def _check_user(text: str) -> AuthId:
    who = check_auth_id(text)
    if who.is_token:
        raise UsageError(f"{who} is a token and logs in with its secret", hint="name its user")
    return who


def _counted(who: AuthId) -> str:
    """Under which name failures count: directories take a name in any case, and that must not give more guesses."""
    return str(who) if who.realm == ROOT.realm else str(who).casefold()


def _hash(password: str) -> bytes:
    return pwhash.argon2id.str(
        password.encode("utf-8", "surrogatepass"),
        opslimit=limits_access.PASSWORD_OPERATIONS,
        memlimit=limits_access.PASSWORD_MEMORY_BYTES,
    )


def _recovery_code(entropy: Callable[[int], bytes]) -> str:
    """Eighty random bits in four groups that can be read out."""
    text = base64.b32encode(entropy(10)).decode()
    return "-".join(text[at : at + 4] for at in range(0, 16, 4))


def _time(time_ns: int) -> str:
    return format_time(datetime.fromtimestamp(time_ns // _NS, UTC))
