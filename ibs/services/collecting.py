"""Garbage collection as tasks: told in plain words, shown as figures; and its state, for those who ask.

Used by the gc actor and by `ServerContext`. What is collected and why it is safe is the engine's business
(`engine.gc`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime

from ibs.core import limits
from ibs.core.names import format_time
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.gc.plan import Options
from ibs.engine.gc.progress import Progress
from ibs.engine.gc.record import RunRecord
from ibs.engine.gc.run import Outcome
from ibs.engine.task import Task
from ibs.errors import IbsError
from ibs.runtime.mailbox import Message
from ibs.units import format_bytes, format_count, format_duration
from ibs.wire.gc import GcRunView, GcStart, GcStatus, GcTrashView, GcUndo
from ibs.wire.session import StageFigures


@dataclass(frozen=True, slots=True)
class StartGc(Message[str]):
    """Queue a garbage collection; the answer is its UPID."""

    auth_id: str
    store: str
    request: GcStart


@dataclass(frozen=True, slots=True)
class UndoGc(Message[str]):
    """Queue an undo; the answer is its UPID."""

    auth_id: str
    store: str
    request: GcUndo


# --- work ---


async def collect(task: Task, datastore: Datastore, request: GcStart) -> str:
    """The task's work: one run. Raises what `GarbageCollector.run` does."""
    options = Options(
        dry_run=request.dry_run,
        reclaim_now=request.reclaim_now,
        empty_bin=request.empty_bin,
        accept_missing=request.accept_missing,
        share_percent=request.allow_share,
        io_limit=request.io_limit,
        by=task.auth_id,
        upid=task.upid,
    )
    teller = _Teller(task, datastore)
    outcome = await datastore.gc.run(options, task.log, teller.show)
    task.progress(done_bytes=outcome.freed_bytes + outcome.retired.bytes)
    done = summary(outcome)
    if outcome.dry_run:
        task.log("info", done)
    for line in await told(datastore, outcome):
        task.log("info", line)
    return done


async def undo(task: Task, datastore: Datastore, request: GcUndo) -> str:
    """The task's work: take chunks back out of the trash."""
    back = await datastore.gc.undo(everything=request.everything)
    task.progress(done_bytes=back.bytes)
    text = f"{_amount(back.chunks, back.bytes)} taken back out of the trash"
    task.log("info", f"{text}; what nothing refers to is garbage again at the next collection")
    return text


class _Teller:
    """Shows figures, and writes a line now and then for those who read the log."""

    def __init__(self, task: Task, datastore: Datastore) -> None:
        self._task = task
        self._clock = datastore.context.clock
        self._phase = ""
        self._said = self._clock.monotonic()

    def show(self, progress: Progress) -> None:
        """A change, about once a second."""
        self._task.waits_for("somebody resumes it" if progress.paused else "")
        figures = StageFigures(bytes=progress.bytes, items=progress.references or progress.done)
        self._task.progress(done_bytes=progress.bytes, stages={progress.phase: figures})
        now = self._clock.monotonic()
        if progress.phase != self._phase:
            self._phase = progress.phase
            self._task.log("info", f"{progress.phase} …")
        elif now - self._said >= limits.GC_LOG_SECONDS:
            self._task.log("info", progress_text(progress))
        else:
            return
        self._said = now


def progress_text(progress: Progress) -> str:
    """Such as `marking: 40 of 100 snapshots, 2.0/s, 30 s left`."""
    if progress.paused:
        return f"{progress.phase}: paused"
    of = f" of {format_count(progress.total)}" if progress.total else ""
    text = f"{progress.phase}: {format_count(progress.done)}{of} {progress.unit}".rstrip()
    if progress.references:
        text += f", {format_count(progress.references)} references"
    if progress.rate:
        text += f", {progress.rate:,.1f}/s"
    if progress.eta is not None:
        text += f", {format_duration(progress.eta)} left"
    return text


def summary(outcome: Outcome) -> str:
    """The task's message."""
    plan, retired = outcome.plan, outcome.retired
    if outcome.dry_run:
        return f"dry run: {_amount(plan.chunks, plan.bytes)} would go, {plan.share:.1%} of all chunks"
    text = f"{_amount(outcome.freed_chunks, outcome.freed_bytes)} freed now"
    if retired.chunks:
        text += f", {_amount(retired.chunks, retired.bytes)} moved to trash"
    return text


async def told(datastore: Datastore, outcome: Outcome) -> list[str]:
    """What was freed now, and what waits where and until when."""
    lines = []
    if not outcome.dry_run:
        why = f" ({outcome.why_not}, nothing went to trash)" if not outcome.kept_trash else ""
        lines.append(f"freed now: {_amount(outcome.freed_chunks, outcome.freed_bytes)}{why}")
        if outcome.retired.spared:
            lines.append(f"spared: {format_count(outcome.retired.spared)} chunks that backups came to use meanwhile")
    for trash in outcome.trash:
        until = datastore.gc.trash.until(trash)
        when = format_time(datastore.context.time.wall(until)) if until is not None else "a day after it is found"
        lines.append(f"in trash until {when}: {_amount(trash.chunks, trash.bytes)}")
    if outcome.trash:
        lines.append(
            f"to free it now: ironcore-backup gc start {datastore.name} --reclaim now; "
            f"to take it back: ironcore-backup gc undo {datastore.name}"
        )
    kept = len(datastore.sessions.interrupted_sessions)
    if kept:
        lines.append(
            f"kept for a day, so that they can go on: what {format_count(kept)} interrupted backups delivered; "
            f"to free it now: ironcore-backup datastore cleanup {datastore.name}"
        )
    count, until_text = await _bin(datastore)
    if count:
        when = f", the first until {until_text}" if until_text else ""
        lines.append(f"in the bin{when}: {format_count(count)} snapshots, whose chunks stay; see: bin list")
    waits = waits_for(datastore)
    if waits:
        lines.append(f"nothing leaves trash or bin by itself: {waits}")
    return lines


def _amount(chunks: int, size: int) -> str:
    return f"{format_count(chunks)} chunks, {format_bytes(size)}"


# --- state ---


def waits_for(datastore: Datastore) -> str:
    """Why nothing expires in a datastore; empty when it does."""
    return datastore.context.time.frozen or datastore.context.modes.reason


async def gc_status(datastores: Datastores, store: str = "") -> list[GcStatus]:
    """Of one datastore (raises NotFoundError, DatastoreOffline), or of all that are online."""
    if store:
        return [await _status(await datastores.get(store))]
    found = []
    for datastore in datastores.opened():
        with contextlib.suppress(IbsError):  # it went offline while we looked; `datastore list` says why
            found.append(await _status(datastore))
    return found


async def steer_gc(datastores: Datastores, store: str, *, pause: bool) -> GcStatus:
    """Pause or resume the run under way. Raises NotFoundError when there is none."""
    datastore = await datastores.get(store)
    if pause:
        datastore.gc.pause()
    else:
        datastore.gc.resume()
    return await _status(datastore)


async def _status(datastore: Datastore) -> GcStatus:
    progress, record = datastore.gc.progress, await datastore.gc.record()
    state = "idle" if record.running is None else "interrupted"
    if progress is not None:
        state = "paused" if datastore.gc.paused else "running"
    shown = progress or Progress(phase="")
    count, until = await _bin(datastore)
    time = datastore.context.time
    trash = []
    for one in await datastore.gc.trash.list():
        ends = datastore.gc.trash.until(one)
        since = format_time(time.wall(one.since)) if one.since is not None else ""
        until_text = format_time(time.wall(ends)) if ends is not None else ""
        trash.append(GcTrashView(epoch=one.epoch, since=since, until=until_text, chunks=one.chunks, bytes=one.bytes))
    return GcStatus(
        store=datastore.name,
        state=state,
        phase=shown.phase,
        unit=shown.unit,
        done=shown.done,
        total=shown.total,
        rate=round(shown.rate, 3),
        eta_seconds=round(shown.eta, 1) if shown.eta is not None else None,
        references=shown.references,
        running=_run_view(record.running),
        last=_run_view(record.last),
        trash=trash,
        bin_snapshots=count,
        bin_until=until,
        waits=waits_for(datastore),
    )


async def _bin(datastore: Datastore) -> tuple[int, str]:
    """How many snapshots are in the bin, and when the first goes."""
    entries = await datastore.bin.entries()
    due: list[datetime] = [moment for entry in entries if (moment := datastore.bin.due(entry)) is not None]
    return len(entries), format_time(min(due)) if due else ""


def _run_view(run: RunRecord | None) -> GcRunView | None:
    if run is None:
        return None
    return GcRunView(
        upid=run.upid,
        by=run.by,
        started=run.started,
        ended=run.ended,
        result=run.result,
        text=run.text,
        snapshots=run.snapshots,
        references=run.references,
        chunks=run.chunks,
        bytes=run.bytes,
        retired_chunks=run.retired_chunks,
        retired_bytes=run.retired_bytes,
        freed_chunks=run.freed_chunks,
        freed_bytes=run.freed_bytes,
    )
