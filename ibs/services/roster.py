"""Seats the seven roles with the supervisor and joins them by their handles. Called by `app` only.

What outlives an actor (queues, the subscription, what is known of snapshots) is made here once; each restart of a role
builds a new actor around it. The order of seating is the order of starting: the api comes last, so that a server that
answers has all its roles; notify is first and stops last, so that it sees everything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ibs.catalog.catalog import Catalog
from ibs.catalog.timetable import TimetableRecord, TimetableTable
from ibs.core.events import Event
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.task import Task
from ibs.engine.tasks import TaskRegistry
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.actor import Actor
from ibs.runtime.bus import Bus
from ibs.runtime.mailbox import Handle
from ibs.runtime.settings import Settings
from ibs.runtime.supervisor import Factory, Supervisor
from ibs.security.access import AccessChecker
from ibs.services.api import Api, Bound, ServeApi
from ibs.services.backupjob import backup_job
from ibs.services.deliveries import Deliveries
from ibs.services.gc import Expire, Gc, Housekeep
from ibs.services.hosts import Hosts
from ibs.services.hosts_local import with_hooks
from ibs.services.jobs import JobDesk, PruneGroup
from ibs.services.mending import Mending
from ibs.services.notify import Notify
from ibs.services.plans import RunPlans, StorePlans
from ibs.services.remotes import Remotes
from ibs.services.scheduler import Job, Scheduler
from ibs.services.sync import KnownSnapshots, Probe, Reconcile, Sync
from ibs.services.taskqueue import TaskQueue
from ibs.services.verifier import Verifier
from ibs.services.worker import RunBackup, RunJobs, Worker
from ibs.services.workqueue import WorkQueue
from ibs.wire.system import BackupRun

_FIRST, _API, _LAST = 0, 1, 2
"""Ranks of a stop: who works, who lets people look on meanwhile, who writes down what happened."""


@dataclass(frozen=True)
class Parts:
    """What the roles are made of."""

    settings: Settings
    clock: Clock
    pool: Pool
    bus: Bus[Event]
    catalog: Catalog
    tasks: TaskRegistry
    datastores: Datastores
    access: AccessChecker
    serve_api: ServeApi
    on_listening: Callable[[Bound], None]
    daily: Sequence[Callable[[], Awaitable[object]]] = ()
    """Chores of every day, besides the roles' own."""
    prune: Callable[[Datastore], Awaitable[object]] | None = None
    """Prunes a datastore by its retention, when its schedule says so."""
    hosts: Hosts | None = None
    """Where backups are made; None: on the server only."""
    prune_group: PruneGroup | None = None
    """Prunes what a job wrote, by the job's retention."""
    remotes: Remotes | None = None
    """Where damaged snapshots are mended from."""
    deliveries: Deliveries | None = None
    """Brings events to targets, besides the inbox; None: to the inbox only."""


@dataclass(frozen=True)
class Roster:
    """Handles of the roles that can be asked something, and what they share with the desks."""

    scheduler: Handle
    worker: Handle
    verifier: Handle
    gc: Handle
    sync: Handle
    known: KnownSnapshots
    plans: StorePlans
    jobs: JobDesk


def seat_roles(supervisor: Supervisor, parts: Parts) -> Roster:
    """Seat all seven roles. Call once, before the supervisor runs."""
    known = KnownSnapshots()
    parts.datastores.on_move(known.note_moved)
    _seat(supervisor, Notify, _notify(parts), stop_rank=_LAST)
    jobs, queue = _jobs(parts, known)
    worker = _seat(supervisor, Worker, _worker(parts, queue, jobs))
    verifier = _seat(supervisor, Verifier, _verifier(parts))
    plans = StorePlans(parts.datastores, CatalogMemory(parts.catalog.timetable), parts.clock, prune=parts.prune)
    gc = _seat(supervisor, Gc, _gc(parts, plans))
    plans.bind(verifier, gc)
    sync = _seat(supervisor, Sync, _sync(parts, known))
    scheduler = _seat(supervisor, Scheduler, _scheduler(parts, timetable(gc, sync, worker)))
    _seat(supervisor, Api, lambda seat: Api(seat, parts.serve_api, parts.on_listening), stop_rank=_API, essential=True)
    return Roster(scheduler, worker, verifier, gc, sync, known, plans, jobs)


def timetable(gc: Handle, sync: Handle, worker: Handle) -> list[Job]:
    """The server's own jobs."""
    return [
        Job("probe-datastores", "*:*:0/30", sync, Probe()),
        Job("reconcile-snapshots", "*:0/10", sync, Reconcile()),
        Job("expire-sessions", "*:*:0/15", gc, Expire()),
        Job("jobs", "*:*:0/5", worker, RunJobs()),
        Job("datastore-schedules", "*:0/1", gc, RunPlans()),
        Job("housekeeping", "daily", gc, Housekeep(), catch_up=True),
    ]


def _seat(
    supervisor: Supervisor, kind: type[Actor], factory: Factory, *, stop_rank: int = _FIRST, essential: bool = False
) -> Handle:
    return supervisor.add(factory, kind.role, duty=kind.duty, stop_rank=stop_rank, essential=essential)


def _notify(parts: Parts) -> Factory:
    events = parts.bus.subscribe("notify")
    deliveries = parts.deliveries
    return lambda seat: Notify(seat, events, deliveries or parts.catalog.inbox, parts.clock, deliveries)


def _jobs(parts: Parts, known: KnownSnapshots) -> tuple[JobDesk, WorkQueue]:
    """The queue whose work is a backup, wherever that is made, and the jobs that fill it."""
    node, datastores, catalog = parts.settings.node, parts.datastores, parts.catalog
    work = backup_job(datastores, pool=parts.pool, clock=parts.clock, node=node, note_commit=known.note_commit)
    if parts.hosts is not None:
        parts.hosts.serve_locally(with_hooks(work, parts.pool, node))
        work = parts.hosts.run
    backup: RunBackup = work

    async def whole(task: Task, run: BackupRun) -> str | None:
        message = await backup(task, run)
        await desk.after(task, run)
        return message

    queue = WorkQueue(catalog.queue, parts.tasks, whole, clock=parts.clock, slots=parts.settings.worker_slots)
    desk = JobDesk(
        catalog.jobs,
        queue,
        parts.tasks,
        datastores,
        hosts=parts.hosts,
        node=node,
        clock=parts.clock,
        publish=parts.bus.publish,
        prune=parts.prune_group,
    )
    return desk, queue


def _worker(parts: Parts, queue: WorkQueue, jobs: JobDesk) -> Factory:
    node, datastores, memory = parts.settings.node, parts.datastores, parts.catalog.settings
    return lambda seat: Worker(
        seat, queue, parts.tasks, node=node, check_store=datastores.get, memory=memory, jobs=jobs
    )


def _verifier(parts: Parts) -> Factory:
    queue = TaskQueue("verifier slot", slots=1)
    mending = Mending(parts.remotes.connect, parts.pool) if parts.remotes is not None else None
    return lambda seat: Verifier(
        seat, queue, parts.tasks, parts.datastores, clock=parts.clock, publish=parts.bus.publish, mending=mending
    )


def _gc(parts: Parts, plans: StorePlans) -> Factory:
    queue = TaskQueue("clean-up slot", slots=2)
    chores = [parts.access.flush, parts.tasks.trim, *parts.daily]
    return lambda seat: Gc(seat, queue, parts.tasks, parts.datastores, clock=parts.clock, chores=chores, plans=plans)


def _sync(parts: Parts, known: KnownSnapshots) -> Factory:
    records, publish = parts.catalog.datastores, parts.bus.publish
    return lambda seat: Sync(seat, records, parts.datastores, known, clock=parts.clock, publish=publish)


def _scheduler(parts: Parts, jobs: list[Job]) -> Factory:
    memory = CatalogMemory(parts.catalog.timetable)
    return lambda seat: Scheduler(seat, jobs, memory, parts.clock)


class CatalogMemory:
    """The catalog's timetable as the scheduler wants it."""

    def __init__(self, table: TimetableTable) -> None:
        self._table = table

    async def load(self) -> list[TimetableRecord]:
        """All rows."""
        return list(await self._table.list())

    async def save(self, job: str, last_run_ns: int | None, next_run_ns: int | None) -> None:
        """*Durability*: kept when this returns."""
        await self._table.save(TimetableRecord(job, last_run_ns, next_run_ns))

    async def remove(self, job: str) -> None:
        """The job is gone. *Durability*: forgotten when this returns."""
        await self._table.remove(job)
