"""Remotes: other servers of this product, pinned by certificate, reached with a token that is kept sealed.

Made by `app`, used through `ServerContext.remotes` and by synchronisation. Invariants: no byte goes to a server whose
certificate is not the pinned one, and only `update` changes the pin; the key that a remote signs manifests with is
learned at the first contact and pinned like the certificate; a secret never comes out again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from ibs.catalog.remotes import RemoteRow, RemoteTable
from ibs.client.config import Server
from ibs.client.http import ApiClient
from ibs.core import limits_sync
from ibs.core.access import check_auth_id
from ibs.core.events import Event, EventSource, Severity
from ibs.core.ids import hex_fingerprint, parse_fingerprint, parse_hex
from ibs.core.names import check_name
from ibs.errors import (
    IbsError,
    NotAuthenticated,
    NotAuthorised,
    ServerUnreachable,
    SignatureInvalid,
    TlsFingerprintMismatch,
    UsageError,
)
from ibs.ports.clock import Clock
from ibs.runtime.settings import PORT_DEFAULT
from ibs.security.secrets import ServerSecrets
from ibs.services.hosts_book import moment
from ibs.wire.common import Ping
from ibs.wire.datastore import DatastoreView
from ibs.wire.remotes import RemoteSet, RemoteStore, RemoteTest, RemoteView
from ibs.wire.system import WhoAmI

PURPOSE: Final = "remote-secret"
_SECRET: Final = re.compile(r"[!-~]+", re.ASCII)


class Remotes:
    """One a server."""

    def __init__(
        self, table: RemoteTable, secrets: ServerSecrets, *, clock: Clock, publish: Callable[[Event], None]
    ) -> None:
        self._table = table
        self._secrets = secrets
        self._clock = clock
        self._publish = publish
        self._mismatched: set[str] = set()

    async def list(self) -> Views:
        """All, by name."""
        return [_view(row) for row in await self._table.list()]

    async def show(self, name: str) -> RemoteView:
        """Raises NotFoundError."""
        return _view(await self._table.get(name))

    async def create(self, request: RemoteSet) -> RemoteView:
        """Take a remote in. Nothing is sent to it. Raises UsageError, ConflictError."""
        missing = [
            option
            for option, value in (
                ("host", request.host),
                ("auth-id", request.auth_id),
                ("secret", request.secret),
                ("fingerprint", request.fingerprint),
            )
            if not value
        ]
        if missing:
            raise UsageError(f"a remote needs {', '.join(missing)}", hint="see: ironcore-backup remote create --help")
        empty = RemoteRow(name=request.name, host="", port=PORT_DEFAULT, auth_id="", sealed=b"", fingerprint="")
        row = self._changed(empty, request)
        await self._table.add(row)
        return _view(row)

    async def update(self, request: RemoteSet) -> RemoteView:
        """Change what was given. Raises UsageError, NotFoundError.

        With a new certificate or host the signing key is learned anew as well: it is another server, or one made anew.
        """
        old = await self._table.get(request.name)
        row = self._changed(old, request)
        if (row.fingerprint, row.host, row.port) != (old.fingerprint, old.host, old.port):
            row = replace(row, signer="", trouble="")
            self._mismatched.discard(row.name)
        await self._table.update(row)
        return _view(row)

    async def remove(self, name: str) -> None:
        """Forget it and its secret. Raises NotFoundError."""
        await self._table.remove(name)
        self._mismatched.discard(name)

    async def test(self, name: str) -> RemoteTest:
        """Reach it and say as whom, and what is there. Raises what `connect` raises."""
        began = self._clock.monotonic()
        async with self.connect(name) as (api, row):
            ping = await api.get("/ping", Ping)
            stores = await api.get("/datastores", list[DatastoreView])
            return RemoteTest(
                name=name,
                auth_id=api.auth_id,
                signer=row.signer,
                version=ping.version,
                milliseconds=int(1000 * (self._clock.monotonic() - began)),
                datastores=[RemoteStore(name=each.name, status=each.status, reason=each.reason) for each in stores],
            )

    @asynccontextmanager
    async def connect(self, name: str) -> AsyncIterator[tuple[ApiClient, RemoteRow]]:
        """The remote's API for the block, its certificate and signing key compared with the pinned ones.

        How it went is noted at the remote. Raises NotFoundError, TlsFingerprintMismatch, SignatureInvalid,
        NotAuthenticated, ServerUnreachable, and what the block raises; those of the remote name it.
        """
        row = await self._table.get(name)
        secret = self._secrets.unseal(PURPOSE, row.sealed).decode()
        try:
            async with ApiClient(
                Server(row.host, row.port).url,
                fingerprint=row.fingerprint,
                auth_id=row.auth_id,
                secret=secret,
                clock=self._clock,
            ) as api:
                row = await self._known(row, await api.get("/whoami", WhoAmI))
                await self._note(row, "")
                yield api, row
        except TlsFingerprintMismatch as error:
            mine = self._mismatch(row, error)
            await self._note(row, mine.message)
            raise mine from error
        except (NotAuthenticated, NotAuthorised) as error:
            error.hint = f"that is what remote {name} says; {_access_cure(row, error)}"
            await self._note(row, error.message)
            raise
        except (ServerUnreachable, SignatureInvalid) as error:  # what went wrong here is no trouble of the remote's
            await self._note(row, error.message)
            raise

    async def _known(self, row: RemoteRow, found: WhoAmI) -> RemoteRow:
        """The row with its signer: learned, or the pinned one. Raises SignatureInvalid for another."""
        signer = parse_hex(found.signer, "signing key of the remote").hex() if found.signer else ""
        if not row.signer and signer:
            row = replace(row, signer=signer)
            await self._table.update(row)
        if signer != row.signer:
            raise SignatureInvalid(
                f"remote {row.name} signs with another key than before: {signer or 'none'}, pinned is {row.signer}",
                hint="ask its owner why; if it was made anew, pin it again: "
                f"ironcore-backup remote update --name {row.name} --fingerprint …",
            )
        return row

    async def _note(self, row: RemoteRow, trouble: str) -> None:
        await self._table.contact(row.name, None if trouble else self._clock.now_ns(), trouble[:1000])
        if not trouble:
            self._mismatched.discard(row.name)

    def _mismatch(self, row: RemoteRow, error: TlsFingerprintMismatch) -> TlsFingerprintMismatch:
        """The error with the remote's name and the command that cures it; told once, until it is cured."""
        offered = str(error.details.get("offered", ""))
        mine = TlsFingerprintMismatch(f"remote {row.name} ({row.host}:{row.port})", row.fingerprint, offered)
        mine.hint = (
            "nothing was sent to it. Ask its owner for the fingerprint by another channel; if it is the new one: "
            f"ironcore-backup remote update --name {row.name} --fingerprint {offered}"
        )
        if row.name not in self._mismatched:
            self._mismatched.add(row.name)
            fields = {"remote": row.name, "pinned": row.fingerprint, "offered": offered}
            event = Event(
                self._clock.now(), EventSource.SYNC, Severity.ERROR, "remote.fingerprint", mine.message[:1000], fields
            )
            self._publish(event)
        return mine

    def _changed(self, row: RemoteRow, request: RemoteSet) -> RemoteRow:
        """`row` with what was given, all of it checked. Raises UsageError."""
        check_name(row.name, "remote")
        host = request.host if request.host is not None else row.host
        port = request.port if request.port is not None else row.port
        server = Server.parse(f"{host}:{port}")
        auth_id = str(check_auth_id(request.auth_id)) if request.auth_id is not None else row.auth_id
        fingerprint = row.fingerprint
        if request.fingerprint is not None:
            fingerprint = hex_fingerprint(parse_fingerprint(request.fingerprint))
        sealed = row.sealed
        if request.secret is not None:
            if len(request.secret) > limits_sync.REMOTE_SECRET_CHARS_MAX or not _SECRET.fullmatch(request.secret):
                raise UsageError("the remote's secret is not valid", hint="give the token's secret as it was shown")
            sealed = self._secrets.seal(PURPOSE, request.secret.encode())
        comment = request.comment if request.comment is not None else row.comment
        if len(comment) > limits_sync.REMOTE_TEXT_CHARS_MAX or not (comment.isprintable() or not comment):
            raise UsageError("a comment is one printable line", hint="shorten it")
        return replace(
            row,
            host=server.host,
            port=server.port,
            auth_id=auth_id,
            sealed=sealed,
            fingerprint=fingerprint,
            comment=comment,
        )


Views = list[RemoteView]


def _access_cure(row: RemoteRow, error: IbsError) -> str:
    if isinstance(error, NotAuthorised):
        return "grant it there, then run this again: nothing else has to be changed here"
    return (
        f"make a token for {row.auth_id} there and set its secret here: "
        f"ironcore-backup remote update --name {row.name} --secret-file FILE"
    )


def _view(row: RemoteRow) -> RemoteView:
    return RemoteView(
        name=row.name,
        host=row.host,
        port=row.port,
        auth_id=row.auth_id,
        fingerprint=row.fingerprint,
        comment=row.comment,
        signer=row.signer,
        last_contact=moment(row.contact_ns),
        trouble=row.trouble,
    )
