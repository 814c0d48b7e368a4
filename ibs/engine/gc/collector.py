"""Garbage collection of one datastore: start, steer and undo it, and what there is to tell about it.

Used by `services` as `Datastore.gc`. The safety argument is in contrib/docs/concurrency.md §4; in short: a run begins
an epoch, listens at the gate, reads promises and then manifests, and retires under the gate what none of them names,
nobody was promised since, and nobody received or was answered for in this epoch. Deterministic: clock and pool are the
context's, and chunks go in order of their ids. Belongs to the trio thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import msgspec
import trio

from ibs.engine.bin import Bin
from ibs.engine.context import StoreContext
from ibs.engine.gc import record as records
from ibs.engine.gc.plan import Options
from ibs.engine.gc.progress import Meter, Progress
from ibs.engine.gc.record import GcRecord
from ibs.engine.gc.run import GcRun, Log, Outcome
from ibs.engine.gc.trash import TrashKeeper
from ibs.engine.modes import Use
from ibs.errors import BusyError, NotFoundError
from ibs.ports.chunkstore import Retired

_EMPTYING = "emptying the trash"


class GarbageCollector:
    """One a datastore; one run at a time. Methods raise DatastoreOffline besides what they say."""

    def __init__(self, context: StoreContext, recycled: Bin) -> None:
        self._context = context
        self._bin = recycled
        self._run: GcRun | None = None
        self._busy = ""
        self._emptied = trio.Event()
        self.trash = TrashKeeper(context)

    @property
    def progress(self) -> Progress | None:
        """How far the run under way is; None while there is none."""
        return self._run.meter.now if self._run is not None else None

    @property
    def paused(self) -> bool:
        """Whether the run under way is held, or will be before its next step."""
        return self._run is not None and self._run.pause.on

    @property
    def busy(self) -> bool:
        """Whether a run, an undo, or the emptying of the trash is under way."""
        return bool(self._busy)

    async def record(self) -> GcRecord:
        """The last run; and as `running` the one under way, or one that was cut off and not followed by another."""
        found = await self._context.pool.disk(records.read, self._context)
        return found if self._run is None else msgspec.structs.replace(found, running=self._run.now)

    async def run(
        self, options: Options, log: Log | None = None, show: Callable[[Progress], None] | None = None
    ) -> Outcome:
        """Collect garbage, or with `dry_run` say what would be. *Cancellation*: between two steps; nothing is lost.

        Raises UsageError, BusyError (another run), Quarantined, UnderMaintenance; FormatError when a reference cannot
        be read, naming it; ConflictError when a brake holds; NoSpace, DatastoreReadOnly.
        """
        options.check()
        await self._trash_emptied()
        with self._alone("garbage collection"), self._context.modes.using(Use.GC):
            meter = Meter(self._context.clock, show or _blind)
            self._run = GcRun(self._context, self._bin, self.trash, options, log=log or _silent, meter=meter)
            try:
                return await self._run.work()
            finally:
                self._run = None
        raise AssertionError("unreachable: `using` raises when it was cancelled")

    def pause(self) -> None:
        """Hold the run before its next step. Raises NotFoundError when there is none."""
        self._under_way().pause.set()

    def resume(self) -> None:
        """Let it go on. Raises NotFoundError when there is none."""
        self._under_way().pause.clear()

    async def undo(self, *, everything: bool = False) -> Retired:
        """Bring the chunks of the last run's trash back, or those of all.

        Raises NotFoundError when trash is empty, BusyError. *Cancellation*: between batches; the rest stays in trash.
        """
        self._context.modes.require(Use.REPAIR)
        await self._trash_emptied()
        with self._alone("an undo of garbage collection"):
            done = await self.trash.revive(everything=everything)
            await self._context.pool.disk(self._note_back, done)
            return done

    async def expire(self) -> Retired:
        """Delete what has been in trash for its grace. Nothing while somebody is at it, or clock or mode forbid it."""
        if self._busy:
            return Retired()
        self._emptied = trio.Event()
        try:
            with self._alone(_EMPTYING):
                return await self.trash.expire()
        finally:
            self._emptied.set()

    async def _trash_emptied(self) -> None:
        """The round that empties the trash comes every few seconds by itself, and nobody is refused because of it."""
        while self._busy == _EMPTYING:
            await self._emptied.wait()

    def _note_back(self, done: Retired) -> None:
        """What came back from the trash lies in its place again, and nothing has come to refer to it by that."""
        found = records.read(self._context)
        if found.seen is not None:
            records.write(
                self._context, msgspec.structs.replace(found, seen=found.seen.less(-done.chunks, -done.bytes))
            )

    def _under_way(self) -> GcRun:
        if self._run is None:
            raise NotFoundError(
                f"no garbage collection of {self._context.name} is under way",
                hint=f"start one: ironcore-backup gc start {self._context.name}",
            )
        return self._run

    @contextlib.contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        if self._busy:
            raise BusyError(f"{self._busy} of {self._context.name} is under way", hint="wait until it has ended")
        self._busy = what
        try:
            yield
        finally:
            self._busy = ""


def _silent(level: str, text: str) -> None:
    pass


def _blind(progress: Progress) -> None:
    pass
