"""A backup of the server's own files, run in a worker slot: the client's pipeline over the in-process transport."""

from __future__ import annotations

from collections.abc import Callable

from ibs.client.backup.plan import BackupPlan
from ibs.client.backup.run import run_backup
from ibs.core.names import parse_source
from ibs.engine.datastores import Datastores
from ibs.engine.direct import DirectBackupTransport
from ibs.engine.task import Task
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.services.worker import RunBackup
from ibs.units import format_bytes
from ibs.version import VERSION
from ibs.wire.session import StageReport
from ibs.wire.system import BackupRun


class _Observed:
    """Reports go to the task; its end is the worker's to tell, because only it knows why a session was given up."""

    def __init__(self, task: Task) -> None:
        self._task = task

    async def reported(self, report: StageReport) -> None:
        await self._task.reported(report)

    async def ended(self, status: str, message: str) -> None:
        """Nothing to tell yet."""


def backup_job(
    datastores: Datastores, *, pool: Pool, clock: Clock, node: str, note_commit: Callable[[str, str], None]
) -> RunBackup:
    """What the worker runs for a BackupRun that was checked (`services.worker.checked`)."""

    async def work(task: Task, run: BackupRun) -> str | None:
        datastore = await datastores.get(run.store)
        transport = DirectBackupTransport(datastores.get, task.auth_id, upid=task.upid, observer=_Observed(task))
        plan = BackupPlan(
            store=run.store,
            group=f"{run.backup_type}/{run.backup_id}",
            namespace=run.namespace,
            sources=tuple(parse_source(source) for source in run.sources),
            owner=task.auth_id,
            client=f"ironcore-backup {VERSION} on {node}",
            excludes=tuple(run.exclude),
            all_file_systems=run.all_file_systems,
            reread=run.reread,
            reread_every=run.reread_every,
            bandwidth=run.bandwidth,
        )
        outcome = await run_backup(transport, plan, pool=pool, clock=clock)
        note_commit(datastore.uuid, outcome.snapshot)
        return (
            f"snapshot {outcome.snapshot}: {outcome.files} files, {format_bytes(outcome.bytes_seen)}, "
            f"{format_bytes(outcome.new_bytes)} new in the datastore"
        )

    return work
