"""Composition root of the server: builds every part, joins them, runs until asked to stop, closes in order.

Called by `cli` (`run`) and by tests (`serve`). Nothing is decided here but who gets what. Order of a stop: the
supervisor's phases, with the datastores closed cleanly before notify ends; then the task registry, then the catalog.
A second signal ends the process at once, which is a supported way to stop: the next start recovers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import trio

from ibs import log
from ibs.catalog.catalog import Catalog, open_catalog
from ibs.control import server as control
from ibs.core import limits
from ibs.core.events import Event
from ibs.engine.datastores import Datastores, Parts
from ibs.engine.tasks import TaskRegistry
from ibs.errors import ExitStatus, FailedError, IbsError, UnavailableError
from ibs.runtime import sdnotify, signals
from ibs.runtime.allocator import collect_as_usual, keep_freed_memory
from ibs.runtime.background import Work, leaf, spawner
from ibs.runtime.bus import Bus
from ibs.runtime.clock import SystemClock
from ibs.runtime.mailbox import Handle
from ibs.runtime.pool import ThreadPool
from ibs.runtime.settings import Settings
from ibs.runtime.stall import StallDetector
from ibs.runtime.supervisor import State, Supervisor, by_role
from ibs.security.access import AccessChecker
from ibs.security.bootstrap import ensure_root
from ibs.security.identities import Identities
from ibs.security.roles import Roles
from ibs.security.secrets import ServerSecrets, check_secrets, load_secrets
from ibs.security.tls import Certificate, ensure_certificate
from ibs.services import metrics_notify, metrics_server, roster
from ibs.services.api import Bound, ServeApi
from ibs.services.audit import Audit
from ibs.services.bundle import Support
from ibs.services.certificates import Certificates
from ibs.services.context import Endpoint, ServerContext, service_view
from ibs.services.copying import Copying
from ibs.services.deliveries import Carrier, Deliveries
from ibs.services.hosts import Hosts
from ibs.services.hosts_book import HostBook
from ibs.services.keys import Keys
from ibs.services.lifecycle import Lifecycle
from ibs.services.metrics import Metrics, Sources
from ibs.services.mirror import Mirrors
from ibs.services.notifications import Notifications
from ibs.services.pruning import Pruning
from ibs.services.realms import people
from ibs.services.remotes import Remotes
from ibs.services.sessions import Readers, Sessions
from ibs.services.shipping import Shipping
from ibs.services.sla import SlaWatch
from ibs.services.syncjobs import SyncJobs
from ibs.services.telling import notice, report_stall, service_state
from ibs.services.upkeep import Upkeep
from ibs.services.whereabouts import write_whereabouts
from ibs.version import PRODUCT, VERSION
from ibs.wire import frames

SERVER_FILE = "server.json"
_HTTP = "http/1.1"
_log = log.get_logger("api")


@dataclass(frozen=True)
class Running:
    """A server that answers. `stop` begins the orderly stop and may be called again; it needs a word why."""

    address: str
    fingerprint: str
    context: ServerContext
    stop: Callable[[str], None]


@dataclass(frozen=True)
class _Base:
    """What is there before any service: state, secrets, identities, tasks, datastores (not opened yet)."""

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
    hosts: Hosts
    audit: Audit
    keys: Keys
    remotes: Remotes


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the program's exit status. Raises errors of `ibs.errors` when it cannot start."""
    keep_freed_memory()
    collect_as_usual()
    try:
        logs = log.configure(settings.log_dir, level=settings.log_level)
    except OSError as error:
        raise FailedError(
            f"cannot write logs to {settings.log_dir}: {error.strerror}", hint="choose a folder with --log-dir"
        ) from error
    try:
        trio.run(_until_signal, settings, logs)
    except KeyboardInterrupt:
        return ExitStatus.CANCELLED
    except BaseExceptionGroup as group:
        cause = leaf(group, IbsError) or leaf(group, KeyboardInterrupt)
        if isinstance(cause, KeyboardInterrupt):
            return ExitStatus.CANCELLED
        raise cause or group from None
    finally:
        logs.close()
    return ExitStatus.OK


async def _until_signal(settings: Settings, logs: log.Logs) -> None:
    notifier = sdnotify.Notifier.from_environment(os.environ)
    # The server, and whoever hears signals for it once it runs; before that a signal simply ends the process.
    async with trio.open_nursery() as nursery:  # noqa: TID251 - the program's root

        async def server(*, task_status: trio.TaskStatus[Running]) -> None:
            await serve(settings, task_status=task_status)
            nursery.cancel_scope.cancel()

        running: Running = await nursery.start(server)

        def first(name: str) -> None:
            notifier.stopping()
            running.stop(name)

        await nursery.start(signals.watch, first, partial(_end_at_once, logs))
        notifier.ready(f"listening on {running.address}")
        nursery.start_soon(sdnotify.keep_telling, notifier, running.context.clock, partial(_status_line, running))
        sys.stdout.write(
            f"{PRODUCT} {VERSION} listening on {running.address}\ncertificate fingerprint {running.fingerprint}\n"
        )
        sys.stdout.flush()


def _end_at_once(logs: log.Logs, name: str) -> None:
    sys.stderr.write(f"{name} again: stopping at once; the next start recovers\n")
    sys.stderr.flush()
    _log.warning("stopping at once", signal=name)
    if not logs.drain(limits.LOG_DRAIN_SECONDS_MAX):
        sys.stderr.write("the last log lines could not be written in time\n")
        sys.stderr.flush()
    os._exit(ExitStatus.CANCELLED)


def _status_line(running: Running) -> str:
    """What `systemctl status` shows of the server."""
    context = running.context
    states = context.supervisor.states()
    serving = sum(one.state is State.RUNNING for one in states)
    ill = ", ".join(f"{one.role} is {one.state}" for one in states if one.state is not State.RUNNING)
    tasks = len(context.tasks.open_tasks())
    text = f"listening on {running.address}; {serving} of {len(states)} services, {tasks} tasks"
    return f"stopping; {text}" if context.supervisor.stopping else text + (f"; {ill}" if ill else "")


async def serve(settings: Settings, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED) -> None:
    """Run a server in this process; `task_status` gets it when it answers. Returns when `Running.stop` is done.

    Signals and log files are the caller's affair (`run`). Raises BusyError when another server has the state folder,
    UnavailableError when the port is taken, and what the catalog and the secrets raise, perhaps in exception groups.
    *Cancellation*: services are cut off, datastores and catalog closed.
    """
    clock, pool, bus = SystemClock(), ThreadPool(), Bus[Event]()
    stalls = StallDetector(report_stall)
    async with AsyncExitStack() as stack:
        trio.lowlevel.add_instrument(stalls)
        stack.callback(_remove_instrument, stalls)
        catalog = await stack.enter_async_context(open_catalog(settings.state_dir))
        # Outlives the services: the registry writes their last lines; the rest is background work of theirs.
        background = await stack.enter_async_context(trio.open_nursery())  # noqa: TID251 - see above
        base = await _base(settings, clock, pool, bus, catalog)
        await background.start(base.tasks.run)
        stack.push_async_callback(_close, base, background)
        await background.start(_open_datastores, base)
        await _run_services(base, stalls, background, task_status)


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
        catalog.tasks,
        state / "tasks",
        pool=pool,
        clock=clock,
        node=settings.node,
        publish=bus.publish,
        waiting=catalog.queue.waiting,
    )
    keys = Keys(catalog.keys, clock=clock, publish=bus.publish)
    parts = Parts(
        pool=pool,
        clock=clock,
        publish=bus.publish,
        server_uuid=catalog.server_uuid,
        signing_seed=secrets.signing_seed,
        keys=keys,
        own_folders=[str(folder) for folder in (settings.state_dir, settings.log_dir) if folder is not None],
    )
    datastores = Datastores(catalog.datastores, parts)
    audit = Audit(state / "audit", catalog.settings, pool=pool, clock=clock)
    await audit.open()
    hosts = await _hosts(settings, clock, bus, catalog, secrets.token_key, identities, certificate.fingerprint)
    return _Base(
        settings,
        clock,
        pool,
        bus,
        catalog,
        secrets,
        certificate,
        access,
        identities,
        tasks,
        datastores,
        hosts,
        audit,
        keys,
        Remotes(catalog.remotes, secrets, clock=clock, publish=bus.publish),
    )


async def _hosts(  # noqa: PLR0917 - parts of the base, in its order
    settings: Settings,
    clock: SystemClock,
    bus: Bus[Event],
    catalog: Catalog,
    key: bytes,
    identities: Identities,
    fingerprint: str,
) -> Hosts:
    book = HostBook(catalog.hosts, identities, key, clock=clock, node=settings.node, publish=bus.publish)
    hosts = Hosts(
        book,
        settings,
        clock=clock,
        fingerprint=fingerprint,
        publish=bus.publish,
        grace_seconds=settings.agent_grace_seconds,
    )
    await hosts.load()
    return hosts


async def _open_datastores(base: _Base, *, task_status: trio.TaskStatus[None]) -> None:
    """In the background, so that the API answers at once. A fault of ours here must not end the server."""
    try:
        await base.datastores.open_all(task_status=task_status)
    except Exception:  # noqa: BLE001 - logged whole; the probes go on trying
        _log.exception("opening the datastores failed")


async def _run_services(
    base: _Base, stalls: StallDetector, background: trio.Nursery, task_status: trio.TaskStatus[Running]
) -> None:
    settings, pool = base.settings, base.pool
    observe = partial(service_state, base.bus, base.clock)
    supervisor = Supervisor(base.clock, observe=observe, before_last=base.datastores.close)
    certificates = await Certificates.begin(
        base.certificate, settings, [frames.ALPN, _HTTP], pool=pool, clock=base.clock, publish=base.bus.publish
    )
    context = _compose(base, supervisor, stalls, background, certificates)
    server_file = settings.state_dir / SERVER_FILE

    async def certificate_changed() -> None:
        base.hosts.fingerprint = certificates.pins
        await pool.disk(write_whereabouts, server_file, context)

    certificates.changed.append(certificate_changed)

    def stop(reason: str) -> None:
        if not supervisor.stopping:
            notice(base.bus, base.clock, "server.stopping", f"the server stops ({reason})")
            server_file.unlink(missing_ok=True)  # in the loop: one name in our own folder, and it must go first
        supervisor.request_stop(reason)

    try:
        async with trio.open_nursery() as nursery:  # noqa: TID251 - the supervisor runs in it until the stop is over
            await nursery.start(supervisor.run)
            await certificate_changed()
            notice(base.bus, base.clock, "server.started", f"{PRODUCT} {VERSION} listens on {context.endpoint}")
            task_status.started(Running(str(context.endpoint), context.fingerprint, context, stop))
    finally:
        server_file.unlink(missing_ok=True)


async def _close(base: _Base, background: trio.Nursery) -> None:
    """Close what services used: datastores (for a server that was cut off), last-used times, then the registry."""
    with trio.CancelScope(shield=True):
        try:
            await base.datastores.close()
            await base.access.flush()
            await base.audit.close()
        except IbsError as error:
            _log.error("not everything could be closed cleanly", error=error.message)
        background.cancel_scope.cancel()


def _compose(
    base: _Base, supervisor: Supervisor, stalls: StallDetector, background: trio.Nursery, certificates: Certificates
) -> ServerContext:
    """Seat the roles and make what the control plane gets of them."""
    endpoint, clock, datastores, tasks = Endpoint(), base.clock, base.datastores, base.tasks
    spawn, admit, began = spawner(background), partial(_admit, supervisor), clock.monotonic()

    def on_listening(bound: Bound) -> None:
        endpoint.host, endpoint.port = bound.host, bound.port

    async def serve_api(stopping: trio.Event, status: trio.TaskStatus[Any]) -> None:
        await control.serve(replace(context, api_stopping=stopping), task_status=status)

    pruning, deliveries = Pruning(datastores, tasks, spawn=spawn), _deliveries(base)
    roles = roster.seat_roles(supervisor, _parts(base, serve_api, on_listening, pruning, deliveries))
    metrics = _metrics(base, supervisor, stalls, roles.worker, certificates=certificates, deliveries=deliveries)
    sla, shipping = _sla(base, roles), _shipping(base, metrics)
    copying, sync_jobs = _copying(base, spawn, roles.known.note_commit)
    _begin(base, supervisor, spawn, metrics.run, certificates.watch, sla.run, shipping.run, sync_jobs.run)
    context = ServerContext(
        settings=base.settings,
        clock=clock,
        pool=base.pool,
        bus=base.bus,
        started=clock.now(),
        certificates=certificates,
        signer=base.secrets.signer.hex(),
        endpoint=endpoint,
        api_stopping=trio.Event(),
        access=base.access,
        identities=base.identities,
        roles=Roles(base.catalog.access, base.access, base.identities),
        **_people(base),
        datastores=datastores,
        sessions=Sessions(datastores, tasks, admit=admit, spawn=spawn, note_commit=roles.known.note_commit),
        readers=Readers(datastores, tasks, admit=admit, spawn=spawn),
        hosts=base.hosts,
        upkeep=Upkeep(datastores, tasks, spawn=spawn),
        lifecycle=Lifecycle(datastores),
        pruning=pruning,
        plans=roles.plans,
        jobs=roles.jobs,
        tasks=tasks,
        inbox_table=base.catalog.inbox,
        supervisor=supervisor,
        stalls=stalls,
        metrics=metrics,
        scheduler=roles.scheduler,
        worker=roles.worker,
        verifier=roles.verifier,
        gc=roles.gc,
        sync=roles.sync,
        pid=os.getpid(),
        uptime=lambda: clock.monotonic() - began,
        audit=base.audit,
        support=Support(lambda: context, spawn=spawn),
        sla=sla,
        notifications=Notifications(base.catalog.notifications, deliveries, base.secrets, clock),
        keys=base.keys,
        remotes=base.remotes,
        copying=copying,
        sync_jobs=sync_jobs,
    )
    return context


def _people(base: _Base) -> dict[str, Any]:
    kept = people(base.catalog, base.access, base.identities, base.secrets, base.clock, base.bus, base.pool)
    return dict(zip(("realms", "logins"), kept, strict=True))


def _sla(base: _Base, roles: roster.Roster) -> SlaWatch:
    settings, publish = base.catalog.settings, base.bus.publish
    return SlaWatch(base.datastores, base.tasks, settings, clock=base.clock, publish=publish, jobs=roles.jobs.list)


def _copying(
    base: _Base, spawn: Callable[[Work], None], note_commit: Callable[[str, str], None]
) -> tuple[Copying, SyncJobs]:
    datastores, remotes, tasks, clock = base.datastores, base.remotes, base.tasks, base.clock
    copying = Copying(datastores, remotes, tasks, pool=base.pool, clock=clock, spawn=spawn, note_commit=note_commit)
    parts = (base.catalog.sync_jobs, copying, remotes, tasks, datastores)
    return copying, SyncJobs(*parts, clock=clock, publish=base.bus.publish)


def _begin(base: _Base, supervisor: Supervisor, spawn: Callable[[Work], None], *more: Work) -> None:
    """Start what watches and keeps count beside the roles."""
    spawn(partial(_mirrors(base, supervisor).run, base.settings.state_dir))
    spawn(partial(base.audit.watch, base.bus.subscribe("audit")))
    for work in (base.hosts.watch, base.audit.keep_counting, *more):
        spawn(work)


def _deliveries(base: _Base) -> Deliveries:
    return Deliveries(base.catalog.notifications, _carrier(base), clock=base.clock, publish=base.bus.publish)


def _carrier(base: _Base) -> Carrier:
    return Carrier(base.secrets, base.pool, base.settings.node)


def _shipping(base: _Base, metrics: Metrics) -> Shipping:
    parts = (base.catalog.notifications, _carrier(base), lambda: metrics, base.settings.node)
    return Shipping(*parts, clock=base.clock, publish=base.bus.publish)


def _parts(
    base: _Base,
    serve_api: ServeApi,
    on_listening: Callable[[Bound], None],
    pruning: Pruning,
    deliveries: Deliveries,
) -> roster.Parts:
    return roster.Parts(
        base.settings,
        base.clock,
        base.pool,
        base.bus,
        base.catalog,
        base.tasks,
        base.datastores,
        base.access,
        serve_api,
        on_listening,
        prune=pruning.run_due,
        hosts=base.hosts,
        prune_group=pruning.run,
        deliveries=deliveries,
        remotes=base.remotes,
    )


def _metrics(
    base: _Base,
    supervisor: Supervisor,
    stalls: StallDetector,
    worker: Handle,
    *,
    certificates: Certificates,
    deliveries: Deliveries,
) -> Metrics:
    sources = Sources(
        node=base.settings.node,
        started=base.clock.now(),
        certificate_expires=lambda: certificates.certificate.expires,
        clock=base.clock,
        pool=base.pool,
        bus=base.bus,
        datastores=base.datastores,
        tasks=base.tasks,
        supervisor=supervisor,
        stalls=stalls,
        worker=worker,
        groups=base.settings.metrics_groups,
        more=[
            lambda: metrics_server.hosts(base.hosts.list()),
            lambda: metrics_notify.targets(deliveries.figures()),
        ],
    )
    return Metrics(sources)


def _mirrors(base: _Base, supervisor: Supervisor) -> Mirrors:
    return Mirrors(supervisor, base.bus, lambda role: service_view(by_role(supervisor.states())[role]))


def _admit(supervisor: Supervisor) -> None:
    """Nothing new begins while the server stops. Raises UnavailableError."""
    if supervisor.stopping:
        raise UnavailableError("the server is stopping", hint="try again in a moment")


def _remove_instrument(stalls: StallDetector) -> None:
    with suppress(KeyError):  # trio removes one that failed by itself
        trio.lowlevel.remove_instrument(stalls)
