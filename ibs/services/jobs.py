"""Desk for jobs: made, changed, shown, run by hand, and by themselves when they are due.

Made by `roster`, used through `ServerContext`; `run_due` is called by the worker, which the scheduler reminds.
Invariants: a due run, the job's next time and the run's tasks are one step in the catalog; a run that comes while the
same job still waits for the same host is done by the one that waits, and that is told in its log; what cannot be
queued now (a full queue) stays due. Tasks of jobs run as root@ibs, whoever made the job.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Protocol

import msgspec

from ibs.catalog.jobs import JobRecord, JobTable
from ibs.catalog.tasks import TaskFilter
from ibs.core import limits
from ibs.core.access import ROOT
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import Group, Namespace, check_name, format_time
from ibs.core.schedule import delay_of, next_time, upcoming
from ibs.core.tasks import TaskType
from ibs.engine.datastores import Datastores
from ibs.engine.task import Task
from ibs.engine.tasks import TaskRegistry
from ibs.errors import IbsError, NotFoundError, UsageError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.services.pruning import policy_of
from ibs.services.worker import checked, subject_of
from ibs.services.workqueue import WorkQueue
from ibs.wire.hosts import HostView
from ibs.wire.jobs import CalendarRow, JobCreate, JobSpec, JobUpdate, JobView
from ibs.wire.lifecycle import PruneRequest
from ibs.wire.system import BackupRun

_NS = 1_000_000_000
_LATE_SECONDS = 300
"""A run that is later than this was missed; earlier it is merely late."""
_log = get_logger("scheduler")

PruneGroup = Callable[[str, str, PruneRequest, None], Awaitable[str]]
"""Prune as a task: datastore, by whom, what, and no limit on whose groups."""


class HostList(Protocol):
    """Which hosts there are. Implemented by `services.hosts`."""

    def list(self) -> list[HostView]: ...


class JobDesk:
    """One a server. Belongs to the trio thread."""

    def __init__(
        self,
        table: JobTable,
        queue: WorkQueue,
        tasks: TaskRegistry,
        datastores: Datastores,
        *,
        hosts: HostList | None,
        node: str,
        clock: Clock,
        publish: Callable[[Event], None],
        prune: PruneGroup | None = None,
    ) -> None:
        self._table, self._queue, self._tasks, self._datastores = table, queue, tasks, datastores
        self._hosts, self._node, self._clock, self._publish, self._prune = hosts, node, clock, publish, prune
        self._trouble: dict[str, str] = {}
        self._looked: datetime | None = None

    # --- as administrators see it ---

    async def list(self) -> Sequence[JobView]:
        """All jobs, by name."""
        return [await self._view(record) for record in await self._table.list()]

    async def show(self, name: str) -> JobView:
        """Raises NotFoundError."""
        return await self._view(await self._table.get(name))

    async def create(self, by: str, request: JobCreate) -> JobView:
        """Raises UsageError for what makes no sense, ConflictError, NotFoundError, DatastoreOffline."""
        check_name(request.name, "job name")
        await self._check(request.name, request.spec)
        now = self._clock.now_ns()
        record = JobRecord(
            name=request.name,
            spec=request.spec,
            enabled=request.enabled,
            created_ns=now,
            changed_ns=now,
            changed_by=by,
        )
        record = self._planned(record)
        await self._table.add(record)
        self._tell(record.name, f"made by {by}", by)
        return await self._view(record)

    async def update(self, by: str, name: str, request: JobUpdate) -> JobView:
        """Raises as `create` does. Tasks that are queued already stay as they are."""
        before = await self._table.get(name)
        spec = request.spec if request.spec is not None else before.spec
        enabled = request.enabled if request.enabled is not None else before.enabled
        if request.spec is not None:
            await self._check(name, spec)
        changed = max(self._clock.now_ns(), before.changed_ns + 1)
        record = self._planned(replace(before, spec=spec, enabled=enabled, changed_ns=changed, changed_by=by))
        await self._table.update(record)
        if before.spec.retention is not None and (spec.retention is None or spec.store != before.spec.store):
            await self._drop_retention(before)
        self._trouble.pop(name, None)
        self._tell(name, f"{'changed' if request.spec else 'enabled' if enabled else 'disabled'} by {by}", by)
        return await self._view(record)

    async def remove(self, by: str, name: str) -> None:
        """Its tasks and snapshots stay, its retention goes. Raises NotFoundError."""
        before = await self._table.get(name)
        await self._table.remove(name)
        self._trouble.pop(name, None)
        if before.spec.retention is not None:
            await self._drop_retention(before)
        self._tell(name, f"removed by {by}", by)

    async def run(self, name: str) -> Sequence[str]:
        """Queue it now, enabled or not; the UPIDs. Raises NotFoundError, UsageError, BusyError."""
        runs = self._runs(await self._table.get(name))
        self._queue.require_room(len(runs))
        return [await self._queue.submit(run, subject_of(run), str(ROOT)) for run in runs]

    async def calendar(self, days: int) -> Sequence[CalendarRow]:
        """Runs of the last and the next `days`, by time. Raises UsageError."""
        if not 1 <= days <= limits.JOB_CALENDAR_DAYS_MAX:
            raise UsageError(f"{days} days are out of range", hint=f"use 1 to {limits.JOB_CALENDAR_DAYS_MAX}")
        now, span = self._clock.now(), timedelta(days=days)
        since = int((now - span).timestamp()) * _NS
        tasks = await self._tasks.list(
            type=TaskType.BACKUP.value, limit=limits.JOB_CALENDAR_ROWS_MAX, wanted=TaskFilter(since_ns=since)
        )
        rows = [
            CalendarRow(
                time=one.started,
                job=one.job,
                host=one.host or self._node,
                state=one.state,
                upid=one.upid,
                message=one.message,
            )
            for one in tasks
            if one.job
        ]
        for record in await self._table.list():
            rows += self._planned_rows(record, now, now + span)
        return sorted(rows, key=lambda row: (row.time, row.job, row.host))

    # --- when the time has come ---

    async def run_due(self) -> None:
        """Queue the tasks of every job that is due. *Cancellation*: between two; the rest is due again."""
        now = self._clock.now()
        set_back = self._looked is not None and now < self._looked - timedelta(minutes=1)
        self._looked = now
        for record in await self._table.list():
            if not record.enabled or record.next_run_ns is None:
                continue
            if _moment(record.next_run_ns) <= now:
                await self._come_to(record, now)
            elif set_back:
                await self._table.update(self._planned(record))

    async def _come_to(self, record: JobRecord, now: datetime) -> None:
        try:
            following = self._next_ns(record, now)
            due = _moment(record.next_run_ns or 0)
            rows = []
            if record.spec.catch_up or (now - due).total_seconds() <= _LATE_SECONDS:
                runs = [run for run in self._runs(record) if not self._joins(run, due)]
                self._queue.require_room(len(runs))
                rows = [self._queue.draft(run, subject_of(run), str(ROOT)) for run in runs]
            else:
                _log.info("a run was missed and is not made up for", job=record.name, due=format_time(due))
            if await self._table.fire(record, int(now.timestamp()) * _NS, following, rows):
                await self._queue.admit(rows)
            self._trouble.pop(record.name, None)
        except IbsError as error:
            if self._trouble.get(record.name) != error.message:
                _log.warning("a due job could not be queued", job=record.name, reason=error.message)
                self._tell(record.name, f"could not run: {error.message}", "", Severity.ERROR)
            self._trouble[record.name] = error.message

    def _joins(self, run: BackupRun, due: datetime) -> bool:
        """Whether one of the same job still waits for that host; it does this run too."""
        for item in self._queue.waiting:
            if (item.row.run.job, item.row.run.host) == (run.job, run.host):
                item.task.log("info", f"the run that was due at {format_time(due)} is done by this task too")
                return True
        return False

    async def after(self, task: Task, run: BackupRun) -> None:
        """A backup has succeeded: prune the group that it wrote, if its job has a retention. Failures are warnings."""
        if not run.job or self._prune is None:
            return
        try:
            spec = (await self._table.get(run.job)).spec
            if spec.retention is None or spec.store != run.store:
                return
            datastore = await self._datastores.get(run.store)
            namespace, group = Namespace.parse(run.namespace), Group(run.backup_type, run.backup_id)
            await datastore.retention.set_group(namespace, group, policy_of(spec.retention), run.job)
            request = PruneRequest(namespace=run.namespace, group=str(group))
            task.log(
                "info", f"pruning by the job's retention: {await self._prune(run.store, str(ROOT), request, None)}"
            )
        except NotFoundError:
            return  # the job was removed meanwhile
        except IbsError as error:
            task.log("info", f"not pruned now: {error.message}; the datastore's next prune does it")

    # --- what a job comes to ---

    def _runs(self, record: JobRecord) -> Sequence[BackupRun]:
        spec = record.spec
        found = self._comes_to(spec)
        if not found:
            raise UsageError(
                f"no host matches job {record.name}", hint="see: ironcore-backup host list; then: job update --tag …"
            )
        return [
            checked(
                BackupRun(
                    store=spec.store,
                    sources=spec.sources,
                    namespace=spec.namespace,
                    backup_type=spec.backup_type,
                    backup_id=spec.backup_id,
                    exclude=spec.exclude,
                    all_file_systems=spec.all_file_systems,
                    reread_every=spec.reread_every,
                    bandwidth=spec.bandwidth,
                    host=host,
                    job=record.name,
                    notification_group=spec.notification_group,
                    pre_hook=spec.pre_hook,
                    post_hook=spec.post_hook,
                    window=spec.window,
                    time_zone=spec.time_zone,
                    retries=spec.retries,
                ),
                self._node,
            )
            for host in found
        ]

    def _comes_to(self, spec: JobSpec) -> Sequence[str]:
        """Names of hosts. Those that are named are there even when nobody knows them: their tasks then say so."""
        if not (spec.hosts or spec.tags or spec.projects):
            return [self._node]
        names = set(spec.hosts)
        for host in self._hosts.list() if self._hosts is not None else []:
            if set(host.tags) & set(spec.tags) or (host.project and host.project in spec.projects):
                names.add(host.name)
        return sorted(
            name
            for name in names
            if (not spec.include or any(fnmatchcase(name, pattern) for pattern in spec.include))
            and not any(fnmatchcase(name, pattern) for pattern in spec.leave_out)
        )[: limits.JOB_HOSTS_MAX]

    async def _check(self, name: str, spec: JobSpec) -> None:
        await self._datastores.get(spec.store)
        if spec.retention is not None:
            policy_of(spec.retention)
        if spec.schedule:
            next_time(spec.schedule, spec.time_zone, self._clock.now())
        probe = msgspec.structs.replace(spec, hosts=spec.hosts or [self._node], tags=[], projects=[], include=[])
        now = self._clock.now_ns()
        record = JobRecord(name=name, spec=probe, enabled=True, created_ns=now, changed_ns=now, changed_by="")
        self._runs(replace(record, spec=msgspec.structs.replace(probe, leave_out=[])))
        if spec.backup_id and len(self._comes_to(spec)) > 1:
            raise UsageError(
                "several hosts cannot write one group", hint="leave --backup-id out: each host gets its own group"
            )

    # --- times ---

    def _next_ns(self, record: JobRecord, after: datetime) -> int | None:
        """None: never again by itself."""
        spec = record.spec
        found = upcoming(spec.schedule, spec.time_zone, after, 1) if spec.schedule and record.enabled else []
        if not found:
            return None
        return int((found[0] + delay_of(record.name, found[0], spec.random_delay)).timestamp()) * _NS

    def _planned(self, record: JobRecord) -> JobRecord:
        return replace(record, next_run_ns=self._next_ns(record, self._clock.now()))

    def _planned_rows(self, record: JobRecord, now: datetime, until: datetime) -> Sequence[CalendarRow]:
        spec, due = record.spec, record.next_run_ns
        if not record.enabled or due is None:
            return []
        times = [_moment(due)]
        for one in upcoming(spec.schedule, spec.time_zone, max(now, _moment(due)), limits.JOB_CALENDAR_ROWS_MAX // 10):
            times.append(one + delay_of(record.name, one, spec.random_delay))
        return [
            CalendarRow(time=format_time(time), job=record.name, host=host, state="planned")
            for time in times
            if time <= until
            for host in self._comes_to(spec) or ["none"]
        ]

    # --- views ---

    async def _view(self, record: JobRecord) -> JobView:
        tasks = await self._tasks.list(limit=limits.JOB_HOSTS_MAX, wanted=TaskFilter(job=record.name))
        states: dict[str, str] = {}
        for task in tasks:
            states.setdefault(task.host or self._node, task.state)
        return JobView(
            name=record.name,
            spec=record.spec,
            enabled=record.enabled,
            comes_to=list(self._comes_to(record.spec)),
            next=_text(record.next_run_ns) if record.enabled else "",
            last=_text(record.last_run_ns),
            last_states=states,
            changed=_text(record.changed_ns),
            changed_by=record.changed_by,
            trouble=self._trouble.get(record.name, ""),
        )

    async def _drop_retention(self, before: JobRecord) -> None:
        try:
            await (await self._datastores.get(before.spec.store)).retention.clear_job(before.name)
        except IbsError as error:
            _log.warning("the retention of a job stays in its datastore", job=before.name, reason=error.message)

    def _tell(self, name: str, what: str, by: str, severity: Severity = Severity.NOTICE) -> None:
        text = f"job {name} {what}"[: limits.EVENT_TEXT_CHARS_MAX]
        source = EventSource.CONFIGURATION if by else EventSource.BACKUP
        kind = "job.changed" if by else "job.trouble"
        self._publish(Event(self._clock.now(), source, severity, kind, text, {"job": name, "auth_id": by}))


def _moment(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns // _NS, UTC)


def _text(time_ns: int | None) -> str:
    return "" if time_ns is None else format_time(_moment(time_ns))
