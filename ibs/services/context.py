"""What the control plane gets of the server: handles, use cases and settings, in one frozen value.

Built by `app`, imported by `control`. It holds no state of its own: facts about services come from the supervisor,
answers from the actors, everything else from the engine. Invariant: routes reach nothing but this.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import trio

from ibs.core import limits
from ibs.core.events import Event
from ibs.core.names import format_time
from ibs.engine.affected import damage
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.bus import Bus
from ibs.runtime.mailbox import Handle
from ibs.runtime.settings import Settings
from ibs.runtime.stall import StallDetector
from ibs.runtime.supervisor import ServiceState, Supervisor, by_role
from ibs.services import outlook
from ibs.services.audit import Audit
from ibs.services.bundle import Support
from ibs.services.certificates import Certificates
from ibs.services.collecting import StartGc, UndoGc, gc_status, steer_gc
from ibs.services.copying import Copying
from ibs.services.gc import Cleanup
from ibs.services.hosts import Hosts
from ibs.services.jobs import JobDesk
from ibs.services.keys import Keys
from ibs.services.lifecycle import Lifecycle
from ibs.services.metrics import Metrics
from ibs.services.notifications import Notifications, check_source, severities
from ibs.services.plans import StorePlans
from ibs.services.pruning import Pruning
from ibs.services.realms import Realms
from ibs.services.remotes import Remotes
from ibs.services.scheduler import NextRun, Timetable
from ibs.services.sla import SlaWatch
from ibs.services.syncjobs import SyncJobs
from ibs.services.upkeep import Upkeep
from ibs.services.verifier import StartVerify
from ibs.services.worker import KeepTasks, Retry, SetSlots, Submit, WorkerStatus
from ibs.version import PRODUCT, VERSION
from ibs.wire.datastore import Damage, VerifyOutlook, VerifyReport, VerifyStart
from ibs.wire.gc import GcStart, GcStatus, GcUndo
from ibs.wire.jobs import TaskKeeping
from ibs.wire.reader import ReaderClose, ReaderOpen, ReaderOpened
from ibs.wire.session import CommitRequest, CommitResult, SessionOpen, SessionOpened
from ibs.wire.system import BackupRun, InboxView, ServerStatus, ServiceView, WorkerView

if TYPE_CHECKING:
    from ibs.catalog.inbox import InboxRecord
    from ibs.engine.datastores import Datastores
    from ibs.engine.readers import Reader
    from ibs.engine.session.session import WriteSession
    from ibs.engine.task import Task
    from ibs.engine.tasks import TaskRegistry
    from ibs.security.access import AccessChecker
    from ibs.security.identities import Identities
    from ibs.security.logins import Logins
    from ibs.security.roles import Roles

UNIT_PREFIX = "ironcore-backup-"
ROLES = ("api", "scheduler", "worker", "verifier", "gc", "sync", "notify")


class InboxReader(Protocol):
    """What the routes need of the catalog's inbox."""

    async def list(
        self, *, after: int = 0, limit: int, severities: Collection[str] = (), source: str = ""
    ) -> Sequence[InboxRecord]: ...


class SessionDesk(Protocol):
    """Write sessions of all datastores, by the identity that opened them. Implemented by `services.sessions`."""

    async def open(self, store: str, auth_id: str, request: SessionOpen) -> SessionOpened:
        """Open a session and its task. The caller has checked Datastore.Backup on the namespace."""
        ...

    def get(self, session_id: str, auth_id: str) -> WriteSession:
        """Raises SessionLost for one that ended, never was, or belongs to somebody else."""
        ...

    async def attach(
        self, task: Task, store: str, auth_id: str, request: SessionOpen, ended: Callable[[str, str], None]
    ) -> WriteSession:
        """Open a session for a task that runs already. The caller has checked that the identity may."""
        ...

    async def commit(self, session_id: str, auth_id: str, request: CommitRequest) -> CommitResult:
        """Durable when it returns; a repetition gets the same answer."""
        ...


class ReaderDesk(Protocol):
    """Readers of all datastores, by the identity that opened them. Implemented by `services.sessions`."""

    async def open(self, store: str, auth_id: str, request: ReaderOpen, *, everything: bool) -> ReaderOpened:
        """Open a reader and its task; without `everything` only on groups the identity owns."""
        ...

    def get(self, reader_id: str, auth_id: str) -> Reader:
        """Raises SessionLost for one that ended, never was, or belongs to somebody else."""
        ...

    async def close(self, reader_id: str, auth_id: str, request: ReaderClose) -> None:
        """End the read lease and the task."""
        ...


@dataclass(slots=True)
class Endpoint:
    """Where the API listens. Set by `app` once the port is bound; "" and 0 before that."""

    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else ""


@dataclass(frozen=True)
class ServerContext:
    """The running server. `api_stopping` is set when the API shall end."""

    settings: Settings
    clock: Clock
    pool: Pool
    bus: Bus[Event]
    started: datetime
    certificates: Certificates
    signer: str
    """Public key (hex) that it signs manifests with."""
    endpoint: Endpoint
    api_stopping: trio.Event
    access: AccessChecker
    identities: Identities
    roles: Roles
    realms: Realms
    logins: Logins
    datastores: Datastores
    sessions: SessionDesk
    readers: ReaderDesk
    hosts: Hosts
    upkeep: Upkeep
    lifecycle: Lifecycle
    pruning: Pruning
    plans: StorePlans
    jobs: JobDesk
    tasks: TaskRegistry
    inbox_table: InboxReader
    supervisor: Supervisor
    stalls: StallDetector
    metrics: Metrics
    scheduler: Handle
    worker: Handle
    verifier: Handle
    gc: Handle
    sync: Handle
    pid: int
    uptime: Callable[[], float]
    audit: Audit
    support: Support
    sla: SlaWatch
    notifications: Notifications
    keys: Keys
    remotes: Remotes
    copying: Copying
    sync_jobs: SyncJobs

    @property
    def tls(self) -> ssl.SSLContext:
        """What new connections are served with."""
        return self.certificates.context

    @property
    def fingerprint(self) -> str:
        """Of the certificate that is served."""
        return self.certificates.certificate.fingerprint

    def status(self) -> ServerStatus:
        """The server and its roles as they are now."""
        seen = self.stalls.statistics
        return ServerStatus(
            product=PRODUCT,
            version=VERSION,
            node=self.settings.node,
            pid=self.pid,
            started=format_time(self.started),
            uptime_seconds=round(self.uptime(), 3),
            fingerprint=self.fingerprint,
            listen=str(self.endpoint),
            services=sorted(map(service_view, self.supervisor.states()), key=lambda view: ROLES.index(view.role)),
            loop_stalls=seen.stalls,
            loop_stall_longest_ms=seen.longest_ms,
        )

    def restart_service(self, role: str) -> None:
        """Put a new actor in that role's place. Raises NotFoundError, ConflictError when the server stops."""
        # The api answers the very request that asks: it gets the time to.
        self.supervisor.restart(role, after_seconds=limits.RESTART_ANSWER_SECONDS if role == "api" else 0.0)

    def inject_fault(self, role: str) -> None:
        """Kill that role's actor on purpose. Raises NotFoundError, ConflictError when it does not run."""
        self.supervisor.inject_fault(role)

    async def inbox(self, limit: int, severity: str = "", source: str = "") -> list[InboxView]:
        """What happened, newest first: of that severity or worse, from that source. Raises UsageError."""
        wanted = severities(severity) if severity else []
        if source:
            check_source(source)
        rows = await self.inbox_table.list(limit=limit, severities=wanted, source=source)
        return [_inbox_view(record) for record in rows]

    async def worker_status(self) -> WorkerView:
        """Slots, what runs in them, and who waits for what."""
        return await self.worker.ask(WorkerStatus())

    async def set_worker_slots(self, slots: int) -> WorkerView:
        """Change the number of slots while tasks run. Raises UsageError."""
        return await self.worker.ask(SetSlots(slots))

    async def start_backup(self, auth_id: str, run: BackupRun) -> str:
        """Queue a backup of the server's own files; return its UPID. Raises UsageError, BusyError, NotFoundError."""
        return await self.worker.ask(Submit(auth_id, run))

    async def task_keeping(self, change: TaskKeeping | None) -> TaskKeeping:
        """How long ended tasks are kept, from now on as `change` says."""
        return await self.worker.ask(KeepTasks(change))

    async def retry_task(self, auth_id: str, upid: str) -> str:
        """Queue again what an ended task was to do; the new UPID. Raises UsageError, ConflictError, BusyError."""
        return await self.worker.ask(Retry(auth_id, upid))

    async def start_verify(self, auth_id: str, store: str, request: VerifyStart) -> str:
        """Queue a verification; return its UPID. Raises UsageError, BusyError, NotFoundError, DatastoreOffline."""
        return await self.verifier.ask(StartVerify(auth_id, store, request))

    async def verify_status(self, window_days: int | None = None) -> list[VerifyReport]:
        """The last verification of each snapshot; STALE, and why, when it was too long ago. Raises UsageError."""
        return await outlook.reports(self.datastores, await self._verify_situation(window_days))

    async def verify_outlook(self, window_days: int | None = None) -> list[VerifyOutlook]:
        """How verification of each datastore stands, and whether it fits its window. Raises UsageError."""
        return await outlook.outlooks(self.datastores, await self._verify_situation(window_days))

    async def damage(self, store: str) -> Damage:
        """What is known to be damaged in a datastore, and whom it hurts. Raises NotFoundError, DatastoreOffline."""
        return await damage(await self.datastores.get(store))

    async def _verify_situation(self, window_days: int | None) -> outlook.Situation:
        state = by_role(self.supervisor.states()).get("verifier")
        scheduled = await self.plans.of_verification()
        return await outlook.situation(self.tasks, state, self.clock.now(), window_days, scheduled)

    async def start_cleanup(self, auth_id: str, store: str) -> str:
        """Discard what interrupted sessions left; return the task's UPID. Raises NotFoundError, DatastoreOffline."""
        return await self.gc.ask(Cleanup(auth_id, store))

    async def start_gc(self, auth_id: str, store: str, request: GcStart) -> str:
        """Queue a garbage collection; return its UPID. Raises NotFoundError, DatastoreOffline, Quarantined."""
        return await self.gc.ask(StartGc(auth_id, store, request))

    async def undo_gc(self, auth_id: str, store: str, request: GcUndo) -> str:
        """Queue an undo of garbage collection; return its UPID. Raises as `start_gc` does."""
        return await self.gc.ask(UndoGc(auth_id, store, request))

    async def gc_status(self, store: str) -> list[GcStatus]:
        """Of one datastore, or of all that are online. Raises NotFoundError, DatastoreOffline."""
        return await gc_status(self.datastores, store)

    async def steer_gc(self, store: str, *, pause: bool) -> GcStatus:
        """Pause or resume the run under way. Raises NotFoundError when there is none."""
        return await steer_gc(self.datastores, store, pause=pause)

    async def timetable(self) -> list[NextRun]:
        """The server's own jobs with their last and next runs."""
        return await self.scheduler.ask(Timetable())


def service_view(state: ServiceState) -> ServiceView:
    """A role as the API shows it."""
    return ServiceView(
        unit=UNIT_PREFIX + state.role,
        role=state.role,
        state=str(state.state),
        since=format_time(state.since),
        restarts=state.restarts,
        duty=state.duty,
        last_error=state.last_error,
        mailbox=state.mailbox,
    )


def _inbox_view(record: InboxRecord) -> InboxView:
    moment = datetime.fromtimestamp(record.time_ns // 1_000_000_000, tz=UTC)
    return InboxView(
        id=record.id,
        time=format_time(moment),
        severity=record.severity,
        source=record.source,
        text=record.text,
        fields=dict(record.fields),
    )
