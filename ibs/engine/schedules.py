"""When a datastore is verified, pruned and its garbage collected by itself: one record in the store.

Used by `services.plans` as `Datastore.schedules`. It lies in the store, like retention: whoever attaches the store
elsewhere finds it. Where nothing is set, garbage is collected and what retention wants is pruned every night, and
nothing is verified. Times are systemd calendar expressions in UTC; whether one is valid is the scheduler's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from ibs.core import limits
from ibs.core.names import Namespace, format_time
from ibs.engine.context import StoreContext
from ibs.errors import FormatError, NotFoundError, UsageError
from ibs.storage.local.records import SCHEDULES

VERIFY, GC, PRUNE = "verify", "gc", "prune"
KINDS: Final = (VERIFY, GC, PRUNE)
NEVER: Final = "never"
DEFAULTS: Final = {PRUNE: "*-*-* 00:30", GC: "*-*-* 03:30"}
"""Pruning comes first: what it moves to the bin, a later night's collection finds there."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`when` a calendar expression, or `never`. The rest as the command of that kind takes it; `namespace`, window and
    slots are of verification only. `by` and `time` are empty for a default.
    """

    kind: str
    when: str
    namespace: str = ""
    window_days: int | None = None
    slots: int = 1
    io_limit: int = 0
    notification_mode: str = "on-failure"
    by: str = ""
    time: str = ""

    @property
    def key(self) -> str:
        """What there is one schedule of in a datastore."""
        return f"{self.kind}:ns:{self.namespace}" if self.namespace else self.kind

    @property
    def on(self) -> bool:
        return self.when != NEVER

    @property
    def is_default(self) -> bool:
        return not self.by


class ScheduleRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`.ibs/schedules.json` (contrib/docs/formats.md)."""

    schedules: list[Schedule] = []


class Schedules:
    """One a datastore. Methods raise DatastoreOffline, and FormatError when the record is damaged."""

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._changing = trio.Lock()

    async def all(self) -> Sequence[Schedule]:
        """Those that are set, and the defaults of what is not, by kind and namespace."""
        kept = (await self._context.pool.disk(self._read)).schedules
        known = {one.key for one in kept}
        rest = [Schedule(kind=kind, when=when) for kind, when in DEFAULTS.items() if kind not in known]
        return sorted([*kept, *rest], key=lambda one: (KINDS.index(one.kind), one.namespace))

    async def set(self, schedule: Schedule, by: str) -> Schedule:
        """Replace the one of that kind and namespace. Raises UsageError, DatastoreReadOnly, NoSpace.

        *Durability*: durable when it returns.
        """
        _check(schedule)
        made = msgspec.structs.replace(schedule, by=by, time=format_time(self._context.clock.now()))
        async with self._changing:
            await self._context.pool.disk(self._change, made.key, made)
        return made

    async def unset(self, kind: str, namespace: str = "") -> None:
        """Back to the default. Raises NotFoundError when nothing is set, UsageError."""
        gone = Schedule(kind=kind, when=NEVER, namespace=namespace)
        _check(gone)
        async with self._changing:
            await self._context.pool.disk(self._change, gone.key, None)

    def _read(self) -> ScheduleRecord:
        data = self._context.store.records.read(SCHEDULES)
        if not data:
            return ScheduleRecord()
        try:
            record = msgspec.json.decode(data, type=ScheduleRecord)
            for one in record.schedules:
                _check(one)
        except (msgspec.MsgspecError, UsageError) as error:
            raise FormatError(
                f"the schedules of datastore {self._context.name} cannot be read: {error}",
                hint="set them again: ironcore-backup verify schedule set STORE …",
            ) from error
        return record

    def _change(self, key: str, schedule: Schedule | None) -> None:
        try:
            before = self._read().schedules
        except FormatError:
            if schedule is None:
                raise
            before = []  # stated anew; what was there is lost already
        others = [one for one in before if one.key != key]
        if schedule is None:
            if len(others) == len(before):
                raise NotFoundError(f"no schedule is set for {key.replace(':ns:', ' of namespace ')}")
        elif len(others) >= limits.SCHEDULES_PER_STORE_MAX:
            raise UsageError(f"more than {limits.SCHEDULES_PER_STORE_MAX} schedules are set already")
        else:
            others.append(schedule)
        record = ScheduleRecord(schedules=sorted(others, key=lambda one: one.key))
        self._context.store.records.write(SCHEDULES, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")


def _check(schedule: Schedule) -> None:
    """Raises UsageError."""
    if schedule.kind not in KINDS:
        raise UsageError(f"schedules are of {', '.join(KINDS)}, not {schedule.kind[:64]!r}")
    if str(Namespace.parse(schedule.namespace)) != schedule.namespace:
        raise UsageError(f"namespace {schedule.namespace!r} is not written like a/b")
    if schedule.namespace and schedule.kind != VERIFY:
        raise UsageError(
            f"{schedule.kind} is scheduled for a whole datastore", hint="leave the namespace out; retention has levels"
        )
    if not 1 <= len(schedule.when) <= limits.SCHEDULE_CHARS_MAX:
        raise UsageError("the time is missing or too long", hint="write it like daily, Sun 04:30, or never")
