"""Whom to talk to and as whom: repositories, credentials, saved logins. Used by `cli`.

Order of settings: option, environment (`IBS_…`), saved login, the local server's own files. Secrets come from the
environment, a file or a prompt, never from a command line; saved logins are in a file of mode 0600.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

import msgspec
import platformdirs

from ibs.core.names import check_name
from ibs.errors import NotAuthenticated, ServerUnreachable, UsageError
from ibs.runtime import settings

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?")
_FORM = "write it like [AUTH-ID@]HOST[:PORT]:DATASTORE, for example backup@ibs!web01@backup.example:8007:ibs-primary"


@dataclass(frozen=True, slots=True)
class Server:
    """A server's address. Written `HOST[:PORT]` or `https://HOST[:PORT]`."""

    host: str
    port: int = settings.PORT_DEFAULT

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises UsageError."""
        match = _HOST_PORT.fullmatch(text.removeprefix("https://").rstrip("/"))
        if match is None or (match[2] and not 0 < int(match[2]) < 65536):
            raise UsageError(f"server {text!r} is not valid", hint="write it like backup.example:8007")
        return cls(match[1], int(match[2] or settings.PORT_DEFAULT))

    @property
    def url(self) -> str:
        """`https://host:port`."""
        return f"https://{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Repository:
    """A datastore on a server, perhaps with the identity to use: `[AUTH-ID@]HOST[:PORT]:DATASTORE`."""

    server: Server
    store: str
    auth_id: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises UsageError."""
        auth_id, _, rest = text.rpartition("@")
        place, colon, store = rest.rpartition(":")
        if not colon or not place:
            raise UsageError(f"repository {text!r} is not valid", hint=_FORM)
        return cls(Server.parse(place), check_name(store, "datastore"), auth_id)

    def __str__(self) -> str:
        return f"{self.auth_id}@{self.server}:{self.store}" if self.auth_id else f"{self.server}:{self.store}"


class PinnedBy(StrEnum):
    """Where a fingerprint was taken from, and so where a coming one is to be kept."""

    SERVER_FILE = "server file"  # on the server's own machine; it is read anew each time
    LOGIN = "login"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Credentials:
    """All that a connection needs. `fingerprint` is the pinned one of the server's certificate, or the next, too."""

    server: Server
    fingerprint: str
    auth_id: str
    secret: str = field(repr=False)
    pinned_by: PinnedBy = PinnedBy.SERVER_FILE


class Login(msgspec.Struct, frozen=True):
    """One saved login."""

    fingerprint: str
    auth_id: str
    secret: str


class Logins:
    """The saved logins of this user, one a server, in `CONFIG/logins.json` (0600)."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(platformdirs.user_config_dir(settings.APP)) / "logins.json"

    def all(self) -> dict[str, Login]:
        """Raises UsageError when the file is not private or not ours."""
        try:
            raw = self.path.read_bytes()
            mode = stat.S_IMODE(self.path.stat().st_mode)
        except FileNotFoundError:
            return {}
        if mode & 0o077:
            raise UsageError(f"{self.path} may be read by others", hint=f"run: chmod 600 {self.path}")
        try:
            return msgspec.json.decode(raw, type=dict[str, Login])
        except msgspec.DecodeError as error:
            raise UsageError(f"{self.path} is damaged", hint="remove it and log in again") from error

    def get(self, server: Server) -> Login | None:
        """The saved login for `server`, if any."""
        return self.all().get(str(server))

    def save(self, server: Server, login: Login) -> None:
        """Replace the login for `server`, atomically."""
        logins = self.all() | {str(server): login}
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write(logins)

    def repin(self, server: Server, fingerprint: str) -> None:
        """Note what `server` says of its certificates, if it has a login here. Raises UsageError, OSError."""
        login = self.get(server)
        if login is not None and login.fingerprint != fingerprint:
            self.save(server, msgspec.structs.replace(login, fingerprint=fingerprint))

    def remove(self, server: Server) -> bool:
        """Forget the login for `server`; False when there was none."""
        logins = self.all()
        if logins.pop(str(server), None) is None:
            return False
        self._write(logins)
        return True

    def _write(self, logins: dict[str, Login]) -> None:
        temporary = self.path.with_suffix(f".{os.getpid()}.new")  # several commands may save at once
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(logins)))
        temporary.replace(self.path)


class _ServerFile(msgspec.Struct, frozen=True):
    address: str
    fingerprint: str


def local_server(state_dir: Path) -> Credentials:
    """Credentials from the files of a server on this machine. Raises ServerUnreachable, NotAuthenticated."""
    try:
        facts = msgspec.json.decode((state_dir / "server.json").read_bytes(), type=_ServerFile)
        auth_id, _, secret = (state_dir / "root.token").read_text("utf-8").strip().partition(":")
    except FileNotFoundError as error:
        raise ServerUnreachable(
            f"no server runs on {state_dir}",
            hint="start it: ironcore-backup serve; or name another: --server HOST:PORT, --state-dir DIR",
        ) from error
    except PermissionError as error:
        hint = "run the command as the server's user, or use --server with a token"
        raise NotAuthenticated(f"{state_dir} may not be read by this user", hint=hint) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServerUnreachable(f"{state_dir}/server.json is damaged", hint="restart the server") from error
    return Credentials(Server.parse(facts.address), facts.fingerprint, auth_id, secret)


def resolve_server(
    server: str | None, state_dir: Path | None, environment: Mapping[str, str], logins: Logins
) -> Credentials:
    """Whom the administrator's CLI talks to. Raises UsageError, NotAuthenticated, ServerUnreachable."""
    named = server or (None if state_dir else environment.get("IBS_SERVER"))
    if named is None:
        return local_server(state_dir or Path(environment.get("IBS_STATE_DIR") or settings.default_state_dir()))
    address = Server.parse(named)
    saved = logins.get(address)
    token = environment.get("IBS_TOKEN") or _first_line(environment.get("IBS_TOKEN_FILE"))
    auth_id, _, secret = token.partition(":") if token else ("", "", "")
    return _complete(address, auth_id, secret, environment, saved, ask=None, how="ironcore-backup login HOST:PORT")


def resolve_repository(
    repository: str | None,
    environment: Mapping[str, str],
    logins: Logins,
    ask: Callable[[str], str] | None = None,
) -> tuple[Repository, Credentials]:
    """Which datastore the client uses, and as whom; `ask` prompts for a secret without echo (None: never)."""
    text = repository or environment.get("IBS_REPOSITORY")
    if not text:
        raise UsageError("no repository given", hint=f"use --repository or IBS_REPOSITORY; {_FORM}")
    found = Repository.parse(text)
    saved = logins.get(found.server)
    if saved is not None and found.auth_id and saved.auth_id != found.auth_id:
        saved = Login(saved.fingerprint, "", "")
    secret = given_secret(environment)
    how = "ironcore-backup-client login"
    credentials = _complete(found.server, found.auth_id, secret, environment, saved, ask=ask, how=how)
    return found, credentials


def given_secret(environment: Mapping[str, str]) -> str:
    """`IBS_SECRET`, else the content of `IBS_SECRET_FILE`, else "". Raises UsageError."""
    return environment.get("IBS_SECRET") or _first_line(environment.get("IBS_SECRET_FILE"))


def _complete(
    server: Server,
    auth_id: str,
    secret: str,
    environment: Mapping[str, str],
    saved: Login | None,
    *,
    ask: Callable[[str], str] | None,
    how: str,
) -> Credentials:
    fingerprint = environment.get("IBS_FINGERPRINT") or (saved.fingerprint if saved else "")
    if not fingerprint:
        raise UsageError(
            f"the certificate fingerprint of {server} is not known",
            hint=f"set IBS_FINGERPRINT to what the server showed at its start, or run: {how}",
        )
    auth_id = auth_id or (saved.auth_id if saved else "")
    if not auth_id:
        raise NotAuthenticated(f"no identity for {server}", hint=f"name one in the repository or token, or run: {how}")
    if not secret and saved is not None and saved.auth_id == auth_id:
        secret = saved.secret
    if not secret and ask is not None:
        secret = ask(f"Secret of {auth_id} on {server}: ")
    if not secret:
        raise NotAuthenticated(f"no secret for {auth_id} on {server}", hint=f"set IBS_SECRET_FILE, or run: {how}")
    by = PinnedBy.ENVIRONMENT if environment.get("IBS_FINGERPRINT") else PinnedBy.LOGIN
    return Credentials(server, fingerprint, auth_id, secret, by)


def _first_line(path: str | None) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="name a file that holds the secret") from error
