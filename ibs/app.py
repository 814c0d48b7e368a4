"""Composition root of the server: builds every part, joins them, runs until asked to stop, closes in order.

Called by `cli` (`run`) and by tests (`serve`). Nothing is decided here but who gets what. Order of a stop: the
supervisor's phases, then datastores (cleanly), then the task registry, then the catalog.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import trio

from ibs import log
from ibs.catalog.catalog import Catalog, open_catalog
from ibs.catalog.timetable import TimetableRecord
from ibs.control import server as control
from ibs.core.events import Event, EventSource, Severity
from ibs.engine.datastores import Datastores, Parts
from ibs.engine.tasks import TaskRegistry
from ibs.errors import ExitStatus, FailedError, IbsError
from ibs.runtime import sdnotify, signals
from ibs.runtime.bus import Bus
from ibs.runtime.clock import SystemClock
from ibs.runtime.mailbox import Handle
from ibs.runtime.pool import ThreadPool
from ibs.runtime.settings import Settings
from ibs.runtime.stall import Stall, StallDetector
from ibs.runtime.supervisor import ServiceState, State, Supervisor
from ibs.security.access import AccessChecker
from ibs.security.bootstrap import ensure_root
from ibs.security.identities import Identities
from ibs.security.private import write_private
from ibs.security.secrets import ServerSecrets, check_secrets, load_secrets
from ibs.security.tls import Certificate, ensure_certificate, server_context
from ibs.services.api import Api, Bound
from ibs.services.backupjob import backup_job
from ibs.services.context import Endpoint, ServerContext
from ibs.services.gc import Expire, Gc, Housekeep
from ibs.services.notify import Notify
from ibs.services.scheduler import Job, Scheduler
from ibs.services.sessions import Readers, Sessions
from ibs.services.sync import KnownSnapshots, Probe, Reconcile, Sync
from ibs.services.taskqueue import TaskQueue
from ibs.services.verifier import Verifier
from ibs.services.worker import Worker
from ibs.version import VERSION
from ibs.wire import frames

_VERIFY_SLOTS = 1
_CLEANUP_SLOTS = 1
_log = log.get_logger("api")


@dataclass(frozen=True)
class _Base:
    """What is there before any service: state, secrets, identities, tasks."""

    settings: Settings
    clock: SystemClock
    pool: ThreadPool
    bus: Bus[Event]
    catalog: Catalog
    secrets: ServerSecrets
    certificate: Certificate
    access: AccessChecker
    identities: Identities
    tasks: TaskRegistry
    datastores: Datastores


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the program's exit status. Raises errors of `ibs.errors` when it cannot start."""
    try:
        logs = log.configure(settings.log_dir, level=settings.log_level)
    except OSError as error:
        raise FailedError(
            f"cannot write logs to {settings.log_dir}: {error.strerror}", hint="choose a folder with --log-dir"
        ) from error
    try:
        trio.run(_until_signal, settings)
    except BaseExceptionGroup as group:
        raise _ours(group) or group from None
    finally:
        logs.close()
    return ExitStatus.OK


def _ours(error: BaseException) -> IbsError | None:
    """The first error of ours inside nested groups."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _ours(inner)) is not None), None)
    return error if isinstance(error, IbsError) else None


async def _until_signal(settings: Settings) -> None:
    notifier = sdnotify.Notifier.from_environment(os.environ)
    # Two tasks: the server, and whoever hears signals for it.
    async with trio.open_nursery() as nursery:  # noqa: TID251 - the program's root
        stop: Callable[[str], None] = lambda _name: None  # noqa: E731 - replaced below, once there is a supervisor

        def first(name: str) -> None:
            notifier.stopping()
            stop(name)

        await nursery.start(signals.watch, first, lambda _name: nursery.cancel_scope.cancel())
        server: Running = await nursery.start(functools.partial(serve, settings))
        stop = server.stop
        notifier.ready(f"listening on {server.address}")
        _greet(server)
        await server.ended.wait()
        nursery.cancel_scope.cancel()


@dataclass(frozen=True)
class Running:
    """A server that answers. `stop` begins the orderly stop; `ended` is set when everything is closed."""

    address: str
    fingerprint: str
    context: ServerContext
    stop: Callable[[str], None]
    ended: trio.Event


def _greet(server: Running) -> None:
    sys.stdout.write(f"listening on {server.address}\ncertificate fingerprint {server.fingerprint}\n")
    sys.stdout.flush()


async def serve(settings: Settings, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED) -> None:
    """Run a server in this process; `task_status` gets it when it answers. Returns after `Running.stop`.

    Raises BusyError when another server has the state folder, UnavailableError when the port is taken, and what the
    catalog and the secrets raise. *Cancellation*: an immediate stop; datastores recover at their next opening.
    """
    ended = trio.Event()
    bus: Bus[Event] = Bus()
    clock, pool = SystemClock(), ThreadPool()
    stalls = StallDetector(_report_stall)
    try:
        async with AsyncExitStack() as stack:
            trio.lowlevel.add_instrument(stalls)
            stack.callback(trio.lowlevel.remove_instrument, stalls)
            catalog = await stack.enter_async_context(open_catalog(settings.state_dir))
            # Outlives the services: the registry writes their last lines, the rest is background work of theirs.
            background = await stack.enter_async_context(trio.open_nursery())  # noqa: TID251 - see above
            base = await _base(settings, clock, pool, bus, catalog)
            await background.start(base.tasks.run)
            stack.push_async_callback(_close, base, background)
            await _run_services(base, stalls, background, ended, task_status)
    finally:
        ended.set()


async def _base(settings: Settings, clock: SystemClock, pool: ThreadPool, bus: Bus[Event], catalog: Catalog) -> _Base:
    state = settings.state_dir
    secrets = await pool.disk(load_secrets, state)
    await check_secrets(secrets, catalog.settings)
    certificate = await pool.disk(ensure_certificate, state, settings.node, [settings.listen_host])
    access = AccessChecker(catalog.access, secrets.token_key, clock=clock, bus=bus)
    identities = Identities(catalog.access, access, secrets.token_key, clock=clock, bus=bus)
    await access.load()
    await ensure_root(state, catalog.access, identities, secrets.token_key, clock=clock, pool=pool)
    tasks = TaskRegistry(
        catalog.tasks, state / "tasks", pool=pool, clock=clock, node=settings.node, publish=bus.publish
    )
    parts = Parts(
        pool=pool,
        clock=clock,
        publish=bus.publish,
        server_uuid=catalog.server_uuid,
        signing_seed=secrets.signing_seed,
    )
    datastores = Datastores(catalog.datastores, parts)
    return _Base(settings, clock, pool, bus, catalog, secrets, certificate, access, identities, tasks, datastores)


async def _run_services(
    base: _Base,
    stalls: StallDetector,
    background: trio.Nursery,
    ended: trio.Event,
    task_status: trio.TaskStatus[Running],
) -> None:
    supervisor = Supervisor(base.clock, observe=functools.partial(_observe, base))
    tls = await base.pool.disk(server_context, base.certificate, [frames.ALPN, "http/1.1"])
    context = _compose(base, supervisor, stalls, background, tls)
    background.start_soon(base.datastores.open_all)
    async with trio.open_nursery() as nursery:  # noqa: TID251 - the supervisor runs in it until the stop is over
        await nursery.start(supervisor.run)
        server_file = base.settings.state_dir / "server.json"
        await base.pool.disk(_write_server_file, server_file, context)
        task_status.started(
            Running(str(context.endpoint), context.fingerprint, context, supervisor.request_stop, ended)
        )
    await base.pool.disk(functools.partial(server_file.unlink, missing_ok=True))


async def _close(base: _Base, background: trio.Nursery) -> None:
    """Close what services used: datastores cleanly, then last-used times; the registry goes last."""
    with trio.CancelScope(shield=True):
        try:
            await base.datastores.close()
            await base.access.flush()
        except IbsError as error:
            _log.error("not everything could be closed cleanly", error=error.message)
        background.cancel_scope.cancel()


def _compose(
    base: _Base, supervisor: Supervisor, stalls: StallDetector, background: trio.Nursery, tls: Any
) -> ServerContext:
    """Seat the seven roles and join them by their handles."""
    settings, clock, bus, tasks, datastores = base.settings, base.clock, base.bus, base.tasks, base.datastores
    known, endpoint = KnownSnapshots(), Endpoint()
    run_backup = backup_job(datastores, pool=base.pool, clock=clock, node=settings.node, note_commit=known.note_commit)
    worker_queue = TaskQueue("worker slot", slots=settings.worker_slots)
    verify_queue = TaskQueue("verifier slot", slots=_VERIFY_SLOTS)
    cleanup_queue = TaskQueue("clean-up slot", slots=_CLEANUP_SLOTS)
    events = bus.subscribe("notify")

    def bound(address: Bound) -> None:
        endpoint.host, endpoint.port = address.host, address.port

    holder: list[ServerContext] = []
    served: Callable[..., Awaitable[None]] = control.serve
    supervisor.add(
        lambda seat: Notify(seat, events, base.catalog.inbox, clock), "notify", duty=Notify.duty, stop_rank=2
    )
    worker = supervisor.add(
        lambda seat: Worker(
            seat, worker_queue, tasks, node=settings.node, check_store=datastores.get, run_backup=run_backup
        ),
        "worker",
        duty=Worker.duty,
    )
    verifier = supervisor.add(
        lambda seat: Verifier(seat, verify_queue, tasks, datastores, clock=clock, publish=bus.publish),
        "verifier",
        duty=Verifier.duty,
    )
    gc = supervisor.add(
        lambda seat: Gc(seat, cleanup_queue, tasks, datastores, clock=clock, chores=[base.access.flush]),
        "gc",
        duty=Gc.duty,
    )
    sync = supervisor.add(
        lambda seat: Sync(seat, base.catalog.datastores, datastores, known, clock=clock, publish=bus.publish),
        "sync",
        duty=Sync.duty,
    )
    jobs = _jobs(gc, sync)
    scheduler = supervisor.add(
        lambda seat: Scheduler(seat, jobs, _Memory(base.catalog), clock), "scheduler", duty=Scheduler.duty
    )
    supervisor.add(
        lambda seat: Api(
            seat,
            lambda status: served(replace(holder[0], api_stopping=seat.stopping), task_status=status),
            bound,
        ),
        "api",
        duty=Api.duty,
        essential=True,
        stop_rank=1,
    )
    started = clock.monotonic()
    holder.append(
        ServerContext(
            settings=settings,
            clock=clock,
            pool=base.pool,
            bus=bus,
            started=clock.now(),
            tls=tls,
            fingerprint=base.certificate.fingerprint,
            endpoint=endpoint,
            api_stopping=trio.Event(),
            access=base.access,
            identities=base.identities,
            datastores=datastores,
            sessions=Sessions(datastores, tasks, spawn=background.start_soon, note_commit=known.note_commit),
            readers=Readers(datastores, tasks, spawn=background.start_soon),
            tasks=tasks,
            inbox_table=base.catalog.inbox,
            supervisor=supervisor,
            stalls=stalls,
            scheduler=scheduler,
            worker=worker,
            verifier=verifier,
            gc=gc,
            sync=sync,
            pid=os.getpid(),
            uptime=lambda: clock.monotonic() - started,
        )
    )
    return holder[0]


def _jobs(gc: Handle, sync: Handle) -> list[Job]:
    """The server's own timetable."""
    return [
        Job("probe-datastores", "*:*:0/30", sync, Probe()),
        Job("reconcile-snapshots", "hourly", sync, Reconcile()),
        Job("expire-sessions", "*:*:0/15", gc, Expire()),
        Job("housekeeping", "daily", gc, Housekeep(), catch_up=True),
    ]


class _Memory:
    """The catalog's timetable as the scheduler wants it."""

    def __init__(self, catalog: Catalog) -> None:
        self._table = catalog.timetable

    async def load(self) -> list[TimetableRecord]:
        return list(await self._table.list())

    async def save(self, job: str, last_run_ns: int | None, next_run_ns: int | None) -> None:
        await self._table.save(TimetableRecord(job, last_run_ns, next_run_ns))


def _observe(base: _Base, state: ServiceState) -> None:
    """A role's change of state is an event; only trouble and its end are worth a notice."""
    trouble = state.state in (State.RESTARTING, State.FAILED)
    severity = Severity.ERROR if trouble else Severity.NOTICE if state.restarts else Severity.INFO
    text = f"service {state.role} is {state.state}" + (f": {state.last_error}" if trouble else "")
    base.bus.publish(
        Event(
            base.clock.now(),
            EventSource.SYSTEM,
            severity,
            "service.state",
            text[:1000],
            {"role": state.role, "state": str(state.state), "restarts": state.restarts},
        )
    )


def _report_stall(stall: Stall, unreported: int) -> None:
    _log.warning("loop stall", task=stall.task, ms=round(stall.duration_ms, 1), unreported=unreported)


def _write_server_file(path: Path, context: ServerContext) -> None:
    """Where the server is, for programs on this machine; complete or not there."""
    facts = {
        "address": str(context.endpoint),
        "fingerprint": context.fingerprint,
        "pid": context.pid,
        "version": VERSION,
    }
    write_private(path, msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
