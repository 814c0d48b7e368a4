"""Realms: where the passwords of users are kept that are not the server's own.

Made by `app`, used through `ServerContext.realms` and by logins. Invariants: a bind password is sealed and never comes
out again, and goes to no other address, account or authority than it was given for; a realm with users is not removed.
What a directory answered in detail is for administrators and the log; who logs in hears only that it is away.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec
import trio

from ibs import log
from ibs.catalog.catalog import Catalog
from ibs.core import limits_access
from ibs.core.access import ROOT, AuthId, check_auth_id
from ibs.core.events import Event
from ibs.core.names import check_name
from ibs.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.bus import Bus
from ibs.security.access import AccessChecker
from ibs.security.identities import Identities
from ibs.security.ldap import Conversation, Directory
from ibs.security.logins import Logins
from ibs.security.secrets import ServerSecrets
from ibs.wire.realms import RealmSet, RealmView

_SETTING: Final = "realms"
_PURPOSE: Final = "realm-secret"
_KIND: Final = "ldap"
_BOUND: Final = ("uri", "bind_dn", "ca")
"""A change of one of these needs the secret anew: else it could be sent where somebody may read it."""
_log = log.get_logger("api")


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    view: RealmView
    sealed: str = ""


class Realms:
    """One a server."""

    def __init__(self, catalog: Catalog, secrets: ServerSecrets, identities: Identities, pool: Pool) -> None:
        self._settings = catalog.settings
        self._secrets = secrets
        self._identities = identities
        self._pool = pool
        self._away: set[str] = set()
        self._changing = trio.Lock()
        identities.known_realm = self.known

    async def list(self) -> Views:
        """All, by name."""
        return [row.view for _, row in sorted((await self._rows()).items())]

    async def show(self, name: str) -> RealmView:
        """Raises NotFoundError."""
        return (await self._row(name)).view

    async def known(self, name: str) -> bool:
        """Whether there is such a realm, beside the built-in one."""
        return name in await self._rows()

    async def create(self, request: RealmSet) -> RealmView:
        """Nothing is sent to it. Raises UsageError, ConflictError."""
        check_auth_id(f"x@{request.name}")
        check_name(request.name, "realm")
        async with self._changing:
            rows = await self._rows()
            if request.name in rows or request.name.casefold() == ROOT.realm:
                raise ConflictError(f"realm {request.name} exists already", hint="see: ironcore-backup realm list")
            if len(rows) >= limits_access.REALMS_MAX:
                raise ConflictError(f"there are {len(rows)} realms already", hint="remove unused ones")
            empty = _Row(view=RealmView(name=request.name, kind=_KIND, uri="", attribute="uid"))
            return await self._keep(rows, self._changed(empty, request))

    async def update(self, request: RealmSet) -> RealmView:
        """Change what was given. Raises UsageError, NotFoundError."""
        async with self._changing:
            row = self._changed(await self._row(request.name), request)
            return await self._keep(await self._rows(), row)

    async def remove(self, name: str) -> None:
        """Forget it and its secret. Raises NotFoundError, ConflictError while it has users."""
        async with self._changing:
            await self._row(name)
            users = [user.auth_id for user in await self._identities.users() if user.auth_id.endswith(f"@{name}")]
            if users:
                raise ConflictError(
                    f"realm {name} has {len(users)} users, such as {users[0]}",
                    hint="first: ironcore-backup user remove, for each of them",
                )
            rows = await self._rows()
            del rows[name]
            await self._write(rows)

    async def test(self, name: str) -> RealmView:
        """Reach it, and log in with the bind DN if there is one. Raises NotFoundError, UnavailableError."""
        row = await self._row(name)
        talk = Conversation(self._directory(row))
        await self._pool.talk(talk.try_out, talk.abort)
        return row.view

    async def takes(self, who: AuthId, password: str) -> bool:
        """Whether the user's realm takes the password; False without the realm. Raises UnavailableError."""
        row = (await self._rows()).get(who.realm)
        if row is None:
            return False
        talk = Conversation(self._directory(row))
        try:
            taken = await self._pool.talk(talk.takes, talk.abort, who.user, password)
        except UnavailableError as error:
            if who.realm not in self._away:  # once, until it answers again
                self._away.add(who.realm)
                _log.warning("a realm is away", realm=who.realm, error=error.message)
            raise UnavailableError(
                f"realm {who.realm} cannot be asked at the moment, so nobody of it can log in",
                hint="try again later; administrators see why with: ironcore-backup realm test",
            ) from error
        self._away.discard(who.realm)
        return taken

    def _changed(self, row: _Row, request: RealmSet) -> _Row:
        """`row` with what was given, all of it checked. Raises UsageError."""
        given: dict[str, Any] = {
            name: value
            for name, value in msgspec.structs.asdict(request).items()
            if value is not None and name not in {"name", "secret"}
        }
        for name, value in given.items():
            most = limits_access.REALM_CA_CHARS_MAX if name == "ca" else limits_access.REALM_TEXT_CHARS_MAX
            if len(value) > most or (name != "ca" and not value.isprintable()):
                raise UsageError(f"the realm's {name} is too long or not printable")
        view = msgspec.structs.replace(row.view, **given)
        sealed = row.sealed
        if request.secret is not None:
            if len(request.secret) > limits_access.PASSWORD_CHARS_MAX:
                raise UsageError("the bind password is too long")
            sealed = base64.b64encode(self._secrets.seal(_PURPOSE, request.secret.encode())).decode()
        elif sealed and any(getattr(view, name) != getattr(row.view, name) for name in _BOUND):
            raise UsageError(
                "with another address, bind DN or CA the bind password has to be given again",
                hint="so that it goes nowhere it was not meant for: --bind-password-file FILE",
            )
        changed = _Row(view=view, sealed=sealed)
        self._directory(changed).check()
        return changed

    def _directory(self, row: _Row) -> Directory:
        view = row.view
        secret = self._secrets.unseal(_PURPOSE, base64.b64decode(row.sealed)).decode() if row.sealed else ""
        return Directory(
            uri=view.uri,
            template=view.template,
            base=view.base,
            attribute=view.attribute,
            filter=view.filter,
            bind_dn=view.bind_dn,
            bind_password=secret,
            ca=view.ca,
        )

    async def _row(self, name: str) -> _Row:
        row = (await self._rows()).get(name)
        if row is None:
            raise NotFoundError(f"no realm {name[:100]}", hint="see: ironcore-backup realm list")
        return row

    async def _rows(self) -> dict[str, _Row]:
        text = await self._settings.get(_SETTING)
        return msgspec.json.decode(text, type=dict[str, _Row]) if text else {}

    async def _keep(self, rows: dict[str, _Row], row: _Row) -> RealmView:
        await self._write({**rows, row.view.name: row})
        return row.view

    async def _write(self, rows: dict[str, _Row]) -> None:
        await self._settings.set(_SETTING, msgspec.json.encode(rows).decode())


Views = list[RealmView]


def people(  # noqa: PLR0917 - parts of the base, in its order
    catalog: Catalog,
    access: AccessChecker,
    identities: Identities,
    secrets: ServerSecrets,
    clock: Clock,
    bus: Bus[Event],
    pool: Pool,
) -> tuple[Realms, Logins]:
    """The realms, and the logins that ask them."""
    realms = Realms(catalog, secrets, identities, pool)
    parts: dict[str, Any] = {"clock": clock, "bus": bus, "pool": pool}
    return realms, Logins(catalog.access, access, identities, secrets, ask_realm=realms.takes, **parts)
