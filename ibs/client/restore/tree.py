"""Restores a tree archive: entries become jobs, jobs lease chunks, threads write.

Imported by `client.restore.run`. Three kinds of tasks: the feeder reads entries, plans and leases in archive order; a
task for each job waits for its chunks and has them written; the linker makes hard links when everything before them is
done. What is held is bounded by the fetcher's window and by RESTORE_JOBS_MAX.
*Cancellation*: running thread jobs finish, temporary files are removed, the marker in the target says what is missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

import msgspec
import trio

from ibs.client.restore.chunks import TreeChunks
from ibs.client.restore.entries import TreeEntries
from ibs.client.restore.fetch import ChunkFetcher, Lease
from ibs.client.restore.gauge import Gauge
from ibs.client.restore.writers import Writers
from ibs.core import limits
from ibs.core.tree import Entry, Kind
from ibs.errors import NotFoundError
from ibs.ports.pool import Pool
from ibs.restore.tree.folders import FolderKeeper, Overwrite
from ibs.restore.tree.jobs import BatchJob, Item, Job, LinkJob, SpanJob, paths_of
from ibs.restore.tree.plan import TreePlanner
from ibs.restore.tree.report import Reason, RestoreReport, Severity
from ibs.restore.tree.safe_path import shown
from ibs.restore.tree.select import Selection
from ibs.restore.tree.target import Target
from ibs.restore.tree.writer import TreeWriter

_JOBS_AT_ONCE = 16
_LINK_JOBS_WAITING = 16
_NOT_THERE = (
    Reason.CORRUPT,
    Reason.MISSING,
    Reason.MALFORMED,
    Reason.NOT_CREATED,
    Reason.DEVICE,
    Reason.IN_THE_WAY,
    Reason.EXISTS,
)
"""Reasons for which an entry is not in the target as archived."""


class TreeRestore:
    """One restore of one tree archive into an opened target. Use once."""

    def __init__(
        self,
        *,
        target: Target,
        fetcher: ChunkFetcher,
        chunks: TreeChunks,
        selection: Selection,
        overwrite: Overwrite,
        report: RestoreReport,
        pool: Pool,
        gauge: Gauge,
    ) -> None:
        self._target = target
        self._fetcher = fetcher
        self._entries = TreeEntries(fetcher, chunks, pool)
        self._selection = selection
        self._report = report
        self._pool = pool
        self._gauge = gauge
        keeper = FolderKeeper(
            target.root,
            report,
            overwrite=overwrite,
            fresh=target.empty,
            resumed=target.resumed,
            stale_nonce=target.stale_nonce,
        )
        self._keeper = keeper
        self._writer = TreeWriter(keeper, nonce=target.nonce, selected=selection)
        self._planner = TreePlanner(keeper, self._writer, selection, chunks.lengths)
        self._slots = trio.Semaphore(limits.RESTORE_JOBS_MAX)
        self._writers = Writers(gauge.clock)
        self._outstanding: dict[int, Job] = {}
        self._taken: deque[Job] = deque()
        self._number = 0
        self._finished = trio.lowlevel.ParkingLot()
        self._planned_all = False

    async def run(self) -> None:
        """Restore everything selected. The fetcher must be running.

        Raises NotFoundError when nothing was selected, DestinationNotWritable, and what ends fetching. Data that could
        not be had is in the report, not raised.
        """
        send, receive = trio.open_memory_channel[tuple[int, LinkJob]](_LINK_JOBS_WAITING)
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the jobs
            nursery.start_soon(self._make_links, receive)
            async with send:
                await self._feed(nursery, send)
        self._planned_all = True
        for pattern in self._selection.unmatched():
            self._report.add(Reason.PATTERN, pattern.encode(errors="surrogateescape"))
        if not self._planner.selected:
            raise NotFoundError(
                f"nothing in the archive matches {', '.join(self._selection.patterns)}",
                hint="list what is there: ironcore-backup-client snapshot files SNAPSHOT ARCHIVE",
            )

    def clean_up(self, state: str, why: str) -> bool:
        """Blocking. Remove temporary files; then remove the marker, or make it say what is missing.

        `why` is "" after a run that ended by itself. The target is closed. Returns whether the marker is gone.
        """
        try:
            self._writer.abandon()
            lost = self._report.count(Severity.LOST)
            untouched = self._planned_all and not self._planner.selected and self._target.marker.earlier is None
            if untouched or (not why and not lost):
                self._target.marker.remove()
                self._keeper.complete()
                return True
            missing = [
                {"path": path, "reason": f"{problem.text}: {detail}" if detail else problem.text}
                for problem in self._report.problems()
                if problem.reason in _NOT_THERE
                for path, detail in problem.paths
            ]
            unfinished = [path for job in (*self._outstanding.values(), *self._taken) for path in paths_of(job)]
            unfinished += self._planner.waiting()
            missing += [{"path": shown(path), "reason": "not restored yet"} for path in unfinished]
            self._target.marker.incomplete(
                state=state,
                why=why or f"{lost} entries could not be restored",
                missing=missing,
                count=lost + len(unfinished),
                after="" if self._planned_all else shown(self._planner.last_path) or "/",
            )
            if self._planned_all:
                self._keeper.complete()
            return False
        finally:
            self._target.close()

    # --- feeding ---

    async def _feed(self, nursery: trio.Nursery, links: trio.MemorySendChannel[tuple[int, LinkJob]]) -> None:
        prefix = self._selection.common_folder()
        if not await self._begin_at(prefix):
            return
        cursor = self._entries.cursor(prefix=prefix or None)
        while batch := await cursor.take():
            await self._dispatch_all(nursery, links, self._planner.plan(batch))
        await self._dispatch_all(nursery, links, self._planner.finish())

    async def _begin_at(self, prefix: bytes) -> bool:
        """Hand the planner the folders above the part that is read; False when there is no such part."""
        if not prefix:
            return True
        names = prefix.split(b"/")
        ancestors: list[Entry] = []
        for depth in range(len(names) + 1):
            entry = await self._entries.find(b"/".join(names[:depth]))
            if entry is None:
                return False
            if depth < len(names):
                ancestors.append(entry)
        await self._pool.disk(self._planner.place_ancestors, ancestors)
        return True

    async def _dispatch_all(
        self, nursery: trio.Nursery, links: trio.MemorySendChannel[tuple[int, LinkJob]], jobs: Iterator[Job]
    ) -> None:
        more = True
        while more:
            self._taken.extend(await self._pool.disk(_take, jobs))
            more = len(self._taken) == _JOBS_AT_ONCE
            while self._taken:
                job = self._taken[0]
                number, self._number = self._number, self._number + 1
                self._outstanding[number] = job
                self._taken.popleft()
                if isinstance(job, LinkJob):
                    await links.send((number, job))
                    continue
                began = self._gauge.now()
                await self._slots.acquire()
                lease = await self._fetcher.lease(job.chunks)
                self._gauge.add("plan", wait=self._gauge.now() - began)
                nursery.start_soon(self._run_job, number, job, lease)

    # --- jobs ---

    async def _run_job(self, number: int, job: BatchJob | SpanJob, lease: Lease) -> None:
        try:
            await self._write(job, lease)
        finally:
            lease.release()
            self._slots.release()
        # Only now: a job that failed or was cancelled stays among the unfinished.
        del self._outstanding[number]
        self._finished.unpark_all()

    async def _write(self, job: BatchJob | SpanJob, lease: Lease) -> None:
        gauge = self._gauge
        began = gauge.now()
        chunks = await lease.ready()
        async with self._writers.limiter:
            started = gauge.now()
            if isinstance(job, SpanJob):
                await self._pool.disk(self._writer.run_span, job, chunks)
            else:
                await self._pool.disk(self._writer.run_batch, job, chunks)
            gauge.add("write", busy=gauge.now() - started, wait=started - began, size=job.data_bytes, items=1)
        self._writers.look()
        if isinstance(job, SpanJob):
            gauge.advance(size=job.data_bytes)
        else:
            gauge.advance(size=sum(item.entry.size for item in job.items), entries=len(job.items))

    # --- hard links ---

    async def _make_links(self, receive: trio.MemoryReceiveChannel[tuple[int, LinkJob]]) -> None:
        async for number, job in receive:
            while min(self._outstanding) < number:
                await self._finished.park()
            for item in await self._pool.disk(self._writer.run_links, job):
                await self._restore_copy(item)
            self._gauge.advance(entries=len(job.items))
            del self._outstanding[number]

    async def _restore_copy(self, item: Item) -> None:
        """A hard link whose first name is not there: its data under its own name, for further links to go to."""
        again = await self._pool.disk(self._writer.run_links, LinkJob([item]))
        if not again:
            return  # an earlier copy served
        entry = item.entry
        source = await self._entries.find(entry.link)
        if source is None or source.kind in (Kind.DIR, Kind.HARDLINK):
            self._report.add(Reason.MALFORMED, entry.path, f"it links to {shown(entry.link)}, which is no file")
            await self._pool.disk(self._keeper.done, item.folder)
            return
        copy = msgspec.structs.replace(source, path=entry.path)
        for job in await self._pool.disk(_all, self._planner.plan_copy(copy, item.folder)):
            lease = await self._fetcher.lease(job.chunks)
            try:
                await self._write(job, lease)
            finally:
                lease.release()
        if not self._keeper.is_lost(entry.path):
            self._report.add(Reason.LINK_COPIED, entry.path)
            self._writer.moved(entry.link, entry.path)


def _take(jobs: Iterator[Job]) -> list[Job]:
    return list(islice(jobs, _JOBS_AT_ONCE))


def _all(jobs: Iterator[BatchJob | SpanJob]) -> list[BatchJob | SpanJob]:
    return list(jobs)
