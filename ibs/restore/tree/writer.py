"""Makes entries in the target: content under a temporary name, metadata, then one rename into place.

Runs in pool threads, several at once; `plan` decides what and `folders` where. Invariants: nothing half written ever
has its final name; nothing is written through a link; something that exists is replaced only where the overwrite rule
says so; an error about one entry is reported and the next one goes on, an error about the target ends the restore as
DestinationNotWritable.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from enum import Enum
from typing import Final

from ibs.core.tree import Entry, Kind
from ibs.errors import ChunkNotFound, CorruptChunk, FormatError, IbsError
from ibs.restore.content import Chunks, resolve, write_pieces
from ibs.restore.tree.folders import TEMP_PREFIX, FolderKeeper, Overwrite, TargetFolder, may_replace, same_kind
from ibs.restore.tree.jobs import BatchJob, BigFile, Item, LinkJob, SpanJob
from ibs.restore.tree.report import Reason
from ibs.restore.tree.safe_path import check_path, rename_exclusive, shown
from ibs.restore.trouble import destination_error, is_unusable, words

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NODE_MODES: Final[Mapping[Kind, int]] = {
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
}
_FORESEEN: Final = (OSError, OverflowError, ValueError, IbsError)
_DEVICES: Final = (Kind.CHAR, Kind.BLOCK)


class Verdict(Enum):
    """What an entry's final name holds before it is made."""

    FREE = "free"
    REPLACE = "replace"
    KEEP = "keep"


class TreeWriter:
    """Runs jobs. Thread-safe. `nonce` makes temporary names unguessable and recognisable after a crash."""

    def __init__(self, keeper: FolderKeeper, *, nonce: str, selected: Callable[[bytes], bool] = lambda _: True) -> None:
        self.keeper = keeper
        self._root = keeper.root
        self._report = keeper.report
        self._prefix = TEMP_PREFIX + nonce.encode() + b"-"
        self._numbers = itertools.count()
        self._selected = selected
        self._moved: dict[bytes, bytes] = {}
        self._big: set[BigFile] = set()

    # --- the jobs ---

    def run_batch(self, job: BatchJob, chunks: Chunks) -> None:
        """Make every entry of the job. Raises DestinationNotWritable."""
        # Neighbours mostly share their folder: it is kept open from one to the next.
        held: TargetFolder | None = None
        folder_fd = -1
        try:
            for item in job.items:
                try:
                    if item.folder is not held:
                        if held is not None:
                            self._root.release(held)
                            held = None
                        folder_fd = self._root.acquire(item.folder)
                        held = item.folder
                    self._make(item, folder_fd, chunks)
                except _FORESEEN as error:
                    self._note(error, item.entry, None)
                self.keeper.done(item.folder)
        finally:
            if held is not None:
                self._root.release(held)

    def run_span(self, job: SpanJob, chunks: Chunks) -> None:
        """Write a span of a big file; the last span puts it in place. Raises DestinationNotWritable."""
        file = job.file
        written = False
        try:
            if not file.failed:
                parts = resolve(job.pieces, chunks, file.entry.path)
                self._open_big(file)
                size = write_pieces(file.fd, parts, sparse=_is_sparse(file.entry))
                self._report.made(size=size)
                written = True
        except _FORESEEN as error:
            self._note(error, file.entry, file)
        finally:
            if not written:
                file.failed = True  # whatever it was: a file that lacks a span never gets its name
            self.span_done(file)

    def span_done(self, file: BigFile) -> None:
        """One span less to come (the planner calls it when it has made the last one)."""
        with file.lock:
            file.open_spans -= 1
            last = file.open_spans == 0
        if not last:
            return
        if not file.failed:
            try:
                self._finish_big(file)
            except _FORESEEN as error:
                self._note(error, file.entry, file)
        self._drop_big(file)
        self.keeper.done(file.folder)

    def run_links(self, job: LinkJob) -> list[Item]:
        """Make hard links; return those that need their own copy of the data, still held in their folders.

        That is so when their first name was not asked for, was not restored, or cannot be linked to.
        """
        unresolved = []
        for item in job.items:
            try:
                if not self._link(item):
                    unresolved.append(item)
                    continue
            except _FORESEEN as error:
                self._note(error, item.entry, None)
            self.keeper.done(item.folder)
        return unresolved

    def moved(self, link: bytes, path: bytes) -> None:
        """Further links to `link` go to `path`, where its data was restored instead."""
        self._moved[link] = path

    def abandon(self) -> None:
        """Remove what is unfinished. No other thread may be writing."""
        for file in list(self._big):
            self._drop_big(file)

    def conflict(self, folder_fd: int, entry: Entry) -> Verdict:
        """Look at the entry's final name and apply the overwrite rule; what is kept is reported. Raises OSError."""
        try:
            found = os.stat(entry.name, dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return Verdict.FREE
        overwrite = self.keeper.overwrite
        if may_replace(overwrite, entry, found):
            return Verdict.REPLACE
        alike = same_kind(entry, found)
        if overwrite is Overwrite.IF_NEWER:
            reason = Reason.NEWER
        elif not alike:
            reason = Reason.IN_THE_WAY
        elif found.st_mtime_ns == entry.mtime_ns and (entry.kind is not Kind.FILE or found.st_size == entry.size):
            reason = Reason.UNCHANGED
        else:
            reason = Reason.EXISTS
        self._report.add(reason, entry.path)
        if reason is not Reason.UNCHANGED or not self.keeper.resumed:
            self.keeper.mark_lost(entry.path)
        return Verdict.KEEP

    # --- one entry ---

    def _make(self, item: Item, folder_fd: int, chunks: Chunks) -> None:
        entry = item.entry
        parts = resolve(item.pieces, chunks, entry.path) if item.pieces else []
        temp = self._temp()
        if entry.kind is Kind.FILE:
            size = self._write_file(folder_fd, temp, entry, item.folder, parts)
            if self._place(folder_fd, temp, entry):
                self._report.made(files=1, size=size)
            return
        self._make_node(folder_fd, temp, entry)
        if self._place(folder_fd, temp, entry):
            link = entry.kind is Kind.SYMLINK
            self._report.made(symlinks=int(link), special=int(not link))

    def _write_file(
        self, folder_fd: int, temp: bytes, entry: Entry, folder: TargetFolder, parts: Iterable[tuple[int, memoryview]]
    ) -> int:
        """The whole file under its temporary name; gone again when anything fails."""
        # Nobody else can enter a folder of this restore before it is finished, so a file there may have its mode from
        # the start; whatever the umask takes off is set with the other metadata, as set-id bits always are.
        secluded = folder.fresh and folder.parent is not None
        mode = entry.mode & 0o777 | 0o600 if secluded else 0o600
        fd = os.open(temp, _CREATE, mode, dir_fd=folder_fd)
        try:
            if not folder.fresh:
                self.keeper.metadata.strip_acls(fd)
            sparse = _is_sparse(entry)
            size = write_pieces(fd, parts, sparse=sparse)
            if sparse:
                os.ftruncate(fd, entry.size)
            self.keeper.metadata.to_descriptor(fd, entry, entry.path)
        except BaseException:
            _unlink(temp, folder_fd)
            raise
        finally:
            os.close(fd)
        return size

    def _make_node(self, folder_fd: int, temp: bytes, entry: Entry) -> None:
        """A symbolic link, device, fifo or socket under its temporary name, with all its metadata."""
        if entry.kind is Kind.SYMLINK:
            os.symlink(entry.link, temp, dir_fd=folder_fd)
        else:
            device = os.makedev(entry.rdev >> 32, entry.rdev & 0xFFFF_FFFF) if entry.kind in _DEVICES else 0
            os.mknod(temp, _NODE_MODES[entry.kind], device, dir_fd=folder_fd)
        try:
            fd = os.open(temp, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
            try:
                found = os.fstat(fd)
                if not same_kind(entry, found) or found.st_nlink != 1:
                    raise OSError(errno.ESTALE, "")  # somebody put another file in its place
                self.keeper.metadata.to_node(fd, entry, entry.path)
            finally:
                os.close(fd)
        except BaseException:
            _unlink(temp, folder_fd)
            raise

    def _place(self, folder_fd: int, temp: bytes, entry: Entry) -> bool:
        """Give a finished entry its final name, or remove it where something else is to be kept."""
        name = entry.name
        try:
            try:
                rename_exclusive(folder_fd, temp, name)
            except FileExistsError:
                verdict = self.conflict(folder_fd, entry)
                if verdict is Verdict.KEEP:
                    _unlink(temp, folder_fd)
                    return False
                self._replace(folder_fd, temp, name)
        except BaseException:
            _unlink(temp, folder_fd)
            raise
        return True

    def _replace(self, folder_fd: int, temp: bytes, name: bytes) -> None:
        """Put `temp` in the place of what is there; only an empty folder gives way."""
        try:
            os.rename(temp, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=folder_fd)
            os.rename(temp, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        # Between two names of one inode rename does nothing, and says so to nobody.
        _unlink(temp, folder_fd)

    # --- big files ---

    def _open_big(self, file: BigFile) -> None:
        """Create the temporary file, once."""
        with file.lock:
            if file.fd >= 0:
                return
            temp = self._temp()
            with self._root.held(file.folder) as folder_fd:
                fd = os.open(temp, _CREATE, 0o600, dir_fd=folder_fd)
            if not file.folder.fresh:
                self.keeper.metadata.strip_acls(fd)
            file.temp, file.fd = temp, fd
            self._big.add(file)

    def _finish_big(self, file: BigFile) -> None:
        self._open_big(file)
        if _is_sparse(file.entry):
            os.ftruncate(file.fd, file.entry.size)
        self.keeper.metadata.to_descriptor(file.fd, file.entry, file.entry.path)
        with self._root.held(file.folder) as folder_fd:
            temp, file.temp = file.temp, b""
            if self._place(folder_fd, temp, file.entry):
                self._report.made(files=1)

    def _drop_big(self, file: BigFile) -> None:
        """Close, and remove what did not get its final name."""
        self._big.discard(file)
        with file.lock:
            fd, file.fd = file.fd, -1
            temp, file.temp = file.temp, b""
        if fd >= 0:
            os.close(fd)
        if temp:
            with suppress(OSError), self._root.held(file.folder) as folder_fd:
                _unlink(temp, folder_fd)

    # --- hard links ---

    def _link(self, item: Item) -> bool:
        """Link to the first name of the inode. False when that is not what the archive holds, or cannot be."""
        entry = item.entry
        source = self._moved.get(entry.link)
        if source is None:
            source = check_path(entry.link)
            if not self._selected(source) or self.keeper.is_lost(source):
                return False
        parent, _, name = source.rpartition(b"/")
        try:
            source_fd = self._root.open_folder(parent)
        except OSError:
            return False
        try:
            with self._root.held(item.folder) as folder_fd:
                if not item.folder.fresh and self._linked_already(source_fd, name, folder_fd, entry):
                    return True
                temp = self._temp()
                try:
                    os.link(name, temp, src_dir_fd=source_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
                except OSError as error:
                    if is_unusable(error):
                        raise
                    return False
                if self._place(folder_fd, temp, entry):
                    self._report.made(hard_links=1)
        finally:
            os.close(source_fd)
        return True

    def _linked_already(self, source_fd: int, name: bytes, folder_fd: int, entry: Entry) -> bool:
        try:
            source = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
            found = os.stat(entry.name, dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if not os.path.samestat(source, found):
            return False
        self._report.add(Reason.UNCHANGED, entry.path)
        return True

    # --- errors ---

    def _note(self, error: Exception, entry: Entry, file: BigFile | None) -> None:
        """Report what befell one entry; pass on what befalls the target, or nobody foresaw."""
        if isinstance(error, OSError):
            if is_unusable(error):
                raise destination_error(self._root.shown, error, where=shown(entry.path)) from error
            reason = Reason.DEVICE if entry.kind in _DEVICES else Reason.NOT_CREATED
            self._fail(reason, entry, words(error), file)
        elif isinstance(error, OverflowError | ValueError):
            self._fail(Reason.NOT_CREATED, entry, "it holds a value that the system cannot take", file)
        elif isinstance(error, ChunkNotFound):
            self._fail(Reason.MISSING, entry, error.message, file, error)
        elif isinstance(error, CorruptChunk):
            self._fail(Reason.CORRUPT, entry, error.message, file, error)
        elif isinstance(error, FormatError):
            self._fail(Reason.MALFORMED, entry, error.message, file, error)
        else:
            raise error

    def _fail(
        self, reason: Reason, entry: Entry, why: str, file: BigFile | None, error: IbsError | None = None
    ) -> None:
        if file is not None:
            with file.lock:
                already, file.failed = file.failed, True
            if already:
                return
        self._report.add(reason, entry.path, why, error=error)
        self.keeper.mark_lost(entry.path)

    def _temp(self) -> bytes:
        return b"%s%d.tmp" % (self._prefix, next(self._numbers))


def _is_sparse(entry: Entry) -> bool:
    """Whether the file has holes, so that its end needs setting and zero runs may become holes too."""
    if not entry.ranges:
        return entry.size > 0 and not entry.extents
    return sum(length for _, length in entry.ranges) < entry.size


def _unlink(name: bytes, folder_fd: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=folder_fd)
