"""Restores one archive of one snapshot, from the signature to the last byte, and tells the server how it ended.

Imported by `cli` and by whoever restores in process. Nothing is written before manifest, index and target have been
checked. A restore that returns has done what was asked, or lists what it could not set (status WARNING); lost
data is an error that names chunk, file and snapshot, after everything else has been restored.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping

import trio

from ibs.client.dataplane import Line
from ibs.client.restore.chunks import TreeChunks
from ibs.client.restore.fetch import ChunkFetcher
from ibs.client.restore.gauge import Gauge
from ibs.client.restore.image import ImageRestore
from ibs.client.restore.offload import HelperOpener, worth_it
from ibs.client.restore.opener import LocalOpener
from ibs.client.restore.plan import ProgressSink, RestoreOutcome, RestorePlan, first_error
from ibs.client.restore.snapshot import OpenSnapshot, open_snapshot
from ibs.client.restore.tree import TreeRestore
from ibs.core import limits, limits_restore, names
from ibs.core.index import HEADER_BYTES, IndexHeader, check_records
from ibs.errors import IbsError, UsageError
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.ports.transport import RestoreTransport
from ibs.restore.image import ImageTarget, open_image
from ibs.restore.tree.folders import Overwrite
from ibs.restore.tree.marker import MARKER_NAME
from ibs.restore.tree.report import Reason, RestoreReport, Severity
from ibs.restore.tree.select import Selection
from ibs.restore.tree.target import Target, open_target
from ibs.wire.session import StageFigures

Entropy = Callable[[int], bytes]


async def run_restore(
    transport: RestoreTransport,
    plan: RestorePlan,
    *,
    pool: Pool,
    clock: Clock,
    progress: ProgressSink | None = None,
    entropy: Entropy = os.urandom,
    line: Callable[[], Line | None] | None = None,
) -> RestoreOutcome:
    """Restore what `plan` says. `line`: how a second process could reach the chunks; without it there is none.

    Raises UsageError, NotFoundError, SignatureInvalid, FingerprintMismatch, FormatError, ConflictError,
    DestinationNotWritable, CorruptChunk, ChunkNotFound (the last two with `report` in their details) and what the
    transport raises. *Cancellation*: what is complete stays, what is not is removed, the target is marked.
    *Durability*: files are handed to the kernel, not synced; a block device is.
    """
    check_plan(plan)
    snapshot = await open_snapshot(transport, plan.store, plan.snapshot, keys=plan.keys, last_seen=plan.last_seen)
    restore = _Restore(snapshot, plan, pool=pool, clock=clock, progress=progress, entropy=entropy, line=line)
    try:
        outcome = await restore.run()
    except BaseException as raised:
        error = first_error(raised)
        if isinstance(error, IbsError) and restore.left_behind:
            error.details["left_behind"] = restore.left_behind
            error.hint = f"{error.hint}; {restore.left_behind}" if error.hint else restore.left_behind
        await _close(transport, restore, error)
        if error is raised:
            raise
        raise error from None
    await transport.close(outcome.status, outcome.warnings, "", outcome.stages)
    return outcome


def check_plan(plan: RestorePlan) -> None:
    """Refuse what can be refused without asking the server. Raises UsageError."""
    names.SnapshotName.parse(plan.snapshot)
    kind = names.archive_kind(plan.archive)
    Selection(plan.patterns)
    if not plan.target:
        raise UsageError("the target is empty", hint="name a folder, a file, a device, or - for standard output")
    if kind == "tree" and plan.target == "-":
        raise UsageError(f"{plan.archive} cannot be written to standard output", hint="name a folder to restore into")
    if kind == "img" and plan.patterns:
        raise UsageError(f"{plan.archive} is an image: patterns select files of a tree", hint="leave --pattern out")


async def _close(transport: RestoreTransport, restore: _Restore, error: BaseException) -> None:
    """Tell the server; its own error must not hide the one that ended the restore."""
    with trio.move_on_after(limits.RESTORE_CLOSE_SECONDS, shield=True):
        try:
            await transport.close("FAILED", restore.warnings, restore.server_words(error), restore.stages())
        except IbsError:
            return


class _Restore:
    """What a tree and an image have in common."""

    def __init__(
        self,
        snapshot: OpenSnapshot,
        plan: RestorePlan,
        *,
        pool: Pool,
        clock: Clock,
        progress: ProgressSink | None,
        entropy: Entropy,
        line: Callable[[], Line | None] | None,
    ) -> None:
        self._snapshot = snapshot
        self._plan = plan
        self._pool = pool
        self._clock = clock
        self._entropy = entropy
        self._line = line
        self._report = RestoreReport()
        self.left_behind = ""
        """What a failed restore left in the target, for people."""
        self._gauge = Gauge(clock, progress)
        for warning in snapshot.warnings:
            self._report.add(Reason.SIGNATURE, b"manifest.json", warning)

    @property
    def warnings(self) -> int:
        return self._report.count(Severity.WARNING)

    def server_words(self, error: BaseException) -> str:
        """What the server may hear: no paths of an encrypted snapshot (PROTOCOLS 18)."""
        if not isinstance(error, IbsError):
            return "cancelled" if isinstance(error, trio.Cancelled) else type(error).__name__
        return error.code if self._snapshot.encrypted else error.message

    async def run(self) -> RestoreOutcome:
        header, index = await self._snapshot.index(self._plan.archive, self._pool)
        self._fetcher = self._make_fetcher(header)
        self._gauge.fetcher = self._fetcher
        if header.kind == "tree":
            await self._tree(header, index)
        else:
            await self._image(header, index)
        self._gauge.tell()
        if self._report.first_loss is not None:
            raise self._loss()
        return self._outcome(header.plain_bytes)

    def _make_fetcher(self, header: IndexHeader) -> ChunkFetcher:
        """With a second process where that is allowed and pays."""
        keys = self._plan.keys
        local = LocalOpener(
            self._snapshot.transport, self._pool, self._clock, domain=header.domain, keys=keys, entropy=self._entropy
        )
        line = self._line() if self._line is not None and not self._plan.patterns else None
        if line is None or not worth_it(header.plain_bytes):
            return ChunkFetcher(local, self._clock)
        return ChunkFetcher(
            HelperOpener(local, line, domain=header.domain, keys=keys),
            self._clock,
            window_bytes=limits_restore.HELPER_READAHEAD_BYTES,
            cache_bytes=limits_restore.HELPER_CACHE_BYTES,
        )

    async def _tree(self, header: IndexHeader, index: bytes) -> None:
        chunks = await self._pool.cpu(TreeChunks, header, index)
        selection = Selection(self._plan.patterns)
        self._gauge.total_bytes = header.plain_bytes if selection.everything else 0
        # Not all of a chunk need be in use, and what is replaced frees space: a lower bound must hold for all targets.
        whole = selection.everything and self._plan.overwrite is Overwrite.NEVER
        bytes_min = chunks.data_bytes * limits.RESTORE_LIVE_PERCENT_MIN // 100 if whole else 0
        target = await self._pool.disk(self._open_target, bytes_min)
        try:
            restore = TreeRestore(
                target=target,
                fetcher=self._fetcher,
                chunks=chunks,
                selection=selection,
                overwrite=self._plan.overwrite,
                report=self._report,
                pool=self._pool,
                gauge=self._gauge,
            )
        except BaseException:
            target.close()
            raise

        def clean_up(state: str, why: str) -> None:
            if not restore.clean_up(state, why):
                marker = os.path.join(self._plan.target, os.fsdecode(MARKER_NAME))
                self.left_behind = f"what is missing is listed in {marker}"

        await self._supervise(restore.run, clean_up)

    def _open_target(self, bytes_min: int) -> Target:
        return open_target(
            self._plan.target,
            snapshot=self._snapshot.manifest.snapshot,
            archive=self._plan.archive,
            nonce=self._entropy(8).hex(),
            started=names.format_time(self._clock.now()),
            bytes_min=bytes_min,
        )

    async def _image(self, header: IndexHeader, index: bytes) -> None:
        await self._pool.cpu(check_records, header, memoryview(index)[HEADER_BYTES:])
        self._gauge.total_bytes = header.plain_bytes
        target = await self._pool.disk(self._open_image, header.plain_bytes)

        def clean_up(_state: str, why: str) -> None:
            if not why and not self._report.count(Severity.LOST):
                target.finish()
            else:
                self.left_behind = target.abandon()

        try:
            restore = ImageRestore(
                header=header,
                index=index,
                target=target,
                fetcher=self._fetcher,
                report=self._report,
                pool=self._pool,
                gauge=self._gauge,
            )
        except BaseException:
            target.abandon()
            raise
        await self._supervise(restore.run, clean_up)

    def _open_image(self, size: int) -> ImageTarget:
        time = names.parse_time(self._snapshot.manifest.created)
        return open_image(
            self._plan.target,
            size=size,
            overwrite=self._plan.overwrite,
            archived_ns=int(time.timestamp()) * 1_000_000_000,
            output_fd=self._plan.output_fd,
            default_name=self._plan.archive,
        )

    async def _supervise(self, work: Callable[[], Awaitable[None]], clean_up: Callable[[str, str], None]) -> None:
        """Run `work` beside the fetcher, and `clean_up` after both, whatever happens."""
        try:
            async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the fetcher
                nursery.start_soon(self._fetcher.run)
                await work()
                nursery.cancel_scope.cancel()
        except BaseException as raised:
            error = first_error(raised)
            state = "cancelled" if isinstance(error, trio.Cancelled) else "failed"
            why = str(error) if isinstance(error, IbsError) else state
            await self._clean(clean_up, state, why)
            raise
        await self._clean(clean_up, "failed", "")

    async def _clean(self, clean_up: Callable[[str, str], None], state: str, why: str) -> None:
        with trio.move_on_after(limits.RESTORE_CLEANUP_SECONDS, shield=True):
            await self._pool.disk(clean_up, state, why)

    def _loss(self) -> IbsError:
        """The first error about lost data, in its place: what needed it, and how much else is lost."""
        assert self._report.first_loss is not None  # noqa: S101 - the caller looked
        error, path = self._report.first_loss
        plan, snapshot = self._plan, self._snapshot.manifest.snapshot
        lost = self._report.count(Severity.LOST)
        also = f"; {lost} places in all" if lost > 1 else ""
        error.message = f"{error.message} (needed by {path} of {plan.archive} in {snapshot}{also})"
        error.details.update(file=path, archive=plan.archive, snapshot=snapshot, lost=lost, report=self._report.view())
        return error

    def stages(self) -> Mapping[str, StageFigures]:
        """Where the time went so far."""
        return self._gauge.stages()

    def _outcome(self, plain_bytes: int) -> RestoreOutcome:
        snapshot, plan = self._snapshot, self._plan
        return RestoreOutcome(
            snapshot=snapshot.manifest.snapshot,
            archive=plan.archive,
            target=plan.target,
            status="WARNING" if self.warnings else "OK",
            warnings=self.warnings,
            signed_by=snapshot.signed_by,
            sequence=snapshot.manifest.sequence,
            manifest_digest=snapshot.manifest_digest,
            upid=snapshot.opened.upid,
            seconds=self._gauge.now() - self._gauge.began,
            plain_bytes=plain_bytes,
            stages=self._gauge.stages(),
            report=self._report.view(),
            lines=tuple(self._report.lines()),
        )
