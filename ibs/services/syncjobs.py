"""Desk for sync jobs: made, changed, shown, run by hand, and by themselves when they are due.

Made by `app`, used through `ServerContext.sync_jobs`; what a run does is `services.copying`'s. Invariants: a job never
runs twice at once; a due run that cannot begin now (a datastore offline, the last run still under way) stays due, and
the reason is told once. Runs are of root@ibs, whoever made the job, so that its groups have one owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import trio
from msgspec import structs

from ibs.catalog.syncjobs import SyncJobRow, SyncJobTable
from ibs.core import limits, limits_sync
from ibs.core.access import ROOT
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import Namespace, check_name, format_time, parse_time
from ibs.core.schedule import next_time, upcoming
from ibs.core.tasks import TaskState
from ibs.engine.datastores import Datastores
from ibs.engine.tasks import TaskRegistry
from ibs.errors import BusyError, IbsError, NotFoundError, UsageError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.services.copying import filter_of
from ibs.services.remotes import Remotes
from ibs.wire.datastore import DatastoreView
from ibs.wire.sync import PullStart, SyncCreate, SyncJobView, SyncSpec, SyncStatus, SyncUpdate
from ibs.wire.system import TaskView

_NS = 1_000_000_000
_log = get_logger("sync")


class Puller(Protocol):
    """What starts a run. Implemented by `services.copying`."""

    async def pull(self, auth_id: str, store: str, request: PullStart) -> str: ...

    async def repair(self, auth_id: str, store: str, request: PullStart) -> str: ...


class SyncJobs:
    """One a server. Belongs to the trio thread."""

    def __init__(
        self,
        table: SyncJobTable,
        copying: Puller,
        remotes: Remotes,
        tasks: TaskRegistry,
        datastores: Datastores,
        *,
        clock: Clock,
        publish: Callable[[Event], None],
    ) -> None:
        self._table, self._copying, self._remotes = table, copying, remotes
        self._tasks, self._datastores = tasks, datastores
        self._clock, self._publish = clock, publish
        self._trouble: dict[str, str] = {}
        self._starting: set[str] = set()
        self._looked: datetime | None = None

    # --- as administrators see it ---

    async def list(self) -> Sequence[SyncJobView]:
        """All jobs, by name."""
        return [await self._view(row) for row in await self._table.list()]

    async def show(self, name: str) -> SyncJobView:
        """Raises NotFoundError."""
        return await self._view(await self._table.get(name))

    async def create(self, by: str, request: SyncCreate) -> SyncJobView:
        """Raises UsageError for what makes no sense, ConflictError, NotFoundError."""
        check_name(request.name, "sync job name")
        await self._check(request.spec)
        row = SyncJobRow(
            name=request.name,
            spec=request.spec,
            enabled=request.enabled,
            changed_ns=self._clock.now_ns(),
            changed_by=by,
        )
        row = replace(row, next_run_ns=self._next_ns(row, self._clock.now()))
        await self._table.add(row)
        self._tell(row.name, f"made by {by}", by)
        return await self._view(row)

    async def update(self, by: str, name: str, request: SyncUpdate) -> SyncJobView:
        """Raises as `create` does. A run that is under way goes on as it began."""
        before = await self._table.get(name)
        if request.spec is not None:
            await self._check(request.spec)
        row = replace(
            before,
            spec=request.spec if request.spec is not None else before.spec,
            enabled=request.enabled if request.enabled is not None else before.enabled,
            changed_ns=max(self._clock.now_ns(), before.changed_ns + 1),
            changed_by=by,
        )
        row = replace(row, next_run_ns=self._next_ns(row, self._clock.now()))
        await self._table.change(row)
        self._trouble.pop(name, None)
        self._tell(name, f"{'changed' if request.spec else 'enabled' if row.enabled else 'disabled'} by {by}", by)
        return await self._view(row)

    async def remove(self, by: str, name: str) -> None:
        """What it brought stays, and so does a run that is under way. Raises NotFoundError."""
        await self._table.remove(name)
        self._trouble.pop(name, None)
        self._tell(name, f"removed by {by}", by)

    async def start(self, name: str, *, accept_vanished: bool = False) -> str:
        """Run it now, enabled or not; the UPID. Raises NotFoundError, BusyError, and what `Copying.pull` raises."""
        row = await self._table.get(name)
        if accept_vanished and not row.spec.remove_vanished:
            raise UsageError(
                f"sync job {name} removes nothing that vanished", hint="first: sync update --name … --remove-vanished"
            )
        if name in self._starting:
            raise BusyError(f"sync job {name} is being started already", hint="see: ironcore-backup sync status")
        self._starting.add(name)
        try:
            last = await self._last_task(row)
            if last is not None and not TaskState(last.state).ended:
                raise BusyError(
                    f"sync job {name} is under way already", hint=f"see: ironcore-backup task log {last.upid}"
                )
            upid = await self._copying.pull(
                str(ROOT), row.spec.store, structs.replace(row.spec, accept_vanished=accept_vanished)
            )
            await self._table.ran(name, upid, self._clock.now_ns())
        finally:
            self._starting.discard(name)
        self._trouble.pop(name, None)
        return upid

    async def repair(self, by: str, name: str) -> str:
        """Compare both sides completely and set right what is wrong here; the UPID. Raises as `start` does."""
        row = await self._table.get(name)
        upid = await self._copying.repair(str(ROOT), row.spec.store, row.spec)
        self._tell(name, f"repair started by {by}", by)
        return upid

    async def status(self, name: str) -> SyncStatus:
        """How the run goes, or how the last one went, with the space on both sides. Raises NotFoundError."""
        row = await self._table.get(name)
        task = await self._last_task(row)
        there, trouble = await self._free_there(row.spec)
        status = SyncStatus(
            name=name,
            free_bytes_here=await self._free_here(row.spec.store),
            free_bytes_remote=there,
            remote_trouble=trouble,
            last_error=self._trouble.get(name, ""),
            next=_text(row.next_run_ns) if row.enabled else "",
        )
        return status if task is None else _with_task(status, task, self._clock.now())

    # --- when the time has come ---

    async def run(self) -> None:
        """Look every few seconds, for ever."""
        while True:
            try:
                await self.run_due()
            except IbsError as error:
                _log.error("the sync jobs could not be looked at", error=error.message)
            await self._clock.sleep(limits_sync.SYNC_LOOK_SECONDS)

    async def run_due(self) -> None:
        """Start every job that is due. *Cancellation*: between two; the rest is due again."""
        now = self._clock.now()
        set_back = self._looked is not None and now < self._looked - timedelta(minutes=1)
        self._looked = now
        for row in await self._table.list():
            if not row.enabled or row.next_run_ns is None:
                continue
            if _moment(row.next_run_ns) <= now:
                await self._come_to(row, now)
            elif set_back:
                await self._table.plan(row, self._next_ns(row, now))

    async def _come_to(self, row: SyncJobRow, now: datetime) -> None:
        try:
            await self.start(row.name)
            await self._table.plan(row, self._next_ns(row, now))
        except BusyError:
            return  # it comes right after the run that is under way
        except IbsError as error:
            if self._trouble.get(row.name) != error.message:
                _log.warning("a due sync job could not begin", job=row.name, reason=error.message)
                self._tell(row.name, f"could not run: {error.message}", "", Severity.ERROR)
            self._trouble[row.name] = error.message

    # --- parts ---

    async def _check(self, spec: SyncSpec) -> None:
        if spec.accept_vanished:
            raise UsageError("a job cannot accept every loss there", hint="a run can: sync run --accept-vanished")
        filter_of(spec)
        Namespace.parse(spec.namespace)
        check_name(spec.source, "datastore name")
        await self._datastores.get(spec.store)
        await self._remotes.show(spec.remote)
        if spec.schedule:
            next_time(spec.schedule, spec.time_zone, self._clock.now())

    def _next_ns(self, row: SyncJobRow, after: datetime) -> int | None:
        """None: never again by itself."""
        if not (row.spec.schedule and row.enabled):
            return None
        found = upcoming(row.spec.schedule, row.spec.time_zone, after, 1)
        return int(found[0].timestamp()) * _NS if found else None

    async def _last_task(self, row: SyncJobRow) -> TaskView | None:
        if not row.last_upid:
            return None
        try:
            return await self._tasks.get(row.last_upid)
        except NotFoundError:
            return None  # its time was over

    async def _free_here(self, store: str) -> int | None:
        try:
            return (await self._datastores.stats(store)).bytes_free
        except IbsError:
            return None

    async def _free_there(self, spec: SyncSpec) -> tuple[int | None, str]:
        with trio.move_on_after(limits_sync.SYNC_STATUS_REMOTE_SECONDS):
            try:
                async with self._remotes.connect(spec.remote) as (api, _):
                    found = await api.get(f"/datastores/{spec.source}", DatastoreView)
            except IbsError as error:
                return None, error.message
            # Only one that is open can tell; an older word of it would mislead.
            return (None, found.reason or found.status) if found.status == "offline" else (found.bytes_free, "")
        return None, f"remote {spec.remote} does not answer"

    async def _view(self, row: SyncJobRow) -> SyncJobView:
        task = await self._last_task(row)
        return SyncJobView(
            name=row.name,
            spec=row.spec,
            enabled=row.enabled,
            next=_text(row.next_run_ns) if row.enabled else "",
            last=_text(row.last_run_ns),
            state=task.state if task is not None else "",
            upid=row.last_upid,
            changed=_text(row.changed_ns),
            changed_by=row.changed_by,
            trouble=self._trouble.get(row.name, ""),
        )

    def _tell(self, name: str, what: str, by: str, severity: Severity = Severity.NOTICE) -> None:
        text = f"sync job {name} {what}"[: limits.EVENT_TEXT_CHARS_MAX]
        source = EventSource.CONFIGURATION if by else EventSource.SYNC
        kind = "sync.changed" if by else "sync.trouble"
        self._publish(Event(self._clock.now(), source, severity, kind, text, {"job": name, "auth_id": by}))


def _with_task(status: SyncStatus, task: TaskView, now: datetime) -> SyncStatus:
    figures = task.stages.get("pull")
    chunks, size = (figures.items, figures.bytes) if figures is not None else (0, 0)
    until = parse_time(task.ended) if task.ended else now
    seconds = max((until - parse_time(task.started)).total_seconds(), 1.0)
    failed = task.state == TaskState.FAILED.value
    return SyncStatus(
        name=status.name,
        state=task.state,
        upid=task.upid,
        started=task.started,
        ended=task.ended,
        chunks=chunks,
        bytes=size,
        rate=int(size / seconds),
        free_bytes_here=status.free_bytes_here,
        free_bytes_remote=status.free_bytes_remote,
        remote_trouble=status.remote_trouble,
        message=task.message,
        last_error=status.last_error or (task.message if failed else ""),
        warnings=task.warnings,
        next=status.next,
    )


def _moment(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns // _NS, UTC)


def _text(time_ns: int | None) -> str:
    return "" if time_ns is None else format_time(_moment(time_ns))
