"""One garbage collection, from the first step to the last.

Used by `engine.gc` only. Every step is one call in the pool; between two of them the run can be paused, slowed down and
stopped. It keeps nothing that the next run would need: cut off at any point, another run does what is left. The order
of the steps is the safety argument of contrib/docs/concurrency.md §4: epoch, watch, promises, manifests, flush, sweep.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import trio

from ibs.core import limits
from ibs.core.events import EventSource, Severity
from ibs.core.names import format_time
from ibs.engine.bin import Bin
from ibs.engine.context import StoreContext
from ibs.engine.gc import record as records
from ibs.engine.gc.marker import Found, Marker
from ibs.engine.gc.plan import Options, Plan, is_short
from ibs.engine.gc.progress import EMPTYING, MARKING, PREPARING, SWEEPING, Meter, Pause
from ibs.engine.gc.record import GcRecord, RunRecord, Seen
from ibs.engine.gc.sweeper import Sweeper
from ibs.engine.gc.trash import TrashKeeper
from ibs.engine.modes import Use
from ibs.errors import ChunkNotFound, ConflictError, CorruptChunk, IbsError, NoSpace, NotFoundError, RefusedError
from ibs.ports.chunkstore import Address, Retired, Trash
from ibs.runtime.throttle import Throttle
from ibs.units import format_bytes, format_count

T = TypeVar("T")
Log = Callable[[str, str], None]
"""Takes a level (info, warning, error) and a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run did. `retired`: to and from the trash by the sweep; `emptied`: older trash that went for good.

    `kept_trash`: False when chunks went at once; `why_not` then says why.
    """

    plan: Plan
    dry_run: bool = False
    retired: Retired = field(default_factory=Retired)
    emptied: Retired = field(default_factory=Retired)
    taken_back: int = 0
    kept_trash: bool = True
    why_not: str = ""
    trash: tuple[Trash, ...] = ()

    @property
    def freed_chunks(self) -> int:
        return self.retired.freed_chunks + self.emptied.freed_chunks

    @property
    def freed_bytes(self) -> int:
        return self.retired.freed_bytes + self.emptied.freed_bytes


class GcRun:
    """Made for one run. `now` is what it is about, `meter` how far it is."""

    def __init__(
        self, context: StoreContext, recycled: Bin, trash: TrashKeeper, options: Options, *, log: Log, meter: Meter
    ) -> None:
        self._context = context
        self._bin = recycled
        self._trash = trash
        self._options = options
        self._log = log
        self.meter = meter
        self.pause = Pause()
        self.now = RunRecord(
            epoch=0, started=format_time(context.clock.now()), by=options.by, upid=options.upid, phase=PREPARING
        )
        rate = float(options.io_limit) if options.io_limit else None
        self._throttle = Throttle(self._context.clock, rate)
        self._seen: Seen | None = None

    async def work(self) -> Outcome:
        """Do it. Raises what `GarbageCollector.run` does."""
        store, disk = self._context.store, self._context.pool.disk
        before = await self._tell_cut_off()
        self._seen = before.seen
        if self._options.dry_run:
            with self._context.gate.watching_all():
                found = await self._mark(store.epoch + 1)
            await self._note(GcRecord(running=before.running, last=before.last))
            self._tell_plan(found.plan)
            try:
                found.plan.brake(self._context.name, self._options)
            except ConflictError as brake:
                self._log("warning", f"this would be refused: {brake.message}")
            return Outcome(plan=found.plan, dry_run=True, trash=tuple(await self._trash.list()))
        await self._prepare()
        self.now = msgspec.structs.replace(self.now, epoch=await disk(store.raise_epoch))
        await self._note(GcRecord(running=self.now, last=before.last))
        try:
            outcome = await self._collect(before)
        except BaseException as error:
            await self._note(GcRecord(last=self._closed(**_ending(error))))
            raise
        await self._note(GcRecord(last=self._closed(**_figures(outcome))))
        return outcome

    # --- steps ---

    async def _tell_cut_off(self) -> GcRecord:
        found = await self._context.pool.disk(records.read, self._context)
        if found.running is not None:
            self._log(
                "info",
                f"the run that began {found.running.started} was cut off"
                f"{' while ' + found.running.phase if found.running.phase else ''}: nothing is lost by that, "
                "and this run does what it left undone",
            )
        return found

    async def _prepare(self) -> None:
        self.meter.begin(PREPARING)
        if self._options.empty_bin:
            await self._empty_bin()
        with contextlib.suppress(NoSpace):  # what cannot be made durable yet is not collected either
            await self._context.pool.disk(self._context.store.barrier)

    async def _empty_bin(self) -> None:
        for entry in await self._bin.entries():
            with contextlib.suppress(NotFoundError):
                await self._bin.purge(entry.entry)
                self._log("info", f"{entry.snapshot} removed from the bin for good")

    async def _collect(self, before: GcRecord) -> Outcome:
        store, disk, gate, epoch = self._context.store, self._context.pool.disk, self._context.gate, self.now.epoch
        with gate.watching_all() as watch:
            found = await self._mark(epoch)
            self._tell_plan(found.plan)
            found.plan.brake(self._context.name, self._options)
            await self._acknowledge(found)
            short = is_short(await disk(store.space)) or not await disk(self._dated)
            sweeper = Sweeper(self._context, watch, epoch, not (short or self._options.reclaim_now))
            self.now = msgspec.structs.replace(self.now, phase=SWEEPING)
            await self._note(GcRecord(running=self.now, last=before.last))
            taken_back = await self._take_back(sweeper, found)
            emptied = await self._empty_trash(everything=not sweeper.keep)
            # A manifest that the power brings back must find its chunks: removals are flushed before anything goes.
            await disk(store.sync)
            retired = await self._sweep(sweeper, found)
            await disk(sweeper.forget_missing, found.forgotten)
        if not sweeper.keep and not self._options.reclaim_now:
            short = True
            emptied += await self._empty_trash(everything=True)
        why = "as asked" if self._options.reclaim_now else "the disk is short of space" if short else ""
        return Outcome(
            plan=found.plan,
            retired=retired,
            emptied=emptied,
            taken_back=taken_back,
            kept_trash=sweeper.keep,
            why_not=why,
            trash=tuple(await self._trash.list()),
        )

    def _dated(self) -> bool:
        """Whether the clock by which trash is dated could be kept. One that is not may begin anew, and later."""
        try:
            self._context.time.keep()
        except NoSpace:
            return False
        return True

    async def _mark(self, epoch: int) -> Found:
        marker = Marker(self._context, epoch)
        self.meter.begin(MARKING, "snapshots")
        steps = marker.steps()
        while (size := await self._step(lambda: next(steps, None))) is not None:
            self.meter.at(marker.snapshots_done, total=marker.snapshots_total, references=marker.references)
            await self._throttle.take(size)
        found = await self._step(marker.found)
        now = format_time(self._context.clock.now())
        self._seen = Seen(time=now, chunks=found.plan.chunks, bytes=found.plan.bytes)
        return found

    async def _acknowledge(self, found: Found) -> None:
        """Missing chunks that somebody said he knows of are known from here on."""

        def note(address: Address) -> None:
            with contextlib.suppress(ChunkNotFound, CorruptChunk):
                self._context.store.get(address)

        for address, by in found.plan.missing.items():
            await self._context.pool.disk(note, address)
            self._log("warning", f"chunk {address.id.hex()} of {by} is missing; noted")

    async def _take_back(self, sweeper: Sweeper, found: Found) -> int:
        taken = 0
        if not len(found.wanted_again):
            return taken
        retired = sweeper.retired(found.wanted_again)
        while (done := await self._step(lambda: sweeper.take_back(retired))) is not None:
            taken += done.chunks
        if taken:
            text = f"{format_count(taken)} chunks in trash are referred to again and were taken back"
            self._log("warning", text)
            self._context.emit(
                EventSource.DATASTORE, Severity.WARNING, "gc.taken-back", f"{self._context.name}: {text}", chunks=taken
            )
        return taken

    async def _sweep(self, sweeper: Sweeper, found: Found) -> Retired:
        done = Retired()
        self.meter.begin(SWEEPING, "chunks", found.plan.chunks)
        candidates = sweeper.candidates(found.unmarked)
        while (some := await self._step(lambda: sweeper.sweep(candidates))) is not None:
            done += some
            if self._seen is not None:
                self._seen = self._seen.less(some.chunks + some.freed_chunks, some.bytes + some.freed_bytes)
            gone = done.chunks + done.freed_chunks
            self.meter.at(gone + done.spared, size=done.bytes + done.freed_bytes)
            await self._throttle.take((some.chunks + some.freed_chunks) * limits.GC_CHUNK_IO_BYTES)
        return done

    async def _empty_trash(self, *, everything: bool) -> Retired:
        """Trash whose grace has passed; all of it with `everything`."""
        self.meter.begin(EMPTYING, "chunks")
        freed = 0

        def step(some: Retired) -> None:
            nonlocal freed
            freed += some.freed_chunks
            self.meter.at(freed)

        if not everything:
            return await self._trash.expire(step)
        done = Retired()
        for trash in await self._trash.list():
            done += await self._trash.empty(trash.epoch, step)
        return done

    async def _step(self, work: Callable[[], T]) -> T:
        """One piece of work in the pool, once nobody holds us back."""
        if self.pause.on:
            self.meter.pause(paused=True)
            await self.pause.passed()
            self.meter.pause(paused=False)
        self._context.modes.require(Use.GC)
        return await self._context.pool.disk(work)

    # --- telling ---

    def _tell_plan(self, plan: Plan) -> None:
        self._log("info", f"{plan_text(plan)}")
        if plan.missing_known:
            self._log("warning", f"{format_count(plan.missing_known)} chunks are known to be missing; passed over")

    def _closed(self, **changes: str | int) -> RunRecord:
        return msgspec.structs.replace(self.now, ended=format_time(self._context.clock.now()), **changes)

    async def _note(self, record: GcRecord) -> None:
        noted = msgspec.structs.replace(record, seen=self._seen)
        with trio.CancelScope(shield=True), contextlib.suppress(IbsError):
            await self._context.pool.disk(records.write, self._context, noted)


def plan_text(plan: Plan) -> str:
    """In one line."""
    return (
        f"{format_count(plan.references)} references of {format_count(plan.snapshots)} snapshots read; "
        f"{format_count(plan.chunks)} of {format_count(plan.total_chunks)} chunks ({plan.share:.1%}, "
        f"{format_bytes(plan.bytes)}) are referred to by nothing"
    )


def _figures(outcome: Outcome) -> dict[str, str | int]:
    return {
        "phase": "",
        "result": "OK",
        "references": outcome.plan.references,
        "snapshots": outcome.plan.snapshots,
        "chunks": outcome.plan.chunks,
        "bytes": outcome.plan.bytes,
        "retired_chunks": outcome.retired.chunks,
        "retired_bytes": outcome.retired.bytes,
        "freed_chunks": outcome.freed_chunks,
        "freed_bytes": outcome.freed_bytes,
    }


def _ending(error: BaseException) -> dict[str, str | int]:
    if isinstance(error, trio.Cancelled):
        return {"result": "stopped"}
    result = "refused" if isinstance(error, RefusedError) else "failed"
    return {"result": result, "text": str(error)[: limits.MESSAGE_CHARS_MAX]}
