"""What a datastore may be used for: the modes, their durable record, and the rule between the two.

Pure; imported by `engine` and the tests. A quarantine and a maintenance are separate facts of one record: ending one
leaves the other. The stricter of the two decides; what neither forbids is allowed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from ibs.errors import DatastoreOffline, FormatError, IbsError, Quarantined, UnderMaintenance


class Mode(StrEnum):
    """What a datastore is held to, in the words of every listing."""

    NORMAL = "normal"
    QUARANTINED = "quarantined"
    READ_ONLY = "read-only"
    OFFLINE = "offline"


class Use(StrEnum):
    """What somebody wants to do with a datastore. The value completes `it takes no …`."""

    WRITE = "new backups"
    READ = "restores"
    VERIFY = "verification"
    REPAIR = "repair"
    PRUNE = "pruning"
    """Whatever makes snapshots go: forget, prune, bin and trash timers, discarding of interrupted sessions."""
    GC = "garbage collection"


_ALLOWED: Final = {
    Mode.NORMAL: frozenset(Use),
    Mode.QUARANTINED: frozenset({Use.READ, Use.VERIFY, Use.REPAIR}),
    Mode.READ_ONLY: frozenset({Use.READ, Use.VERIFY}),
    Mode.OFFLINE: frozenset[Use](),
}


class Quarantine(msgspec.Struct, frozen=True, kw_only=True):
    """Why, when (RFC 3339) and by whom a datastore was quarantined."""

    reason: str
    since: str
    by: str


class Maintenance(msgspec.Struct, frozen=True, kw_only=True):
    """`mode` is `read-only` or `offline`."""

    mode: Mode
    reason: str
    since: str
    by: str


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the last quarantine: the cause that was established, and what the quarantine was."""

    cause: str
    time: str
    by: str
    quarantine: Quarantine | None = None


class ModeRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`.ibs/mode.json` (contrib/docs/formats.md)."""

    quarantine: Quarantine | None = None
    maintenance: Maintenance | None = None
    released: Release | None = None

    @property
    def mode(self) -> Mode:
        """The one to show: offline before quarantined before read-only."""
        if self.maintenance is not None and self.maintenance.mode is Mode.OFFLINE:
            return Mode.OFFLINE
        if self.quarantine is not None:
            return Mode.QUARANTINED
        return self.maintenance.mode if self.maintenance is not None else Mode.NORMAL

    @property
    def reason(self) -> str:
        """Why, in one clause; empty in normal mode."""
        if self.mode is Mode.QUARANTINED and self.quarantine is not None:
            return _clause("quarantined", self.quarantine)
        return _clause("in maintenance", self.maintenance) if self.maintenance is not None else ""

    def allows(self, use: Use) -> bool:
        """Whether nothing forbids it."""
        return self._forbidding(use) is None

    def refusal(self, use: Use, store: str) -> IbsError | None:
        """The error for it; None when it is allowed."""
        by = self._forbidding(use)
        if by is None:
            return None
        if by is Mode.QUARANTINED:
            return Quarantined(store, self.quarantine.reason if self.quarantine is not None else "", use.value)
        reason = _clause("in maintenance", self.maintenance) if self.maintenance is not None else "in maintenance"
        if by is Mode.OFFLINE:
            return DatastoreOffline(store, reason, hint=f"end it: ironcore-backup datastore maintenance {store} off")
        return UnderMaintenance(store, reason, use.value)

    def _forbidding(self, use: Use) -> Mode | None:
        """The mode that forbids it, as strict ones first."""
        held = self.maintenance.mode if self.maintenance is not None else Mode.NORMAL
        quarantined = Mode.QUARANTINED if self.quarantine is not None else Mode.NORMAL
        for mode in (Mode.OFFLINE if held is Mode.OFFLINE else Mode.NORMAL, quarantined, held):
            if use not in _ALLOWED[mode]:
                return mode
        return None


def _clause(what: str, fact: Quarantine | Maintenance) -> str:
    return f"{what} since {fact.since} by {fact.by}" + (f": {fact.reason}" if fact.reason else "")


def encode(record: ModeRecord) -> bytes:
    """Its JSON with a final newline."""
    return msgspec.json.encode(record) + b"\n"


def decode(data: bytes) -> ModeRecord:
    """The inverse; no bytes are normal mode. Raises FormatError."""
    if not data:
        return ModeRecord()
    try:
        record = msgspec.json.decode(data, type=ModeRecord)
    except msgspec.MsgspecError as error:
        raise FormatError(f"the datastore's mode cannot be read: {error}") from error
    if record.maintenance is not None and record.maintenance.mode not in (Mode.READ_ONLY, Mode.OFFLINE):
        raise FormatError(f"the datastore's mode cannot be read: maintenance is {record.maintenance.mode}")
    return record
