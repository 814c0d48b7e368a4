"""Locks of a remote's snapshots, kept here too: what nobody may remove there, nobody may remove here.

Used by `services.copying`, for what is here already before anything is brought, and for each snapshot right after it
came; so a lock that was set later, or a run that was killed in between, is made good by the next run. Only what sync
brought here is locked: a remote never gets a hold on what others made.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ibs.core import limits_sync
from ibs.core.names import SnapshotName, parse_time
from ibs.engine.datastore import Datastore
from ibs.engine.task import Task
from ibs.errors import IbsError, NotFoundError, UsageError
from ibs.wire.datastore import SnapshotView
from ibs.wire.sync import PullStart


async def keep_locks(
    task: Task, datastore: Datastore, request: PullStart, there: Sequence[SnapshotView], now: datetime
) -> None:
    """Lock what is here as long as it is locked at its source; never shorter. What cannot be is a warning."""
    for view in there:
        if not view.locked_until:
            continue
        try:
            until = parse_time(view.locked_until)
        except UsageError:
            task.warn(f"{view.snapshot}: {request.remote} cannot tell until when it is locked")
            continue
        if (until - now).total_seconds() > limits_sync.LOCK_DRIFT_SECONDS:
            await _keep(task, datastore, view, until, now)


async def _keep(task: Task, datastore: Datastore, view: SnapshotView, until: datetime, now: datetime) -> None:
    context, name = datastore.context, SnapshotName.parse(view.snapshot)
    try:
        here = await datastore.snapshots.snapshot_view(name)
    except NotFoundError:
        return  # not brought yet, or not at all
    if not here.brought or (here.source or here.manifest_digest) != (view.source or view.manifest_digest):
        return
    try:
        before = await context.pool.disk(context.retained.until, name)
        if before is not None and (until - before[0]).total_seconds() <= limits_sync.LOCK_DRIFT_SECONDS:
            return
        await context.pool.disk(context.retained.lock, name, until, task.auth_id, now)
    except IbsError as error:
        task.warn(f"{name} is locked at its source until {view.locked_until}, but not here: {error.message}")
    else:
        task.log("info", f"{name} is locked until {view.locked_until}, as at its source")
