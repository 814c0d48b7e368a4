"""What a write session is, fixed when it opens and kept in its staging folder as `session.json`; its states.

Used by `engine` only. A session on disk whose server died is read back from these facts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from ibs.core.manifest import Manifest, Signature
from ibs.core.names import SnapshotName
from ibs.errors import FormatError, UsageError
from ibs.wire.session import StageReport

SESSION_FILE = "session.json"
SESSION_FILE_BYTES_MAX = 1 << 20
_SESSION_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class SessionState(StrEnum):
    OPEN = "open"
    COMMITTING = "committing"
    COMMITTED = "committed"
    INTERRUPTED = "interrupted"  # its chunks are kept for a resumption


class SessionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`domain` is hex; `sequence` and `previous` are what the manifest must state; `signer` hex or "".

    `foreign`: the digest (hex) of the one manifest that may be committed, from another datastore; "" for a backup.

    `leftover`: the session is committed, and its journal names what it delivered or inherited in vain. Such a folder is
    never resumed, only discarded in its time.
    """

    format: int = 1
    session_id: str
    store_uuid: str
    auth_id: str
    snapshot: str
    archives: list[str]
    domain: str
    key_fingerprint: str
    epoch: int
    opened: str
    upid: str
    sequence: int
    previous: str
    signer: str = ""
    signing_key: str = ""
    foreign: str = ""
    leftover: bool = False

    @property
    def name(self) -> SnapshotName:
        """The snapshot this session will make."""
        return SnapshotName.parse(self.snapshot)

    @property
    def domain_bytes(self) -> bytes:
        return bytes.fromhex(self.domain)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A snapshot of another datastore that is to be kept as it is. `signer`: whom its server is trusted to sign as.

    `remote` is what the other server is called here.
    """

    raw: bytes
    manifest: Manifest
    signature: Signature
    signer: bytes
    remote: str
    notes: str = ""
    protected: bool = False


class SessionObserver(Protocol):
    """Whoever shows the session as a task. Called after the fact; must not raise."""

    async def reported(self, report: StageReport) -> None:
        """The client sent figures and log lines."""
        ...

    async def ended(self, status: str, message: str) -> None:
        """`status` is OK, WARNING, FAILED or CANCELLED."""
        ...


def is_session_id(text: str) -> bool:
    """Whether a folder in staging can be a session's."""
    return _SESSION_ID.fullmatch(text) is not None


def decode_facts(content: bytes) -> SessionFacts:
    """Raises FormatError."""
    try:
        facts = msgspec.json.decode(content, type=SessionFacts)
        if len(facts.domain_bytes) != 32 or not is_session_id(facts.session_id) or facts.name.time is None:
            raise ValueError("facts out of range")
    except (msgspec.MsgspecError, ValueError, UsageError) as error:
        raise FormatError(f"{SESSION_FILE} is damaged: {error}") from error
    return facts
