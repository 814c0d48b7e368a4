"""Until when a snapshot is locked: what was said of it alone, and what its namespace says of all.

Pure; used by `engine.retained`. All times are seconds of the store's own clock. What must stay so: nothing that is said
later makes a lock end earlier. A compliance period that is shortened or taken away goes on for what was made under it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ibs.core.names import Namespace, SnapshotName


class Period(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Snapshots of a namespace are locked for `seconds` after they were made; `ended`: only those made until then."""

    seconds: int
    by: str
    time: str
    ended: int = 0


class Lock(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One snapshot is locked until then, said `by` at `time` (RFC 3339)."""

    until: int
    by: str
    time: str


class LockRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`.ibs/locks.json` (contrib/docs/formats.md). `namespaces` by their written form, "" for the whole datastore."""

    namespaces: dict[str, list[Period]] = {}
    snapshots: dict[str, Lock] = {}


class Held(msgspec.Struct, frozen=True):
    """The lock in force: until when, and who or what says so."""

    until: int
    by: str


def held(record: LockRecord, name: SnapshotName, made: int) -> Held | None:
    """The lock of a snapshot that was made at `made`, whether or not it has ended; None without any."""
    found: list[Held] = []
    own = record.snapshots.get(str(name))
    if own is not None:
        found.append(Held(own.until, own.by))
    parts = name.namespace.parts
    for depth in range(len(parts) + 1):
        space = "/".join(parts[:depth])
        whose = f"compliance mode of namespace {space}" if space else "compliance mode of the datastore"
        for period in record.namespaces.get(space, ()):
            if not period.ended or made <= period.ended:
                found.append(Held(made + period.seconds, whose))
    return max(found, key=lambda one: one.until, default=None)


def with_lock(record: LockRecord, name: SnapshotName, lock: Lock, now: int) -> LockRecord:
    """The record with a lock more; locks that have ended are left out."""
    kept = {each: old for each, old in record.snapshots.items() if old.until > now}
    before = record.snapshots.get(str(name))
    kept[str(name)] = lock if before is None or lock.until >= before.until else before
    return msgspec.structs.replace(record, snapshots=dict(sorted(kept.items())))


def with_period(record: LockRecord, namespace: Namespace, period: Period, now: int) -> LockRecord:
    """The record with what holds in a namespace from now on; seconds 0: nothing more. The past keeps its locks."""
    before = [_ended(one, period, now) for one in record.namespaces.get(str(namespace), ())]
    kept = [one for one in before if one is not None]
    if period.seconds:
        kept.append(period)
    spaces = {each: list(periods) for each, periods in record.namespaces.items() if each != str(namespace)}
    if kept:
        spaces[str(namespace)] = kept
    return msgspec.structs.replace(record, namespaces=dict(sorted(spaces.items())))


def _ended(old: Period, new: Period, now: int) -> Period | None:
    """What is left of a period when another follows; None when nothing is."""
    if not old.ended:
        if new.seconds >= old.seconds:
            return None  # the longer one holds for what was made before as well
        return msgspec.structs.replace(old, ended=max(now, 1))
    return old if old.ended + old.seconds > now else None


def current(periods: Sequence[Period]) -> Period | None:
    """The period that holds for what is made now."""
    return next((one for one in periods if not one.ended), None)
