"""Desk for copies between servers: what a pull looks at, what it brings, and how it is told as a task.

Made by `app`, used through `ServerContext.copying`. Which snapshots are brought is `services.sync_select`'s rule; how
one is brought, `services.pulling`'s. One that cannot be brought is a warning, and the others go on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from msgspec import structs

from ibs.client.http import ApiClient
from ibs.client.transport import HttpRestoreTransport
from ibs.core import limits_sync
from ibs.core.ids import parse_hex
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.core.tasks import TaskType
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.modes import Use
from ibs.engine.task import Task
from ibs.engine.tasks import TaskRegistry
from ibs.errors import (
    BusyError,
    FailedError,
    FormatError,
    IbsError,
    NotFoundError,
    RefusedError,
    UsageError,
)
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.background import leaf
from ibs.runtime.throttle import Throttle
from ibs.services.locking import keep_locks
from ibs.services.mending import Origin
from ibs.services.pulling import Figures, Place, Wish, of_one_snapshot, pull_snapshot
from ibs.services.remotes import Remotes
from ibs.services.repairing import Repair, rebuild
from ibs.services.sync_select import Filter, Plan, Seen, Why, is_accident, plan, vanished
from ibs.units import format_bytes
from ibs.wire.datastore import SnapshotView
from ibs.wire.lifecycle import NamespaceView
from ibs.wire.session import StageFigures, StageReport
from ibs.wire.sync import PullStart


class Copying:
    """One a server."""

    def __init__(
        self,
        datastores: Datastores,
        remotes: Remotes,
        tasks: TaskRegistry,
        *,
        pool: Pool,
        clock: Clock,
        spawn: Callable[[Callable[[], Awaitable[object]]], None],
        note_commit: Callable[[str, str], None],
    ) -> None:
        self._datastores = datastores
        self._remotes = remotes
        self._tasks = tasks
        self._pool = pool
        self._clock = clock
        self._spawn = spawn
        self._note_commit = note_commit

    async def pull(self, auth_id: str, store: str, request: PullStart) -> str:
        """Start bringing what is missing here; the answer is the task's UPID. Raises UsageError, NotFoundError,
        DatastoreOffline, Quarantined, UnderMaintenance."""
        wanted = filter_of(request)
        signers_of(request)
        (await self._datastores.get(store)).context.modes.require(Use.WRITE)
        await self._remotes.show(request.remote)

        async def work(task: Task) -> str:
            datastore = await self._datastores.get(store)
            return await self._pull(task, datastore, request, wanted)

        task = await self._tasks.start(TaskType.SYNC, f"{store}:pull:{request.remote}:{request.source}", auth_id)
        self._spawn(lambda: task.run(work))
        return task.upid

    async def _pull(self, task: Task, datastore: Datastore, request: PullStart, wanted: Filter) -> str:
        total = _Total()
        async with self._remotes.connect(request.remote) as (api, row):
            throttle = Throttle(self._clock, request.bandwidth or None)
            origin = Origin(api, request.remote, request.source, bytes.fromhex(row.signer), throttle)
            repair = Repair(task, datastore, origin, self._pool)
            place = Place(datastore, task.auth_id, task.upid, _Quiet(), self._pool, throttle)
            for namespace in await _namespaces(api, request):
                one = structs.replace(request, namespace=namespace)
                there = await self._pull_namespace(origin, place, repair, one, wanted, total, task)
                if request.remove_vanished:
                    await _remove_vanished(task, datastore, one, _seen(there), wanted)
        return _summary(task, total, repair.mended)

    async def _pull_namespace(  # noqa: PLR0917 - one namespace, in the order of the way
        self,
        origin: Origin,
        place: Place,
        repair: Repair,
        request: PullStart,
        wanted: Filter,
        total: _Total,
        task: Task,
    ) -> Sequence[SnapshotView]:
        """Bring what is chosen of one namespace; returns all that it has there."""
        datastore, namespace = place.datastore, Namespace.parse(request.namespace)
        there = await _listing(origin.api, request.source, request.namespace)
        if request.snapshot:
            there = [one_of(there, request)]
        here = await datastore.snapshots.snapshot_views(namespace)
        views = {view.snapshot: view for view in there}
        binned = set() if request.again else await _binned(datastore, namespace)
        chosen = plan(_seen(there), _seen(here), wanted, self._clock.now(), binned, resync=request.resync)
        total.there += chosen.there
        _tell_plan(task, chosen, request)
        await keep_locks(task, datastore, request, there, self._clock.now())
        for one in chosen.bring:
            name = SnapshotName(namespace, one.snapshot.group, one.snapshot.time)
            if one.why is Why.DAMAGED:
                total.failed += not await repair.mend(name)
                continue
            view = views[str(name)]
            wish = Wish(
                request.remote,
                origin.signer,
                request.source,
                view.snapshot,
                notes=view.notes,
                protected=view.protected,
                also=signers_of(request),
            )
            if await self._one(origin.api, wish, place, total.figures, task):
                await keep_locks(task, datastore, request, [view], self._clock.now())
            else:
                total.failed += 1
        return there

    async def repair(self, auth_id: str, store: str, request: PullStart) -> str:
        """Start comparing both sides completely and setting right what is wrong here; the UPID. Raises as `pull`."""
        request = structs.replace(request, remove_vanished=False)  # who repairs wants nothing removed
        wanted = filter_of(request)
        (await self._datastores.get(store)).context.modes.require(Use.REPAIR)
        await self._remotes.show(request.remote)

        async def work(task: Task) -> str:
            await rebuild(task, self._datastores, store)
            datastore = await self._datastores.get(store)
            async with self._remotes.connect(request.remote) as (api, row):
                throttle = Throttle(self._clock, request.bandwidth or None)
                origin = Origin(api, request.remote, request.source, bytes.fromhex(row.signer), throttle)
                repair = Repair(task, datastore, origin, self._pool)
                for namespace in await _namespaces(api, request):
                    listed = {one.snapshot for one in await _listing(api, request.source, namespace)}
                    for name in await datastore.snapshots.list(Namespace.parse(namespace)):
                        if wanted.covers(name.group):
                            await repair.compare(name, there=str(name) in listed)
            if datastore.context.modes.allows(Use.WRITE):
                await self._pull(task, datastore, request, wanted)
            return repair.conclude()

        task = await self._tasks.start(TaskType.REPAIR, f"{store}:sync:{request.remote}:{request.source}", auth_id)
        self._spawn(lambda: task.run(work))
        return task.upid

    async def _one(self, api: ApiClient, wish: Wish, place: Place, figures: Figures, task: Task) -> bool:
        """Bring one; False when it cannot be, for reasons of its own."""
        before = (figures.chunks, figures.bytes)

        def moved() -> None:
            task.progress(stages={"pull": StageFigures(items=figures.chunks, bytes=figures.bytes)})

        try:
            async with HttpRestoreTransport(api) as transport:
                await pull_snapshot(transport, wish, place, figures, moved)
        except BaseExceptionGroup as group:
            error = leaf(group, IbsError) or group
            if not of_one_snapshot(error):
                raise error from None
            task.warn(f"{wish.snapshot} was not brought: {_words(error)}")
            return False
        except IbsError as error:
            if not of_one_snapshot(error):
                raise
            task.warn(f"{wish.snapshot} was not brought: {_words(error)}")
            return False
        self._note_commit(place.datastore.uuid, wish.snapshot)
        chunks, size = figures.chunks - before[0], format_bytes(figures.bytes - before[1])
        task.log("info", f"{wish.snapshot}: {chunks} chunks, {size} fetched")
        return True


@dataclass(slots=True)
class _Total:
    """What one run did, over all namespaces."""

    figures: Figures = field(default_factory=Figures)
    there: int = 0
    failed: int = 0


def filter_of(request: PullStart) -> Filter:
    """What it looks at. Raises UsageError for what can match nothing."""
    namespace = Namespace.parse(request.namespace)
    if request.snapshot:
        if request.remove_vanished:
            raise UsageError("one snapshot says nothing of what vanished", hint="leave --remove-vanished out")
        SnapshotName.parse(request.snapshot, namespace)
        if request.depth:
            raise UsageError("one snapshot is in one namespace", hint="leave --depth out")
    if request.depth and request.remove_vanished:
        # Each namespace by itself may lose a few without anybody asking why: all together that is no few.
        raise UsageError("what vanished is removed in one namespace only", hint="make a job for each, without --depth")
    return Filter(
        groups=tuple(request.groups),
        types=tuple(request.types),
        newest=request.newest,
        age_seconds_max=request.max_age_seconds,
        keep=request.keep,
    )


def signers_of(request: PullStart) -> frozenset[bytes]:
    """Keys of servers that are no more. Raises UsageError."""
    return frozenset(parse_hex(one, "signing key") for one in request.trust_signers)


def one_of(there: Sequence[SnapshotView], request: PullStart) -> SnapshotView:
    """The one snapshot that is asked for, or the newest of its group. Raises NotFoundError."""
    wanted = SnapshotName.parse(request.snapshot, Namespace.parse(request.namespace))
    found = [view for view in there if SnapshotName.parse(view.snapshot).group == wanted.group]
    if wanted.time is not None:
        found = [view for view in found if view.snapshot == str(wanted)]
    if not found:
        raise NotFoundError(
            f"{request.remote}:{request.source} has no snapshot {wanted}",
            hint="see there: ironcore-backup-client snapshot list",
        )
    return max(found, key=lambda view: view.time)


async def _remove_vanished(
    task: Task, datastore: Datastore, request: PullStart, there: Sequence[Seen], wanted: Filter
) -> None:
    """Put into the bin what was brought from this remote and it has no more; what may not go there is told and stays.

    What looks like an accident over there (an empty datastore, a disk that is not mounted) is left alone as a whole.
    """
    namespace = Namespace.parse(request.namespace)
    here = await datastore.snapshots.snapshot_views(namespace)
    mine = {view.snapshot for view in here if view.brought_from == request.remote}
    seen = [replace(one, brought=view.snapshot in mine) for view, one in zip(here, _seen(here), strict=True)]
    gone = vanished(there, seen, wanted)
    if is_accident(gone, seen, wanted) and not request.accept_vanished:
        task.warn(
            f"{len(gone.remove)} snapshots from {request.remote} vanished there, most of what it ever sent: nothing is "
            "removed here. If that is meant: sync run --accept-vanished"
        )
        return
    for one in gone.remove:
        name = SnapshotName(namespace, one.group, one.time)
        try:
            await datastore.bin.put(name, task.auth_id, f"vanished at {request.remote}:{request.source}")
        except (BusyError, NotFoundError, RefusedError) as error:
            task.log("info", f"{name} vanished at the source and stays: {error.message}")
        else:
            task.log("info", f"{name} vanished at the source: moved to the bin")
    for one, why in gone.kept:
        task.log("info", f"{one.name} vanished at the source and stays: {why}")


class _Quiet:
    """Nobody to be told: the task tells of each snapshot itself."""

    async def reported(self, report: StageReport) -> None:
        """Nothing reports here."""

    async def ended(self, status: str, message: str) -> None:
        """The task tells it."""


async def _namespaces(api: ApiClient, request: PullStart) -> list[str]:
    """The namespace that is asked for, and as many levels below it as are asked for, each after the one above it."""
    if not request.depth:
        return [request.namespace]
    top = Namespace.parse(request.namespace)
    rows = await api.get(f"/datastores/{request.source}/namespaces", list[NamespaceView])
    found = sorted((Namespace.parse(row.namespace) for row in rows), key=lambda one: one.parts)
    size = len(top.parts)
    below = [one for one in found if one.parts[:size] == top.parts and 0 < len(one.parts) - size <= request.depth]
    return [request.namespace, *map(str, below)]


async def _listing(api: ApiClient, source: str, namespace: str) -> list[SnapshotView]:
    return await api.get(f"/datastores/{source}/snapshots", list[SnapshotView], params={"namespace": namespace})


async def _binned(datastore: Datastore, namespace: Namespace) -> set[tuple[Group, datetime]]:
    """What was forgotten here and is still in the bin, by group and time."""
    found = set()
    for entry in await datastore.bin.entries():
        if entry.snapshot.namespace == namespace and entry.snapshot.time is not None:
            found.add((entry.snapshot.group, entry.snapshot.time))
    return found


def _seen(views: Sequence[SnapshotView]) -> list[Seen]:
    """As the rules of selection see them. Raises FormatError for a listing without times."""
    found = []
    for view in views:
        name = SnapshotName.parse(view.snapshot)
        if name.time is None:
            raise FormatError(f"snapshot {view.snapshot!r} has no time")
        found.append(
            Seen(
                group=name.group,
                time=name.time,
                digest=view.manifest_digest,
                source=view.source,
                good=view.verify in {"", "OK"},
                protected=view.protected,
                brought=view.brought,
            )
        )
    return found


def _words(error: BaseException) -> str:
    """What went wrong and what to do about it, in a line."""
    return f"{error.message}: {error.hint}" if isinstance(error, IbsError) and error.hint else str(error)


def _tell_plan(task: Task, chosen: Plan, request: PullStart) -> None:
    place = f"{request.remote}:{request.source}" + (f" ns:{request.namespace}" if request.depth else "")
    task.log("info", f"{len(chosen.bring)} snapshots of {place} are missing here, {chosen.there} are here already")
    if chosen.forgotten:
        first = ", ".join(one.name for one in chosen.forgotten[:3])
        task.log(
            "info",
            f"{len(chosen.forgotten)} were forgotten here and stay in the bin ({first}, …): --again brings them, and "
            "`recyclebin undo` takes them out",
        )
    for one in chosen.conflicts[: limits_sync.PULL_TROUBLES_SHOWN]:
        task.warn(f"{one.name} is here with another content: both are left alone")


def _summary(task: Task, total: _Total, mended: int) -> str:
    figures, failed = total.figures, total.failed
    text = (
        f"{figures.snapshots} snapshots brought, {total.there} were here already; "
        f"{figures.chunks} chunks, {format_bytes(figures.bytes)} fetched, {figures.chunks_there} chunks were here"
    )
    text += f"; {mended} that were damaged are whole again" if mended else ""
    if failed and not figures.snapshots and not mended:
        raise FailedError(f"{failed} snapshots could not be brought", hint=f"see: ironcore-backup task log {task.upid}")
    text += f"; {failed} could not be brought" if failed else ""
    task.log("info", text)
    return text
