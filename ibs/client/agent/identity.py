"""Who an agent is: the folder with its identity, how it got that, and the lock that keeps it with one program.

Used by `cli` and `client.agent`. `AGENT-DIR/agent.json` (0600) holds the server, its pinned fingerprint, and the secret
that the join token was exchanged for; `agent.lock` belongs to the running program; `status.json` is what that program
says of itself. Everything but `join` blocks for a moment only.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import platformdirs

from ibs.client.config import Server
from ibs.client.http import ApiClient
from ibs.core import limits
from ibs.core.names import check_name
from ibs.errors import BusyError, ConflictError, FailedError, NotFoundError
from ibs.log import get_logger
from ibs.runtime import settings
from ibs.security.pinning import Pins
from ibs.security.private import read_private, write_private
from ibs.version import VERSION
from ibs.wire.hosts import AgentJoin, AgentJoined

_log = get_logger("agent")

IDENTITY_FILE = "agent.json"
LOCK_FILE = "agent.lock"
STATUS_FILE = "status.json"


class AgentIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Never printed: it holds the secret."""

    name: str
    server: str
    fingerprint: str
    auth_id: str
    secret: str

    def client(self, pins: Pins) -> ApiClient:
        """An unopened client with this identity, that accepts what `pins` accepts."""
        place = Server.parse(self.server)
        return ApiClient(place.url, fingerprint=pins, auth_id=self.auth_id, secret=self.secret)


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a running agent says of itself. `state` is `connected` or `trying`; times RFC 3339 or ""."""

    name: str
    server: str
    pid: int
    version: str
    state: str
    since: str
    last_contact: str = ""
    last_error: str = ""
    running: list[str] = []


def agent_folder(given: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """By option, IBS_AGENT_DIR, or the default: /var/lib/ironcore-backup/agent for root, else the XDG state folder."""
    if given is not None:
        return given
    if named := environment.get("IBS_AGENT_DIR"):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/lib") / settings.APP / "agent"
    return Path(platformdirs.user_state_dir(settings.APP)) / "agent"


def load_identity(folder: Path) -> AgentIdentity:
    """Raises NotFoundError when this host has not joined, FailedError for a damaged file."""
    raw = read_private(folder / IDENTITY_FILE)
    if raw is None:
        raise NotFoundError(
            f"this host has not joined a server: {folder / IDENTITY_FILE} does not exist",
            hint="on the server: ironcore-backup host invite NAME; then here what it prints",
        )
    try:
        return msgspec.json.decode(raw, type=AgentIdentity)
    except msgspec.DecodeError as error:
        raise FailedError(
            f"{folder / IDENTITY_FILE} is damaged", hint="remove it, and join again: host invite NAME --again"
        ) from error


async def join(
    server: Server, fingerprint: str, name: str, token: str, folder: Path, *, again: bool = False
) -> AgentIdentity:
    """Exchange a join token for an identity and keep it in `folder`.

    Raises ConflictError when this host has joined already (unless `again`), NotAuthenticated, ServerUnreachable,
    TlsFingerprintMismatch. *Durability*: the identity is on disk when this returns.
    """
    check_name(name, "host name")
    if not again and (folder / IDENTITY_FILE).exists():
        raise ConflictError(
            f"this host has joined already, see {folder / IDENTITY_FILE}", hint="use --again to replace its identity"
        )
    _prepare(folder)
    async with ApiClient(server.url, fingerprint=fingerprint, auth_id="", secret="") as api:
        request = AgentJoin(name=name, token=token, version=VERSION, system=system_name())
        joined = await api.post("/agent/join", AgentJoined, request)
    identity = AgentIdentity(
        name=joined.name,
        server=str(server),
        fingerprint=fingerprint,
        auth_id=joined.auth_id,
        secret=joined.secret,
    )
    _save(folder, identity)
    return identity


def repin(folder: Path, identity: AgentIdentity, fingerprint: str) -> None:
    """Keep what the server says of its certificates. An agent that cannot goes on, and says so in its log."""
    try:
        _save(folder, msgspec.structs.replace(identity, fingerprint=fingerprint))
    except FailedError as error:
        _log.error("the server's coming certificate could not be kept", error=error.message)
    else:
        _log.info("the server told of its certificates", fingerprint=fingerprint)


def _save(folder: Path, identity: AgentIdentity) -> None:
    write_private(folder / IDENTITY_FILE, msgspec.json.format(msgspec.json.encode(identity)) + b"\n")


def _prepare(folder: Path) -> None:
    """The folder can be written: told before the token is used up. Raises FailedError."""
    write_private(folder / ".probe", b"")
    (folder / ".probe").unlink(missing_ok=True)


def system_name() -> str:
    """Kernel and machine of this host, in a few words."""
    about = os.uname()
    return f"{about.sysname} {about.release} {about.machine}"[: limits.AGENT_TEXT_CHARS_MAX]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, for one running agent. The lock ends with the process. Raises BusyError, FailedError."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise FailedError(f"cannot use {folder}: {error.strerror}", hint="check its owner") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"an agent runs on {folder} already", hint="see: ironcore-backup-client agent status"
            ) from error
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether an agent runs on the folder."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def save_status(folder: Path, status: AgentStatus) -> None:
    """Replace what the agent says of itself; whole or not at all. Raises OSError."""
    temporary = folder / f".{STATUS_FILE}.new"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(status)) + b"\n")
    temporary.replace(folder / STATUS_FILE)


def load_status(folder: Path) -> AgentStatus | None:
    """What the agent said last; None when it said nothing that is understood."""
    try:
        return msgspec.json.decode((folder / STATUS_FILE).read_bytes(), type=AgentStatus)
    except (OSError, msgspec.DecodeError):
        return None
