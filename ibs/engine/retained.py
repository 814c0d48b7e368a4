"""Snapshots that nobody may remove before their time: locks on single ones, and compliance mode of namespaces.

Used by all of `engine` as `StoreContext.retained`, changed through the desks. Kept in the store (`.ibs/locks.json`), so
that a takeover of the store does not lose it. Invariants: a lock is only ever made longer; it ends by the store's own
clock, which stands still when the machine's jumps; while the record cannot be read, everything counts as locked.
Every way in which a snapshot leaves its place asks `check` first.
"""

from __future__ import annotations

import threading
from datetime import datetime

import msgspec

from ibs.core import limits_access
from ibs.core.locks import Lock, LockRecord, Period, held, with_lock, with_period
from ibs.core.names import Namespace, SnapshotName, format_time
from ibs.engine.storetime import StoreTime
from ibs.errors import FormatError, RefusedError, UsageError
from ibs.storage.local.records import LOCKS, StoreRecords
from ibs.units import format_duration


class Retained:
    """Thread-safe; everything here reads or writes the store: call it from the pool. Raises DatastoreOffline."""

    def __init__(self, name: str, records: StoreRecords, time: StoreTime) -> None:
        self._name = name
        self._records = records
        self._time = time
        self._changing = threading.Lock()
        self._known: LockRecord | None = None  # only the store's one server writes the record

    def record(self) -> LockRecord:
        """All that is locked, and all compliance modes. Raises FormatError."""
        known = self._known
        if known is not None:
            return known
        data = self._records.read(LOCKS)
        try:
            self._known = record = msgspec.json.decode(data, type=LockRecord) if data else LockRecord()
            return record
        except msgspec.MsgspecError as error:
            raise FormatError(
                f"the locks of datastore {self._name} cannot be read: {error}",
                hint=f"no snapshot leaves it until .ibs/{LOCKS} is back from a replica",
            ) from error

    def until(self, name: SnapshotName, record: LockRecord | None = None) -> tuple[datetime, str] | None:
        """Until when by the wall clock, as things look now, and who says so; None when it is not locked (any more).

        Raises FormatError.
        """
        found = held(self.record() if record is None else record, name, self._made(name))
        if found is None or found.until <= self._time.now():
            return None
        return self._time.wall(found.until), found.by

    def locked(self, name: SnapshotName) -> bool:
        """Whether it must stay where it is; what cannot be read speaks for staying."""
        try:
            return self.until(name) is not None
        except FormatError:
            return True

    def check(self, name: SnapshotName) -> None:
        """Raises RefusedError when the snapshot must stay, FormatError when that cannot be told."""
        found = self.until(name)
        if found is None:
            return
        until, by = found
        still = f"; the clock of {self._name} stands still: {self._time.frozen}" if self._time.frozen else ""
        raise RefusedError(
            f"snapshot {name} is locked until {format_time(until)} by {by}{still}",
            hint="nobody can take a lock away; it ends by itself",
        )

    def lock(self, name: SnapshotName, until: datetime, by: str, now: datetime) -> None:
        """Lock one snapshot until `until` of the wall clock, which says `now`. An earlier end than it has is refused.

        Raises UsageError, RefusedError, FormatError. *Durability*: durable when it returns.
        """
        seconds = int((until - now).total_seconds())
        if not 0 < seconds <= limits_access.LOCK_SECONDS_MAX:
            longest = format_duration(limits_access.LOCK_SECONDS_MAX)
            raise UsageError(f"a lock until {format_time(until)} is not possible", hint=f"up to {longest} from now")
        with self._changing:
            started = self._time.keep()
            record = self.record()
            before = held(record, name, self._made(name))
            if before is not None and before.until > started + seconds:
                shown = format_time(self._time.wall(before.until))
                raise RefusedError(f"snapshot {name} is locked until {shown} already", hint="a lock is never shortened")
            if len(record.snapshots) >= limits_access.LOCKED_SNAPSHOTS_MAX and str(name) not in record.snapshots:
                raise UsageError(
                    f"{len(record.snapshots)} snapshots are locked one by one already",
                    hint="use compliance mode: ironcore-backup namespace compliance set",
                )
            lock = Lock(until=started + seconds, by=by, time=format_time(now))
            self._write(with_lock(record, name, lock, started))

    def set_period(self, namespace: Namespace, seconds: int, by: str, now: datetime) -> Period:
        """Lock every snapshot of a namespace, and of those below, for so long after it was made; 0: no more new ones.

        What was made so far keeps the longer of both. Raises UsageError, FormatError. *Durability*: durable.
        """
        if not 0 <= seconds <= limits_access.LOCK_SECONDS_MAX:
            longest = format_duration(limits_access.LOCK_SECONDS_MAX)
            raise UsageError(f"a period of {seconds} seconds is not possible", hint=f"up to {longest}")
        with self._changing:
            started = self._time.keep()
            record = self.record()
            if (
                len(record.namespaces) >= limits_access.LOCKED_NAMESPACES_MAX
                and str(namespace) not in record.namespaces
            ):
                raise UsageError(f"{len(record.namespaces)} namespaces have a compliance mode already")
            period = Period(seconds=seconds, by=by, time=format_time(now))
            self._write(with_period(record, namespace, period, started))
        return period

    def _made(self, name: SnapshotName) -> int:
        """When it was made, by the store's clock, which is never behind the wall clock that named it."""
        return 0 if name.time is None else int(name.time.timestamp()) - self._time.record.offset

    def _write(self, record: LockRecord) -> None:
        self._known = None
        self._records.write(LOCKS, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
