"""What is known of datastores for metrics: the figures of the tables, looked up now and then and kept.

Used by `services.metrics` only. A look walks the list of snapshots, so it is never made while somebody waits for the
answer, and never more often than the time it takes allows. Invariant: the number of rows is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ibs.core import limits
from ibs.core.names import SnapshotName, parse_time
from ibs.core.tasks import TaskState, TaskType
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.tasks import TaskRegistry
from ibs.errors import IbsError
from ibs.ports.chunkstore import Counts, Space
from ibs.ports.clock import Clock
from ibs.runtime.supervisor import ServiceState
from ibs.services import outlook
from ibs.services.collecting import gc_status
from ibs.wire.datastore import DatastoreStats, VerifyOutlook
from ibs.wire.gc import GcStatus
from ibs.wire.system import TaskView

_RUNS = (TaskType.VERIFY, TaskType.PRUNE, TaskType.GC, TaskType.SYNC, TaskType.BACKUP)


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace. `newest` of all its groups; `stalest`: the newest snapshot of the group that waits longest."""

    groups: int
    snapshots: int
    newest: float
    stalest: float


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """One datastore that was online. `groups` holds the newest snapshot of each, when that is wanted."""

    stats: DatastoreStats
    space: Space
    counts: Counts
    gc: GcStatus
    outlook: VerifyOutlook | None
    places: dict[str, Place]
    groups: dict[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Survey:
    """`runs`: by type and datastore the last task that ended. `seconds`: how long the look took."""

    at: datetime
    seconds: float
    stores: dict[str, StoreFigures]
    runs: dict[tuple[str, str], TaskView]


async def survey(
    datastores: Datastores, tasks: TaskRegistry, clock: Clock, verifier: ServiceState | None, *, groups: bool
) -> Survey:
    """Look at every datastore that is online; with `groups` also at each group. One that goes away is left out."""
    at, began = clock.now(), clock.monotonic()
    situation = await outlook.situation(tasks, verifier, at, None)
    outlooks = {one.name: one for one in await outlook.outlooks(datastores, situation)}
    stores = {}
    for datastore in datastores.opened():
        try:
            stores[datastore.name] = await _figures(datastores, datastore, outlooks.get(datastore.name), groups=groups)
        except IbsError:
            continue  # it went offline while we looked: its state says so
    runs = await _runs(tasks, [name for name, _, _ in datastores.standing()])
    return Survey(at, clock.monotonic() - began, stores, runs)


async def _figures(
    datastores: Datastores, datastore: Datastore, verified: VerifyOutlook | None, *, groups: bool
) -> StoreFigures:
    stats = await datastore.stats()
    pool, store = datastore.context.pool, datastore.store
    space, counts = await pool.disk(lambda: (store.space(), store.counts()))
    (gc,) = await gc_status(datastores, datastore.name)
    places, newest = _places(await datastore.snapshots.every())
    return StoreFigures(stats, space, counts, gc, verified, places, newest if groups else {})


def _places(names: Sequence[SnapshotName]) -> tuple[dict[str, Place], dict[tuple[str, str], float]]:
    newest: dict[tuple[str, str], float] = {}
    snapshots: dict[str, int] = {}
    for name in names:
        namespace = str(name.namespace)
        snapshots[namespace] = snapshots.get(namespace, 0) + 1
        if name.time is not None:
            key = (namespace, str(name.group))
            newest[key] = max(newest.get(key, 0.0), name.time.timestamp())
    places: dict[str, Place] = {}
    for (namespace, _group), moment in newest.items():
        so_far = places.get(namespace, Place(0, snapshots[namespace], moment, moment))
        if namespace in places or len(places) < limits.METRICS_SERIES_MAX:
            places[namespace] = Place(
                so_far.groups + 1, so_far.snapshots, max(so_far.newest, moment), min(so_far.stalest, moment)
            )
    return places, dict(sorted(newest.items())[: limits.METRICS_SERIES_MAX])


async def _runs(tasks: TaskRegistry, stores: Sequence[str]) -> dict[tuple[str, str], TaskView]:
    """By type and datastore the last task that ended, as far back as METRICS_RUNS_LOOKED_AT tasks of the type."""
    found: dict[tuple[str, str], TaskView] = {}
    for kind in _RUNS:
        for task in await tasks.list(type=kind.value, limit=limits.METRICS_RUNS_LOOKED_AT):
            store = store_of(task.id, stores)
            if store and TaskState(task.state).ended and (kind.value, store) not in found:
                found[kind.value, store] = task
    return found


def store_of(subject: str, stores: Sequence[str]) -> str:
    """The datastore that a task is about, "" when it is none of those that are known."""
    store = subject.partition(":")[0]
    return store if store in stores else ""


def seconds_of(text: str) -> float | None:
    """Seconds since the epoch of a time of the API; None for no time."""
    try:
        return parse_time(text).timestamp() if text else None
    except IbsError:
        return None
