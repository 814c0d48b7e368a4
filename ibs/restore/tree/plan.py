"""Turns the stream of entries of an archive into jobs, making folders on the way.

Runs in a pool thread, one batch of entries at a time; `client.restore` runs the jobs. Invariants: entries are taken in
canonical order and never all held; a folder exists before a job for anything in it is given out; a job never needs
more than RESTORE_JOB_CHUNK_BYTES of chunks (one chunk may exceed that), so a bounded window always has room for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ibs.core import limits
from ibs.core.tree import Entry, Kind
from ibs.errors import FormatError
from ibs.restore.content import Piece, layout
from ibs.restore.tree.folders import FolderKeeper, State, TargetFolder
from ibs.restore.tree.jobs import BatchJob, BigFile, Item, Job, LinkJob, SpanJob, entry_bytes
from ibs.restore.tree.marker import MARKER_NAME
from ibs.restore.tree.report import Reason
from ibs.restore.tree.safe_path import shown
from ibs.restore.tree.select import Selection
from ibs.restore.tree.writer import TreeWriter, Verdict
from ibs.restore.trouble import destination_error, is_unusable, words

Lengths = Callable[[Sequence[bytes]], dict[bytes, int]]
"""Plain lengths of those chunks that the archive's index lists."""


class TreePlanner:
    """One restore of one tree archive. Not thread-safe: batches come one after the other."""

    def __init__(self, keeper: FolderKeeper, writer: TreeWriter, selection: Selection, lengths: Lengths) -> None:
        self._keeper = keeper
        self._writer = writer
        self._selection = selection
        self._lengths = lengths
        self._top: TargetFolder | None = None
        self._top_path = b""
        self._batch = BatchJob()
        self._links = LinkJob()
        self.last_path = b""
        """Everything up to here, in archive order, has been planned."""
        self.selected = 0

    def plan(self, entries: Sequence[Entry]) -> Iterator[Job]:
        """Jobs for a batch of entries, made while they are asked for. Raises DestinationNotWritable, FormatError."""
        lengths = self._lengths([extent.id for entry in entries for extent in entry.extents])
        for entry in entries:
            if self._top is None:
                self._begin(entry)
                if not entry.path:
                    continue
            folder = self._parent_of(entry)
            self.last_path = entry.path
            if folder is None:
                self._lose(entry, "its name is not valid, or its folder is not in the archive")
            elif entry.kind is Kind.DIR:
                self._enter(entry, folder)
            else:
                yield from self._plan_one(entry, folder, lengths)

    def finish(self) -> Iterator[Job]:
        """What is left when the archive is at its end; all folders are closed."""
        yield from self._flush()
        while self._top is not None:
            self._leave()

    def plan_copy(self, entry: Entry, folder: TargetFolder) -> Iterator[Job]:
        """Jobs for one entry in a folder that was held for it, outside the stream. May run beside `plan`."""
        planned = self._pieces(entry, self._lengths([extent.id for extent in entry.extents]))
        if planned is None:
            self._keeper.done(folder)
            return
        pieces, chunks = planned
        if _is_big(pieces, chunks):
            yield from self._spans(entry, folder, pieces, chunks)
        else:
            yield BatchJob([Item(entry, folder, pieces)], chunks, sum(piece.length for piece in pieces))

    # --- the way through the folders ---

    def _begin(self, entry: Entry) -> None:
        """The first entry: the archive's root, or one further down when only a part is read."""
        if not entry.path and entry.kind is not Kind.DIR:
            raise FormatError("the root of the archive is not a folder")
        root = entry if not entry.path else None
        if root is not None and self._selection.note(b""):
            self.selected += 1
        self._top = self._keeper.adopt_root(root, settle=self._selection.everything)

    def waiting(self) -> list[bytes]:
        """Paths that were planned and not handed out yet."""
        return [item.entry.path for item in (*self._batch.items, *self._links.items)]

    def place_ancestors(self, ancestors: Sequence[Entry]) -> None:
        """Start below the root: the entries of the root and of each folder on the way, in order."""
        for entry in ancestors:
            if self._top is None:
                self._begin(entry)
            else:
                folder = self._parent_of(entry)
                if folder is None or entry.kind is not Kind.DIR:
                    raise FormatError(f"{shown(entry.path)} is not a folder in the archive")
                self._enter(entry, folder)

    def _parent_of(self, entry: Entry) -> TargetFolder | None:
        """Leave folders until the one that holds `entry` is on top; None when the archive never had it."""
        parent = entry.path.rpartition(b"/")[0]
        while parent != self._top_path and self._top is not None and self._top.parent is not None:
            self._leave()
        name = entry.name
        # The way to the folder was checked name by name as it grew; what is new is the last name.
        valid = bool(name) and name not in (b".", b"..") and b"\0" not in name
        return self._top if valid and parent == self._top_path else None

    def _enter(self, entry: Entry, parent: TargetFolder) -> None:
        folder = TargetFolder(parent, entry.name, entry)
        if parent.state is State.BLOCKED:
            folder.state = State.BLOCKED
        self._top, self._top_path = folder, entry.path
        if self._selection.note(entry.path):
            self.selected += 1
            self._keeper.make(folder, settle=True)
        if folder.state is State.BLOCKED:
            self._keeper.mark_lost(entry.path)

    def _leave(self) -> None:
        folder = self._top
        assert folder is not None  # noqa: S101 - callers look first
        parent = folder.parent
        self._top_path = self._top_path[: -len(folder.name) - 1] if folder.depth > 1 else b""
        self._top = parent if isinstance(parent, TargetFolder) else None
        self._keeper.close(folder)

    # --- entries ---

    def _plan_one(self, entry: Entry, folder: TargetFolder, lengths: dict[bytes, int]) -> Iterator[Job]:
        if not self._selection.note(entry.path):
            return
        self.selected += 1
        if folder.state is not State.MADE and not self._keeper.make(folder, settle=False):
            self._keeper.mark_lost(entry.path)
            return
        if not folder.depth and entry.path == MARKER_NAME:
            self._lose(entry, "its name is reserved", Reason.NOT_CREATED)
            return
        if entry.incomplete:
            self._keeper.report.add(Reason.INCOMPLETE, entry.path)
        if entry.kind is Kind.HARDLINK:
            self._keeper.hold(folder)
            links = self._links
            links.items.append(Item(entry, folder, []))
            links.entry_bytes += entry_bytes(entry)
            if len(links.items) >= limits.RESTORE_JOB_ENTRIES or links.entry_bytes >= limits.RESTORE_ENTRIES_BYTES:
                yield from self._flush()
            return
        if not folder.fresh and not self._free(entry, folder):
            return
        planned = self._pieces(entry, lengths)
        if planned is None:
            return
        self._keeper.hold(folder)
        pieces, chunks = planned
        if _is_big(pieces, chunks):
            yield from self._spans(entry, folder, pieces, chunks)
        else:
            yield from self._into_batch(Item(entry, folder, pieces), chunks)

    def _into_batch(self, item: Item, chunks: dict[bytes, int]) -> Iterator[Job]:
        batch = self._batch
        data_bytes = sum(piece.length for piece in item.pieces)
        together = sum({**batch.chunks, **chunks}.values()) if chunks.keys() - batch.chunks.keys() else 0
        if batch.items and (
            len(batch.items) >= limits.RESTORE_JOB_ENTRIES
            or batch.entry_bytes >= limits.RESTORE_ENTRIES_BYTES
            or batch.data_bytes + data_bytes > limits.RESTORE_JOB_BYTES
            or together > limits.RESTORE_JOB_CHUNK_BYTES
        ):
            self._batch = BatchJob()
            yield batch
            batch = self._batch
        batch.items.append(item)
        batch.chunks.update(chunks)
        batch.data_bytes += data_bytes
        batch.entry_bytes += entry_bytes(item.entry)

    def _flush(self) -> Iterator[Job]:
        """Hand out what was collected; links after everything before them."""
        batch, self._batch = self._batch, BatchJob()
        links, self._links = self._links, LinkJob()
        if batch.items:
            yield batch
        if links.items:
            yield links

    def _spans(
        self, entry: Entry, folder: TargetFolder, pieces: list[Piece], lengths: dict[bytes, int]
    ) -> Iterator[SpanJob]:
        """Cut a big file into jobs; it is put in place by the last of them, or here when all were quicker."""
        file = BigFile(entry, folder)
        span: list[Piece] = []
        chunks: dict[bytes, int] = {}
        size = 0
        for piece in pieces:
            more = 0 if piece.id in chunks else lengths[piece.id]
            if span and (
                size + piece.length > limits.RESTORE_JOB_BYTES
                or sum(chunks.values()) + more > limits.RESTORE_JOB_CHUNK_BYTES
            ):
                with file.lock:
                    file.open_spans += 1
                yield SpanJob(file, span, chunks, size)
                span, chunks, size = [], {}, 0
            span.append(piece)
            chunks[piece.id] = lengths[piece.id]
            size += piece.length
        if span:
            with file.lock:
                file.open_spans += 1
            yield SpanJob(file, span, chunks, size)
        self._writer.span_done(file)

    def _pieces(self, entry: Entry, lengths: dict[bytes, int]) -> tuple[list[Piece], dict[bytes, int]] | None:
        """Where the data goes and the chunks it takes; None, and reported, when that cannot be."""
        if entry.kind is not Kind.FILE:
            return [], {}
        try:
            pieces = layout(entry)
            return pieces, {piece.id: lengths[piece.id] for piece in pieces}
        except FormatError as error:
            self._lose(entry, error.message)
        except KeyError:
            self._lose(entry, "it refers to a chunk that the index does not list")
        return None

    def _free(self, entry: Entry, folder: TargetFolder) -> bool:
        """Whether the entry may be made where something may be already: before any data is asked for."""
        try:
            with self._keeper.root.held(folder) as folder_fd:
                return self._writer.conflict(folder_fd, entry) is not Verdict.KEEP
        except OSError as error:
            if is_unusable(error):
                raise destination_error(self._keeper.root.shown, error, where=shown(entry.path)) from error
            self._lose(entry, words(error), Reason.NOT_CREATED)
            return False

    def _lose(self, entry: Entry, why: str, reason: Reason = Reason.MALFORMED) -> None:
        self._keeper.report.add(reason, entry.path, why)
        self._keeper.mark_lost(entry.path)


def _is_big(pieces: list[Piece], chunks: dict[bytes, int]) -> bool:
    """Whether a file is written by several jobs."""
    return (len(chunks) > 1 and sum(chunks.values()) > limits.RESTORE_JOB_CHUNK_BYTES) or sum(
        piece.length for piece in pieces
    ) > limits.RESTORE_JOB_BYTES
