"""How the verification of datastores stands: what is STALE and why, and whether a pass fits its window.

Used by `services.context` for the routes. Questions to the disk and the task list, not to the verifier: they are
answered while it is down, which is one of the things they tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from ibs.core import limits
from ibs.core.names import SnapshotName, parse_time
from ibs.core.tasks import TaskType
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.tasks import TaskRegistry
from ibs.errors import FormatError, IbsError, NotFoundError, UsageError
from ibs.runtime.supervisor import ServiceState, State
from ibs.services.verifier import CORRUPT, as_report
from ibs.units import format_bytes, format_duration
from ibs.wire.datastore import VerifyOutlook, VerifyReport
from ibs.wire.schedule import ScheduleView
from ibs.wire.system import TaskView

STALE = "STALE"
NEVER = ""
_MEASURED_BYTES_MIN = 16 * limits.MIB
_DAY = 86_400


@dataclass(frozen=True)
class Situation:
    """What explains staleness: the verifier's own state, the clock, and the tasks of verification."""

    now: datetime
    window_days: int
    verifier: ServiceState | None
    tasks: Sequence[TaskView]
    scheduled: Mapping[str, Sequence[ScheduleView]] = field(default_factory=dict)
    """The scheduled verifications of each store."""

    def why(self, store: str, namespace: str = "") -> str:
        """Why nothing verified the store's snapshots in that namespace in time."""
        if self.verifier is not None and self.verifier.state is not State.RUNNING:
            return f"the verifier is {self.verifier.state}: {self.verifier.last_error or 'no error is known'}"
        mine = [task for task in self.tasks if _is_of(task, store)]
        waiting = [task for task in mine if not task.ended]
        if waiting:
            return f"backlog: {len(waiting)} verifications are queued or running, the first since {waiting[-1].started}"
        if mine and mine[0].state == "CANCELLED":
            return f"the last verification was cancelled on {mine[0].ended}"
        if mine and mine[0].state == "FAILED":
            return f"the last verification failed on {mine[0].ended}: {mine[0].message}"[:500]
        mine_too = [one for one in self.scheduled.get(store, ()) if one.namespace in ("", namespace)]
        if not mine_too:
            return "no verification ran in time: no schedule"
        one = mine_too[0]
        return f"no verification ran in time: scheduled for {one.when}, the next is {one.next or 'never'}"

    def rate(self, store: str) -> float:
        """Bytes a second of the newest finished run of the store that read enough to tell; 0 when there is none."""
        for task in self.tasks:
            if _is_of(task, store) and task.ended and task.done_bytes >= _MEASURED_BYTES_MIN:
                seconds = (parse_time(task.ended) - parse_time(task.started)).total_seconds()
                return task.done_bytes / max(1.0, seconds)
        return 0.0


def _is_of(task: TaskView, store: str) -> bool:
    return task.id == store or task.id.startswith(f"{store}:")


async def situation(
    tasks: TaskRegistry,
    verifier: ServiceState | None,
    now: datetime,
    window_days: int | None,
    scheduled: Mapping[str, Sequence[ScheduleView]] | None = None,
) -> Situation:
    """Raises UsageError for a window out of range."""
    days = limits.VERIFY_WINDOW_DAYS if window_days is None else window_days
    if not 1 <= days <= limits.VERIFY_WINDOW_DAYS_MAX:
        raise UsageError(f"a window of {days} days is out of range", hint=f"use 1 to {limits.VERIFY_WINDOW_DAYS_MAX}")
    found = await tasks.list(type=TaskType.VERIFY.value, limit=limits.LIST_ROWS_MAX)
    return Situation(now, days, verifier, found, scheduled or {})


async def reports(datastores: Datastores, at: Situation, *, never: bool = False) -> list[VerifyReport]:
    """The last verification of each snapshot; STALE when it was too long ago, or never came in time.

    Snapshots that were not verified yet and are young are left out unless `never`: their result is "" then. At most
    LIST_ROWS_MAX; what lies in a datastore that is offline is left out.
    """
    found: list[VerifyReport] = []
    for datastore in datastores.opened():
        try:
            for name in await datastore.snapshots.every():
                report = await _report(datastore, name, at)
                if report is not None and (never or report.result != NEVER):
                    found.append(report)
                if len(found) >= limits.LIST_ROWS_MAX:
                    return found
        except IbsError:
            continue  # it went offline while we looked; `datastore list` says why
    return found


async def _report(datastore: Datastore, name: SnapshotName, at: Situation) -> VerifyReport | None:
    try:
        state = (await datastore.snapshots.load(name)).state.verify
    except NotFoundError:
        return None
    except FormatError as error:
        return _blank(datastore, name, CORRUPT, error.message)
    since = at.now - timedelta(days=at.window_days)
    why = at.why(datastore.name, str(name.namespace))
    if state is None:
        late = name.time is not None and name.time < since
        report = _blank(datastore, name, STALE if late else NEVER, "")
        return msgspec.structs.replace(report, stale=f"never verified; {why}") if late else report
    report = as_report(datastore.name, name, state)
    if report.result == "OK" and not _before(state.time, at.now + timedelta(days=1)):
        ahead = f"last checked {state.time}, which is yet to come: the clock was wrong then"
        return msgspec.structs.replace(report, result=STALE, stale=ahead)
    if report.result == "OK" and _before(state.time, since):
        days = f"last checked {state.time}, more than {at.window_days} days ago"
        return msgspec.structs.replace(report, result=STALE, stale=f"{days}; {why}")
    return report


def _before(time: str, since: datetime) -> bool:
    try:
        return parse_time(time) < since
    except UsageError:
        return True


def _blank(datastore: Datastore, name: SnapshotName, result: str, failure: str) -> VerifyReport:
    return VerifyReport(
        snapshot=str(name),
        started="",
        duration_seconds=0.0,
        chunks=0,
        bytes=0,
        result=result,
        proof=[],
        first_failure=failure,
        store=datastore.name,
    )


async def outlooks(datastores: Datastores, at: Situation) -> list[VerifyOutlook]:
    """One a datastore that is open: counts by result, the oldest check, and whether all of it can be read in time."""
    rows = await reports(datastores, at, never=True)
    found = []
    for datastore in datastores.opened():
        mine = [row for row in rows if row.store == datastore.name]
        counts = Counter(row.result for row in mine)
        try:
            stored = (await datastore.context.pool.disk(datastore.store.counts)).stored_bytes
        except IbsError:
            continue
        rate = at.rate(datastore.name)
        seconds = stored / rate if rate else 0.0
        checked = [row.started for row in mine if row.started]
        found.append(
            VerifyOutlook(
                name=datastore.name,
                snapshots=len(mine),
                ok=counts["OK"],
                corrupt=counts["CORRUPT"],
                missing=counts["MISSING"],
                stale=counts[STALE],
                never=counts[NEVER],
                oldest_check=min(checked, default=""),
                bytes=stored,
                rate_bytes=round(rate),
                pass_seconds=round(seconds),
                window_days=at.window_days,
                fits=None if not rate else seconds <= at.window_days * _DAY,
                text=_forecast(stored, rate, seconds, at.window_days),
            )
        )
    return found


def _forecast(stored: int, rate: float, seconds: float, days: int) -> str:
    if not rate:
        return f"no rate is known yet: verify it once; {format_bytes(stored)} are to be read every {days} days"
    pace = f"{format_bytes(stored)} take {format_duration(seconds)} at {format_bytes(rate)}/s"
    share = 100 * seconds / (days * _DAY)
    if share <= 100:
        return f"fits: {pace}, {share:.2g} % of the window of {days} days"
    cures = "raise --verify-window-days, --max-concurrent-snapshots or --io-limit, or partition the datastore"
    return f"does not fit: {pace}, {share:.0f} % of the window of {days} days; {cures}"
