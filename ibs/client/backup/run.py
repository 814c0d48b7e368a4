"""One backup from plan to committed snapshot: the use case behind `ironcore-backup-client backup` and `backup run`.

Importable by `cli` and `services`. Order: sources are looked at before anything is opened on the server; archives are
backed up one after the other; the commit comes last and is the only thing that makes a snapshot. Whatever fails
before it aborts the session; what was delivered by then need not be sent again by the next attempt.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from ibs.client.backup.base import BaseIndex
from ibs.client.backup.buffers import SegmentPool
from ibs.client.backup.changed import Unchanged, unchanged_chunks, why_not
from ibs.client.backup.encode import TimedEncoder
from ibs.client.backup.figures import Figures, Notebook
from ibs.client.backup.imagejob import back_up_image
from ibs.client.backup.known import Ledger
from ibs.client.backup.pipeline import Engine
from ibs.client.backup.plan import BackupOutcome, BackupPlan
from ibs.client.backup.reporter import ProgressCall, Reporter
from ibs.client.backup.treejob import back_up_tree
from ibs.core import index, limits
from ibs.core import manifest as manifests
from ibs.core.ids import ID_BYTES, digest, hex_fingerprint
from ibs.core.index import IdLookup
from ibs.core.manifest import Manifest, ManifestArchive, ManifestBlob
from ibs.core.masterkey import WRAPPED_BLOB
from ibs.core.names import archive_kind, format_time
from ibs.errors import (
    FailedError,
    FormatError,
    IbsError,
    NoSpace,
    RefusedError,
    SessionLost,
    SourceUnreadable,
    UsageError,
)
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.ports.transport import BackupTransport
from ibs.runtime.throttle import Throttle
from ibs.sources.changes import ChangeMap, read_maps
from ibs.sources.image import ImageSource
from ibs.sources.notes import Note, reason, shown
from ibs.sources.tree.content import FileAccess
from ibs.units import format_bytes
from ibs.wire.session import CommitRequest, CommitResult, SessionOpen, SessionOpened, StageReport

LOG_BLOB = manifests.CLIENT_LOG


@dataclass(frozen=True)
class Source:
    """A source that was found to be there. `image` is opened for images, None for trees; `changes`: its map."""

    archive: str
    path: bytes
    image: ImageSource | None = None
    changes: ChangeMap | None = None


async def run_backup(
    transport: BackupTransport,
    plan: BackupPlan,
    *,
    pool: Pool,
    clock: Clock,
    progress: ProgressCall | None = None,
    files: FileAccess | None = None,
) -> BackupOutcome:
    """Make one snapshot. `progress` is called in the trio thread a few times a second; `clock` must suit threads.

    Raises errors of `ibs.errors` only. *Cancellation*: at any time; threads finish their turn, the session is aborted.
    *Durability*: the snapshot is durable when this returns.
    """
    sources = await pool.disk(find_sources, plan)
    figures = Figures()
    notebook = Notebook(figures)
    segments = SegmentPool(limits.BACKUP_SEGMENTS, limits.BACKUP_SEGMENT_BYTES)
    engine = Engine(
        transport,
        pool,
        clock,
        figures,
        Ledger(),
        segments,
        plan.cipher,
        plan.level,
        files=files or FileAccess(),
        throttle=Throttle(clock, plan.bandwidth) if plan.bandwidth else None,
    )
    run = _Run(engine, plan, notebook, progress)
    try:
        return await run.whole(sources)
    except (BaseExceptionGroup, OSError) as error:
        cause = _cause(error)
        if cause is error:
            raise
        raise cause from error
    finally:
        for source in sources:
            if source.image is not None:
                source.image.close()


def find_sources(plan: BackupPlan) -> list[Source]:
    """Look at every source before a session is opened. Raises UsageError, SourceUnreadable."""
    found: list[Source] = []
    maps = read_maps(plan.changes.maps, plan.changes.form) if plan.changes is not None else {}
    try:
        for archive, text in plan.sources:
            path = os.fsencode(text)
            if archive_kind(archive) == index.IMAGE:
                changes = maps.get(archive)
                image = ImageSource(path)
                found.append(Source(archive, path, image, changes))
                if changes is not None:
                    changes.unchanged(image.size, limits.IMAGE_CHUNK_BYTES)  # told now, before a session is opened
                continue
            try:
                folder = stat.S_ISDIR(os.stat(path).st_mode)
            except OSError as error:
                raise SourceUnreadable(
                    f"source {shown(path)} cannot be read: {reason(error)}", hint="check the path and your permissions"
                ) from error
            if not folder:
                raise UsageError(
                    f"source {shown(path)} is not a folder", hint="back up a single file or device as NAME.img"
                )
            found.append(Source(archive, path))
    except BaseException:
        for source in found:
            if source.image is not None:
                source.image.close()
        raise
    return found


class _Run:
    """State of one `run_backup`."""

    def __init__(self, engine: Engine, plan: BackupPlan, notebook: Notebook, progress: ProgressCall | None) -> None:
        self._engine = engine
        self._plan = plan
        self._notebook = notebook
        self._fingerprint = hex_fingerprint(plan.keys.fingerprint) if plan.keys is not None else ""
        self._reporter = Reporter(
            engine.transport,
            engine.clock,
            engine.figures,
            notebook,
            private=plan.cipher is not None,
            progress=progress,
        )
        self._began = engine.clock.monotonic()
        self._took_over = False
        self._remarks: list[str] = []

    async def whole(self, sources: Sequence[Source]) -> BackupOutcome:
        plan, transport = self._plan, self._engine.transport
        opened = await transport.open(
            SessionOpen(
                store=plan.store,
                group=plan.group,
                namespace=plan.namespace,
                archives=[source.archive for source in sources],
                key_fingerprint="" if plan.sign_only else self._fingerprint,
                signing_key=self._fingerprint if plan.sign_only else "",
                client_version=plan.client,
            )
        )
        try:
            self._check_previous(opened)
            return await self._session(opened, sources)
        except BaseException as error:
            await self._abort(error)
            raise

    def _check_previous(self, opened: SessionOpened) -> None:
        """What was encrypted until now is not sent in clear by accident. Raises RefusedError."""
        if opened.previous_key and self._plan.cipher is None and not self._plan.in_clear:
            raise RefusedError(
                f"the newest snapshot of {self._plan.group} is encrypted with key {opened.previous_key}, "
                "and this backup would not be",
                hint="give the keyfile (--keyfile, IBS_KEYFILE), or --no-encryption if it shall be readable now",
            )

    async def _session(self, opened: SessionOpened, sources: Sequence[Source]) -> BackupOutcome:
        archives: list[ManifestArchive] = []
        async with trio.open_nursery() as nursery:  # noqa: TID251 - the reporter lives as long as the session
            nursery.start_soon(self._reporter.run)
            if opened.resumed_chunks:
                resumed = await self._engine.transport.resumed_ids()
                self._engine.ledger.add_known(await self._engine.pool.cpu(_lookup, resumed))
            bases = await self._bases(opened)
            self._estimate(sources, bases)
            for source in sources:
                self._engine.figures.begin(source.archive)
                archives.append(await self._archive(source, bases.pop(source.archive, None), opened))
            self._engine.figures.end()
            self._summary()
            blobs = [*await self._wrapped_blob(), *await self._log_blob()]
            last = await self._reporter.stop()
        result = await self._commit(opened, archives, blobs, last)
        return self._outcome(opened, archives, result)

    async def _bases(self, opened: SessionOpened) -> dict[str, BaseIndex]:
        """Indexes of the previous snapshot; one that is not sound is left alone, which only costs reading."""
        engine = self._engine
        found: dict[str, BaseIndex] = {}
        for offered in opened.bases:
            content = await engine.transport.base_index(offered.archive)
            if offered.complete:
                bitmap = b"\xff" * -(-offered.records // 8)
            else:
                bitmap = await engine.transport.base_available(offered.archive)
            try:
                base = await engine.pool.cpu(lambda c=content, b=bitmap: BaseIndex(c, b, domain=engine.domain))
            except FormatError as error:
                self._notebook.note(Note("info", f"the previous index of {offered.archive} is not used: {error}"))
                continue
            found[offered.archive] = base
            engine.ledger.add_known(base.usable)
        return found

    def _estimate(self, sources: Sequence[Source], bases: dict[str, BaseIndex]) -> None:
        """How much there will be, where every source has a size or had one last time."""
        total = 0
        for source in sources:
            base = bases.get(source.archive)
            if source.image is not None:
                total += source.image.size
            elif base is not None:
                total += base.header.plain_bytes
            else:
                return
        self._engine.figures.total_bytes = total

    async def _archive(self, source: Source, base: BaseIndex | None, opened: SessionOpened) -> ManifestArchive:
        take_over = not self._plan.reread and not self._reread_is_due(opened)
        if source.image is not None:
            unchanged = await self._unchanged(source, source.image.size, base, opened, take_over=take_over)
            return await back_up_image(
                self._engine, source.archive, source.image, note=self._notebook.note, unchanged=unchanged
            )
        if base is not None:
            if take_over:
                self._took_over = True
            else:
                self._notebook.note(Note("info", f"{source.archive}: all files are read, changed or not"))
        return await back_up_tree(
            self._engine,
            source.archive,
            source.path,
            excludes=self._plan.excludes,
            all_file_systems=self._plan.all_file_systems,
            base=base,
            take_over=take_over,
            run=opened.base_run + 1,
            note=self._notebook.note,
        )

    def _reread_is_due(self, opened: SessionOpened) -> bool:
        every = self._plan.reread_every
        return bool(every) and opened.base_run + 1 >= every

    async def _unchanged(
        self, source: Source, size: int, base: BaseIndex | None, opened: SessionOpened, *, take_over: bool
    ) -> Unchanged | None:
        """What the map of changes makes unnecessary to read; where it is not used, that is told with the reason."""
        changes, found = self._plan.changes, source.changes
        if changes is None or found is None:
            return None
        offered = next((one for one in opened.bases if one.archive == source.archive), None)
        reason = why_not(changes, opened, offered, base, size)
        if not reason and not take_over:
            reason = "it is time to read everything"
        if reason or base is None or offered is None:
            self._remark(f"{source.archive}: the map of changes is not used, the whole image is read: {reason}")
            return None
        unchanged = await self._engine.pool.cpu(
            lambda: unchanged_chunks(
                found,
                base,
                size,
                snapshot=offered.snapshot,
                seed=f"{opened.snapshot} {source.archive}",
                percent=changes.percent,
            )
        )
        self._took_over = True
        self._remark(
            f"{source.archive}: {int(unchanged.taken.sum())} of {len(unchanged.same)} chunks are taken from "
            f"{offered.snapshot} unread, {int(unchanged.sampled.sum())} more are read and compared"
        )
        return unchanged

    def _remark(self, text: str) -> None:
        """A line for the log that whoever started the backup should see at once."""
        self._remarks.append(text)
        self._notebook.note(Note("info", text))

    def _summary(self) -> None:
        figures, note = self._engine.figures, self._notebook.note
        if figures.files_healed:
            note(Note("info", f"{figures.files_healed} files were read again to replace lost or damaged chunks"))
        if figures.files_repacked:
            self._remark(
                f"{figures.files_repacked} unchanged files ({format_bytes(figures.bytes_repacked)}) were read and "
                f"packed anew, out of {figures.chunks_repacked} chunks that were hardly used any more"
            )
        if self._notebook.dropped:
            note(Note("info", f"{self._notebook.dropped} further lines were not kept"))

    async def _wrapped_blob(self) -> list[ManifestBlob]:
        """Put the wrapped key beside the archives, so that every snapshot can be opened by the master key's owner."""
        content = self._plan.wrapped_key
        if not content:
            return []
        await self._engine.transport.put_blob(WRAPPED_BLOB, content)
        return [ManifestBlob(name=WRAPPED_BLOB, bytes=len(content), digest=digest(content).hex())]

    async def _log_blob(self) -> list[ManifestBlob]:
        """Put the full lines beside the archives, encrypted where the archives are."""
        lines = [f"{note.level}: {note.line}" for note in self._notebook.kept]
        if not lines:
            return []
        content = "\n".join([*lines, ""]).encode()[: limits.CHUNK_PLAIN_BYTES_MAX]
        if self._plan.cipher is not None:
            encoder = TimedEncoder(
                level=self._plan.level, keys=self._plan.cipher, monotonic=self._engine.clock.monotonic
            )
            content = bytes(await self._engine.pool.cpu(encoder.encode, content, encoder.identify(content)))
        await self._engine.transport.put_blob(LOG_BLOB, content)
        return [ManifestBlob(name=LOG_BLOB, bytes=len(content), digest=digest(content).hex())]

    async def _commit(
        self,
        opened: SessionOpened,
        archives: Sequence[ManifestArchive],
        blobs: Sequence[ManifestBlob],
        last: StageReport,
    ) -> CommitResult:
        plan, figures = self._plan, self._engine.figures
        manifest = Manifest(
            datastore=opened.datastore_uuid,
            snapshot=opened.snapshot,
            sequence=opened.sequence,
            previous=opened.previous_manifest_digest,
            created=format_time(self._engine.clock.now()),
            client=plan.client,
            owner=plan.owner or opened.auth_id,
            mode="plain" if plan.keys is None else "signed" if plan.sign_only else "encrypted",
            key_fingerprint=self._fingerprint,
            archives=tuple(archives),
            blobs=tuple(blobs),
            stats={
                "entries": figures.entries,
                "files": figures.files,
                "files_read": figures.files_read,
                "files_reused": figures.files_reused,
                "files_repacked": figures.files_repacked,
                "bytes_repacked": figures.bytes_repacked,
                "chunks_repacked": figures.chunks_repacked,
                "bytes_read": figures.bytes_read,
                "bytes_sent": figures.bytes_sent,
                "chunks": figures.chunks,
                "chunks_sent": figures.chunks_sent,
                "milliseconds": int(1000 * (self._engine.clock.monotonic() - self._began)),
            },
            warnings=self._notebook.warnings,
            run=opened.base_run + 1 if self._took_over else 0,
        )
        raw = manifests.encode(manifest)
        signature = manifests.sign(raw, plan.keys.signing_seed, "client").signature if plan.keys is not None else ""
        return await self._engine.transport.commit(
            CommitRequest(manifest=raw.decode(), signature=signature, warnings=self._notebook.warnings, report=last)
        )

    def _outcome(
        self, opened: SessionOpened, archives: Sequence[ManifestArchive], result: CommitResult
    ) -> BackupOutcome:
        figures = self._engine.figures
        return BackupOutcome(
            snapshot=result.snapshot,
            status="WARNING" if self._notebook.warnings else result.status,
            warnings=self._notebook.warnings,
            upid=opened.upid,
            manifest_digest=result.manifest_digest,
            entries=figures.entries,
            files=figures.files,
            files_read=figures.files_read,
            files_reused=figures.files_reused,
            files_healed=figures.files_healed,
            files_repacked=figures.files_repacked,
            bytes_repacked=figures.bytes_repacked,
            chunks_repacked=figures.chunks_repacked,
            bytes_seen=figures.bytes_seen,
            bytes_read=figures.bytes_read,
            bytes_reused=figures.bytes_reused,
            bytes_sent=figures.bytes_sent,
            chunks_sent=figures.chunks_sent,
            new_chunks=result.new_chunks,
            new_bytes=result.new_bytes,
            seconds=self._engine.clock.monotonic() - self._began,
            archives=tuple(archives),
            stages=figures.wire(),
            lines=self._notebook.warning_lines(),
            remarks=tuple(self._remarks),
        )

    async def _abort(self, error: BaseException) -> None:
        """Tell the server; what it says to that no longer matters."""
        cause = _cause(error)
        if isinstance(cause, SessionLost):
            return
        text = str(cause) if isinstance(cause, IbsError) else "cancelled" if _cancelled(cause) else "client failed"
        with trio.move_on_after(limits.BACKUP_ABORT_SECONDS, shield=True):
            give_up = self._engine.transport.abort
            if isinstance(cause, NoSpace) and self._plan.discard_if_full:
                give_up = self._engine.transport.discard
            try:
                await give_up(self._safe(text))
            except IbsError:
                return

    def _safe(self, text: str) -> str:
        """A reason fit for the server's log; with a key it must not carry names from the source."""
        return text if self._plan.cipher is None else "the client gave up; see its own output"


def _lookup(ids: bytes) -> IdLookup:
    """Raises FormatError when the last id is cut short."""
    if len(ids) % ID_BYTES:
        raise FormatError(f"{len(ids)} bytes are not a whole number of ids")
    return IdLookup(index.record_ids(ids, index.IMAGE_RECORD_BYTES))


def _cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_cancelled(one) for one in error.exceptions)
    return isinstance(error, trio.Cancelled | KeyboardInterrupt)


def _cause(error: BaseException) -> BaseException:
    """The failure that made the others: the first of ours, else the first that is no cancellation, else all of it."""
    leaves: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseExceptionGroup):
            waiting[:0] = one.exceptions
        else:
            leaves.append(one)
    for leaf in leaves:
        if isinstance(leaf, IbsError):
            return leaf
    for leaf in leaves:
        if isinstance(leaf, OSError):
            return FailedError(f"the backup failed on this host: {leaf}", hint="see the cause; then start it again")
        if isinstance(leaf, Exception):
            return leaf
    return error
