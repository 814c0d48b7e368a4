"""The error tree: every failure a user can meet, with its words, its cure and its exit status.

Importable by everyone; imports nothing of ours. Foreign exceptions are translated into these at the
border of the adapter that meets them, and never travel further.

    IbsError
    ├── UsageError                 exit 2  http 400   the request itself is wrong
    │   └── FormatError                     http 422   stored or received bytes break the format
    ├── RefusedError               exit 3  http 403   identity, rights, policy or key
    │   ├── NotAuthenticated                http 401
    │   ├── NotAuthorised
    │   ├── KeyNotRegistered
    │   ├── EncryptionRequired              a policy demands it, and the backup is plain
    │   ├── FingerprintMismatch             (decryption or signing key)
    │   ├── TlsFingerprintMismatch
    │   ├── SignatureInvalid                a manifest's signature is missing, foreign or broken
    │   ├── Quarantined                     http 409   a datastore under suspicion takes no changes
    │   └── ConflictError                   http 409   the thing exists, or its state forbids this
    ├── NotFoundError              exit 5  http 404
    │   └── ChunkNotFound
    ├── UnavailableError           exit 6  http 503   busy or unreachable; try again
    │   ├── BusyError
    │   ├── DatastoreOffline
    │   ├── UnderMaintenance                a datastore is read-only for maintenance
    │   ├── ServerUnreachable
    │   ├── SourceUnreachable               the agent of a host is silent
    │   └── SessionLost                     http 410
    ├── FailedError                exit 1  http 500   the work was tried and did not succeed
    │   ├── NoSpace                         http 507   bytes, inodes or quota
    │   ├── DatastoreReadOnly               http 507
    │   ├── CorruptChunk
    │   ├── DestinationNotWritable
    │   └── SourceUnreadable
    └── CancelledError             exit 130 http 409
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar


class Retry(StrEnum):
    """When repeating the same request can help."""

    NEVER = "never"
    LATER = "later"
    NOW = "now"


class ExitStatus:
    """Exit statuses of both programs."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    WARNING = 4
    NOT_FOUND = 5
    UNAVAILABLE = 6
    CANCELLED = 130


class IbsError(Exception):
    """A failure with a stable code, one clear sentence, and a hint that says what to do.

    `details` holds machine-readable facts (JSON types only, never secrets).
    """

    code: ClassVar[str] = "error"
    retry: ClassVar[Retry] = Retry.NEVER
    exit_status: ClassVar[int] = ExitStatus.FAILED
    http_status: ClassVar[int] = 500
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.details: dict[str, Any] = details

    def __str__(self) -> str:
        return self.message


class UsageError(IbsError):
    """The request itself is wrong; nothing was changed."""

    code = "usage"
    exit_status = ExitStatus.USAGE
    http_status = 400


class FormatError(UsageError):
    """Bytes that should follow one of our formats do not."""

    code = "format"
    exit_status = ExitStatus.FAILED
    http_status = 422


class RefusedError(IbsError):
    """Identity, rights, policy or a key forbids it."""

    code = "refused"
    exit_status = ExitStatus.REFUSED
    http_status = 403


class NotAuthenticated(RefusedError):
    """No credential, or one that does not hold."""

    code = "not-authenticated"
    http_status = 401
    default_hint = "log in, or set the token and fingerprint for this server"


class NotAuthorised(RefusedError):
    """A known identity lacks a role on a path."""

    code = "not-authorised"

    def __init__(self, auth_id: str, role: str, path: str, *, hint: str = "") -> None:
        super().__init__(
            f"not authorised: {auth_id} lacks role {role} on {path}",
            hint=hint or f"grant it: ironcore-backup acl grant {path} {role} {auth_id}",
            auth_id=auth_id,
            role=role,
            path=path,
        )


class KeyNotRegistered(RefusedError):
    """The client offers a key fingerprint that the server does not know."""

    code = "encryption-key-not-registered"

    def __init__(self, fingerprint: str) -> None:
        super().__init__(
            f"encryption key not registered: {fingerprint}",
            hint="write its public half on the host with ironcore-backup-client key show --public, and register it on "
            "the server with ironcore-backup key register FILE; or give the client the right keyfile",
            fingerprint=fingerprint,
        )


class EncryptionRequired(RefusedError):
    """A policy of the place takes encrypted snapshots only, and this one is not."""

    code = "encryption-required"

    def __init__(self, store: str, namespace: str) -> None:
        place = f"datastore {store}, namespace {namespace}," if namespace else f"datastore {store}"
        super().__init__(
            f"encryption required: {place} takes encrypted snapshots only",
            hint="give the client a registered key: --keyfile FILE",
        )


class FingerprintMismatch(RefusedError):
    """Data asks for one key and another was offered."""

    code = "fingerprint-mismatch"

    def __init__(self, wanted: str, offered: str) -> None:
        super().__init__(
            f"fingerprint mismatch: the data wants key {wanted}, offered was {offered}",
            hint="load the keyfile with the wanted fingerprint",
            wanted=wanted,
            offered=offered,
        )


class TlsFingerprintMismatch(RefusedError):
    """The peer's certificate is not the pinned one."""

    code = "tls-fingerprint-mismatch"

    def __init__(self, host: str, pinned: str, offered: str) -> None:
        super().__init__(
            f"TLS fingerprint mismatch: {host} offers {offered}, pinned is {pinned}",
            hint="ask the owner of the server for its fingerprint by another channel before you pin the new one",
            pinned=pinned,
            offered=offered,
        )


class SignatureInvalid(RefusedError):
    """A manifest's signature is missing, by a key that is not trusted, or does not fit its bytes."""

    code = "signature-invalid"
    default_hint = "do not restore from this snapshot unless you know why; verify it, or take another one"


class Quarantined(RefusedError):
    """The datastore is quarantined: nothing in it may change until the cause is known."""

    code = "quarantined"
    http_status = 409

    def __init__(self, store: str, reason: str, use: str) -> None:
        """`use` completes `it takes no …`."""
        super().__init__(
            f"datastore {store} is quarantined{f' ({reason})' if reason else ''}: it takes no {use}",
            hint=f"find the cause, then: ironcore-backup datastore release {store} --cause TEXT",
            store=store,
            reason=reason,
        )


class ConflictError(RefusedError):
    """The thing exists already, or its present state forbids this."""

    code = "conflict"
    http_status = 409


class NotFoundError(IbsError):
    """The named thing does not exist, or the caller may not know that it does."""

    code = "not-found"
    exit_status = ExitStatus.NOT_FOUND
    http_status = 404


class ChunkNotFound(NotFoundError):
    """A chunk that something refers to is not in the datastore."""

    code = "chunk-not-found"
    exit_status = ExitStatus.FAILED

    def __init__(self, chunk: str, **details: Any) -> None:
        super().__init__(
            f"chunk not found: {chunk}",
            hint="run: ironcore-backup verify start STORE --notification-mode always",
            chunk=chunk,
            **details,
        )


class UnavailableError(IbsError):
    """Busy or unreachable; the same request may succeed later."""

    code = "unavailable"
    retry = Retry.LATER
    exit_status = ExitStatus.UNAVAILABLE
    http_status = 503


class BusyError(UnavailableError):
    """A queue, slot or lock is full at the moment."""

    code = "busy"


class DatastoreOffline(UnavailableError):
    """The datastore cannot be used; the message says exactly why."""

    code = "offline"

    def __init__(self, store: str, reason: str, *, hint: str = "") -> None:
        super().__init__(
            f"datastore {store} is offline: {reason}",
            hint=hint or f"cure the cause, then run: ironcore-backup datastore probe {store}",
            store=store,
            reason=reason,
        )


class UnderMaintenance(UnavailableError):
    """The datastore is read-only for maintenance."""

    code = "maintenance"

    def __init__(self, store: str, reason: str, use: str) -> None:
        """`reason` is a clause that begins `in maintenance`; `use` completes `it takes no …`."""
        super().__init__(
            f"datastore {store} is read-only, {reason}; it takes no {use}",
            hint=f"wait for its end, or end it: ironcore-backup datastore maintenance {store} off",
            store=store,
            reason=reason,
        )


class ServerUnreachable(UnavailableError):
    """No answer from the server, or the connection broke."""

    code = "server-unreachable"


class SourceUnreachable(UnavailableError):
    """The agent of the host that should be backed up cannot be heard."""

    code = "source-unreachable"

    def __init__(self, host: str, agent: str, last_contact: str) -> None:
        """`agent` is its name and version; `last_contact` RFC 3339, "" for never."""
        super().__init__(
            f"source unreachable: host {host}, agent {agent}, last contact {last_contact or 'never'}",
            hint=f"on the host: systemctl status ironcore-backup-agent; here: ironcore-backup host show {host}",
            host=host,
            agent=agent,
            last_contact=last_contact,
        )


class SessionLost(UnavailableError):
    """The write session or reader has ended (expired, aborted, or its server restarted)."""

    code = "session-lost"
    retry = Retry.NOW
    http_status = 410
    default_hint = "start the command again; what the server already holds is not sent twice"


class FailedError(IbsError):
    """The work was tried and did not succeed."""

    code = "failed"


class NoSpace(FailedError):
    """A file system has run out of bytes, inodes or quota."""

    code = "no-space"
    retry = Retry.LATER
    http_status = 507

    def __init__(self, where: str, exhausted: str) -> None:
        """`where` is `datastore NAME`, or a folder; `exhausted` is one of `bytes`, `inodes`, `quota`."""
        cure = "raise it, or free some" if exhausted == "quota" else "free some"
        store = where.removeprefix("datastore ")
        if store != where:
            cure = f"see ironcore-backup datastore stats {store}; {cure}, or run ironcore-backup gc start {store}"
        super().__init__(
            f"no space: {where} has no free {exhausted}",
            hint=cure,
            where=where,
            exhausted=exhausted,
        )


class DatastoreReadOnly(FailedError):
    """The datastore takes no writes (read-only file system, or a write-back error made it so)."""

    code = "read-only"
    http_status = 507


class CorruptChunk(FailedError):
    """Stored bytes of a chunk do not match their digest or id."""

    code = "corrupt"

    def __init__(self, chunk: str, why: str, **details: Any) -> None:
        super().__init__(
            f"CORRUPT chunk {chunk}: {why}",
            hint="run: ironcore-backup verify start STORE --notification-mode always",
            chunk=chunk,
            **details,
        )


class DestinationNotWritable(FailedError):
    """The restore target is full, read-only or not permitted."""

    code = "destination-not-writable"

    def __init__(self, target: str, why: str, *, hint: str = "") -> None:
        super().__init__(
            f"destination not writable: {target}: {why}",
            hint=hint or "free space, change the target, or restore elsewhere",
            target=target,
        )


class SourceUnreadable(FailedError):
    """What should be backed up cannot be read at all."""

    code = "source-unreadable"


class CancelledError(IbsError):
    """The user stopped it."""

    code = "cancelled"
    exit_status = ExitStatus.CANCELLED
    http_status = 409
