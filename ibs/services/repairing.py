"""What a repair of one side of a sync does, snapshot by snapshot: verify, mend what is damaged, verify again, count.

Used by `services.copying`. Every chunk is read: what earlier verifications found does not count.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.task import Task
from ibs.engine.verify import OK, VerifyRun, verify_snapshot
from ibs.errors import FailedError, IbsError, NotFoundError
from ibs.ports.pool import Pool
from ibs.services.mending import Mended, Origin, mend
from ibs.services.pulling import of_one_snapshot
from ibs.units import format_bytes
from ibs.wire.datastore import VerifyReport
from ibs.wire.session import StageFigures


@dataclass(slots=True)
class _Tally:
    compared: int = 0
    sound: int = 0
    mended: int = 0
    files: int = 0
    chunks: int = 0
    bytes: int = 0
    left: list[str] = field(default_factory=list)


class Repair:
    """One run over the snapshots of a datastore, against one origin."""

    def __init__(self, task: Task, datastore: Datastore, origin: Origin, pool: Pool) -> None:
        self._task, self._datastore, self._origin, self._pool = task, datastore, origin, pool
        self._run = VerifyRun()
        self._tally = _Tally()

    @property
    def mended(self) -> int:
        """Snapshots that were damaged and are whole."""
        return self._tally.mended

    async def compare(self, name: SnapshotName, *, there: bool) -> None:
        """Verify one in full, and mend it where it is damaged. Raises what concerns more than this snapshot."""
        try:
            report = await self._verify(name)
        except NotFoundError:
            return  # removed meanwhile
        self._tally.compared += 1
        if report.result == OK:
            self._tally.sound += 1
        elif not there:
            self._give_up(name, f"{report.first_failure}; {self._origin.remote}:{self._origin.source} does not have it")
        else:
            self._task.log("error", f"{name}: {report.result}, {report.first_failure}")
            await self.mend(name)

    async def mend(self, name: SnapshotName) -> bool:
        """Set one right that is known to be damaged; whether it is whole now."""
        try:
            done = await mend(self._datastore, name, self._origin, self._task.auth_id, self._pool)
            self._count(done)
            self._task.log("info", f"{name}: {done}")
            report = await self._verify(name)
        except IbsError as error:
            if not of_one_snapshot(error):
                raise
            self._give_up(name, str(error))
            return False
        if report.result != OK:
            self._give_up(name, f"{report.result}, {report.first_failure}")
            return False
        self._tally.mended += 1
        self._task.log("info", f"{name}: it is whole again")
        return True

    def conclude(self) -> str:
        """What was done, in a sentence. Raises FailedError when something is damaged still."""
        tally = self._tally
        text = (
            f"{tally.compared} snapshots compared: {tally.sound} sound, {tally.mended} mended "
            f"({tally.files} files and {tally.chunks} chunks, {format_bytes(tally.bytes)} fetched)"
        )
        if tally.left:
            raise FailedError(
                f"{text}; {len(tally.left)} are damaged still, first {tally.left[0]}",
                hint=f"see: ironcore-backup task log {self._task.upid}",
            )
        return text

    async def _verify(self, name: SnapshotName) -> VerifyReport:
        task = self._task
        return await verify_snapshot(self._datastore, name, run=self._run, upid=task.upid, auth_id=task.auth_id)

    def _count(self, done: Mended) -> None:
        tally = self._tally
        tally.files += len(done.files)
        tally.chunks += done.chunks
        tally.bytes += done.bytes
        self._task.progress(stages={"mend": StageFigures(items=tally.chunks, bytes=tally.bytes)})

    def _give_up(self, name: SnapshotName, why: str) -> None:
        self._tally.left.append(str(name))
        self._task.warn(f"{name} could not be mended: {why}")


async def rebuild(task: Task, datastores: Datastores, store: str) -> None:
    """Set the chunk index of a datastore right by what lies on its disk."""

    def progress(done: int, _total: int) -> None:
        task.progress(stages={"index": StageFigures(items=done)})

    found = await datastores.reindex(store, lambda text: task.log("info", text), progress)
    task.log("info", found.text)
