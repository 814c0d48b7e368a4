"""Whether a directory (LDAP, Active Directory) takes a user's password. Used by `services` for realms; blocks.

Invariants: no name or password is sent before TLS stands and the server's certificate fits its name; an empty password,
which directories take for "anonymous" and answer with success, is refused here; names are escaped wherever they become
part of a DN or filter; referrals are not followed, since they would carry the password to a server nobody chose.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn, parse_dn

from ibs.core import limits_access
from ibs.errors import UnavailableError, UsageError

_PORTS: Final = {"ldaps": 636, "ldap": 389}
_MARK: Final = "{user}"
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}", re.ASCII)
_TAKEN: Final = 0
_REFUSED: Final = frozenset({19, 32, 34, 48, 49, 50, 53})
"""Result codes of a bind that say no to this user: wrong, locked, unknown, not allowed. All others: no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """How to ask one. `ldaps://` is TLS from the first byte, `ldap://` is StartTLS; without TLS there is nothing.

    Either `template`, a DN with {user} in it, or `base`: there the one entry is looked up whose `attribute` is the
    name, as `bind_dn`. `ca` is PEM; "" trusts what the system trusts.
    """

    uri: str
    template: str = ""
    base: str = ""
    attribute: str = "uid"
    filter: str = ""
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False)
    ca: str = ""

    def check(self) -> None:
        """Raises UsageError for what could never work."""
        _address(self.uri)
        if bool(self.template) == bool(self.base):
            raise UsageError("a directory needs either a DN template or a base DN", hint="give one of the two")
        if self.template and self.template.count(_MARK) != 1:
            raise UsageError(f"the DN template does not hold {_MARK} once", hint=f"like uid={_MARK},ou=people,dc=x")
        if not _ATTRIBUTE.fullmatch(self.attribute):
            raise UsageError("the user attribute is not valid", hint="like uid, or sAMAccountName")
        if self.base and not (self.bind_dn and self.bind_password):
            raise UsageError("a base DN needs a bind DN and its password", hint="an account that may only search")
        for text in (self.template.replace(_MARK, "x"), self.base, self.bind_dn):
            _check_dn(text)
        if self.filter and not (self.filter.startswith("(") and self.filter.endswith(")")):
            raise UsageError("the filter is not in brackets", hint="like (objectClass=person)")
        if self.ca:
            try:
                ssl.create_default_context(cadata=self.ca)
            except (ssl.SSLError, ValueError) as error:
                raise UsageError("the CA is not a certificate in PEM", hint="give its file") from error


class Conversation:
    """One question to a directory. `abort` may be called from another thread and ends it."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._open: list[Any] = []
        self._aborted = False

    def abort(self) -> None:
        """Make what runs fail soon."""
        self._aborted = True
        for connection in tuple(self._open):
            with suppress(OSError, AttributeError):
                connection.socket.shutdown(2)

    def takes(self, user: str, password: str) -> bool:
        """Whether the password is the user's. Raises UnavailableError when that cannot be found out."""
        if not password or "\0" in password or not _NAME.fullmatch(user):
            return False
        try:
            password.encode()
        except UnicodeEncodeError:
            return False
        with _translated(self._directory):
            name = self._dn_of(user)
            if not name:
                return False
            with self._connected() as connection:
                return self._bind(connection, name, password)

    def try_out(self) -> None:
        """Reach it, and log in as `bind_dn` if there is one. Raises UnavailableError."""
        with _translated(self._directory), self._connected() as connection:
            if self._directory.bind_dn:
                self._bind_as_server(connection)

    def _dn_of(self, user: str) -> str:
        """The one entry of that name; "" without any."""
        directory = self._directory
        if directory.template:
            return directory.template.replace(_MARK, escape_rdn(user))
        with self._connected() as connection:
            self._bind_as_server(connection)
            connection.search(
                directory.base,
                f"(&({directory.attribute}={escape_filter_chars(user)}){directory.filter})",
                attributes=[ldap3.NO_ATTRIBUTES],
                size_limit=2,
                time_limit=limits_access.REALM_ANSWER_SECONDS,
            )
            code = connection.result["result"]
            found = [one["dn"] for one in connection.response or () if one["type"] == "searchResEntry"]
        if len(found) > 1 or code == 4:
            raise _away(directory, f"several entries have the {directory.attribute} that was asked for")
        if code != _TAKEN:
            raise _away(directory, f"the search failed: {connection.result['description']}")
        return str(found[0]) if found else ""

    def _bind_as_server(self, connection: Any) -> None:
        if not self._bind(connection, self._directory.bind_dn, self._directory.bind_password):
            raise _away(self._directory, "it does not take the bind DN and its password")

    def _bind(self, connection: Any, name: str, password: str) -> bool:
        connection.rebind(user=name, password=password, authentication=ldap3.SIMPLE)
        code = connection.result["result"]
        if code != _TAKEN and code not in _REFUSED:
            raise _away(self._directory, f"it answers: {connection.result['description']}")
        return bool(code == _TAKEN)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """Over TLS, as nobody yet."""
        scheme, host, port = _address(self._directory.uri)
        tls = _Tls(self._directory.ca, host)
        server = ldap3.Server(
            host,
            port,
            use_ssl=scheme == "ldaps",
            tls=tls,
            get_info=ldap3.NONE,
            connect_timeout=limits_access.REALM_CONNECT_SECONDS,
        )
        connection = ldap3.Connection(
            server,
            auto_bind=ldap3.AUTO_BIND_NONE,
            client_strategy=ldap3.SYNC,
            auto_referrals=False,
            check_names=False,
            read_only=True,
            receive_timeout=limits_access.REALM_ANSWER_SECONDS,
        )
        self._open.append(connection)
        try:
            connection.open(read_server_info=False)
            if scheme == "ldap" and not connection.start_tls(read_server_info=False):
                raise _away(self._directory, "it refuses StartTLS")
            if self._aborted or not isinstance(connection.socket, ssl.SSLSocket):
                raise _away(self._directory, "the connection is not encrypted")
            yield connection
        finally:
            self._open.remove(connection)
            with suppress(LDAPException, OSError):
                connection.unbind()
            if connection.socket is not None:  # the library leaves it open where opening failed
                connection.socket.close()


class _Tls(ldap3.Tls):  # type: ignore[misc]
    """TLS as Python's own library does it, name included, in place of what the LDAP library makes of it."""

    def __init__(self, ca: str, host: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = ssl.create_default_context(cadata=ca or None)
        self._host = host

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ARG002
        """Encrypt the connection. Raises OSError; the socket is closed then."""
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname=self._host)


@contextmanager
def _translated(directory: Directory) -> Iterator[None]:
    try:
        yield
    except (LDAPException, OSError) as error:  # also what TLS raises
        raise _away(directory, " ".join(str(error).split())[:300]) from error


def _away(directory: Directory, why: str) -> UnavailableError:
    return UnavailableError(
        f"the directory {directory.uri} cannot be asked: {why}", hint="until it can, nobody logs in by it"
    )


def _address(uri: str) -> tuple[str, str, int]:
    """Scheme, host, port. Raises UsageError."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise UsageError("the directory's address is not valid", hint="like ldaps://dc1.example or ldap://dc1.example")
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme]


def _check_dn(text: str) -> None:
    if not text:
        return
    try:
        parse_dn(text)
    except LDAPException as error:
        raise UsageError(f"{text[:200]!r} is not a DN", hint="like ou=people,dc=example,dc=org") from error
