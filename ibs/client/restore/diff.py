"""What differs between two snapshots, or between a snapshot and a live folder; streamed in the order of archives.

Imported by `cli`. Both sides are read once, side by side. Content is compared by what the extents say; only where they
do not agree (another chunking, another key) are bytes fetched, and a live file that has kept size, times, inode and
file system is not read unless asked. Whoever stops early closes the iterator (`contextlib.aclosing`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from ibs.client.restore.view import TreeView
from ibs.core import limits
from ibs.core.ids import chunk_id as plain_chunk_id
from ibs.core.tree import Entry, Kind, entry_unchanged, path_key
from ibs.errors import FormatError
from ibs.restore.compare import Difference, LiveFile, metadata_changes, same_bytes, stretches
from ibs.restore.content import Piece, layout
from ibs.restore.tree.safe_path import SafeRoot, shown
from ibs.sources.notes import Note
from ibs.sources.tree.meta import device_number, xattrs_at, xattrs_of_fd
from ibs.sources.tree.scan import Found, TreeScan

_PIECES_AT_ONCE = 64


async def diff_snapshots(old: TreeView, new: TreeView) -> AsyncIterator[Difference]:
    """Differences from `old` to `new`. Raises CorruptChunk, ChunkNotFound, FormatError."""
    pairs = _Pairs(_Stream(old.entries.cursor().take), _Stream(new.entries.cursor().take))
    while (pair := await pairs.next()) is not None:
        a, b = pair
        if a is None or b is None:
            yield _one_sided(a, b)
            continue
        was, now = a, b
        if a.kind is not b.kind or a.link != b.link:
            was, now = await _behind_link(old, a), await _behind_link(new, b)
        what = metadata_changes(was, now)
        if was.kind is Kind.FILE and now.kind is Kind.FILE and not await _same_content(old, was, new, now):
            what.insert(0, "content")
        if what:
            yield Difference(b.path, "changed", tuple(what), a, b)


async def _same_content(old: TreeView, was: Entry, new: TreeView, now: Entry) -> bool:
    if was.size != now.size:
        return False
    same_domain = old.domain == new.domain
    if same_domain and was.extents == now.extents and was.ranges == now.ranges:
        return True
    left, right = layout(was), layout(now)
    if not same_domain:
        # Ids under two keys say nothing about each other: make sure that none agree.
        left = [piece._replace(id=b"\0" + piece.id) for piece in left]
    for stretch in stretches(left, right, was.size):
        a = await _chunk(old, stretch.old[0][-32:] if stretch.old else None)
        b = await _chunk(new, stretch.new[0] if stretch.new else None)
        if not await old.pool.cpu(same_bytes, stretch, a, b):
            return False
    return True


async def _chunk(view: TreeView, chunk_id: bytes | None) -> bytes | None:
    if chunk_id is None:
        return None
    lengths = view.entries.chunks.lengths([chunk_id])
    if not lengths:
        raise FormatError(f"the archive refers to chunk {chunk_id.hex()}, which its index does not list")
    return (await view.chunks(lengths))[chunk_id]


async def _behind_link(view: TreeView, entry: Entry) -> Entry:
    """A hard link as the file it is another name of."""
    if entry.kind is not Kind.HARDLINK:
        return entry
    found = await view.entries.find(entry.link)
    if found is None or found.kind in (Kind.DIR, Kind.HARDLINK):
        raise FormatError(f"{shown(entry.path)} links to {shown(entry.link)}, which is no file")
    return msgspec.structs.replace(found, path=entry.path)


@dataclass(slots=True)
class LiveOptions:
    """`content` reads every file even when nothing suggests a change. `excludes` as for a backup."""

    excludes: Sequence[str] = ()
    all_file_systems: bool = False
    content: bool = False
    notes: list[Note] = field(default_factory=list)
    """What could not be looked at, filled while the difference is read; bounded."""


async def diff_folder(view: TreeView, folder: str, options: LiveOptions | None = None) -> AsyncIterator[Difference]:
    """Differences from an archive to a live folder. Raises UsageError, SourceUnreadable, and as `diff_snapshots`."""
    options = options or LiveOptions()

    def note(line: Note) -> None:
        if len(options.notes) < limits.RESTORE_REPORT_PATHS_MAX:
            options.notes.append(line)

    scan = TreeScan(
        os.fsencode(folder), note=note, excludes=options.excludes, all_file_systems=options.all_file_systems
    )
    live = _live_entries(scan, note)

    async def take() -> list[Entry]:
        return await view.pool.disk(_some, live)

    root: SafeRoot | None = None
    try:
        # The scan first: it says in better words why a folder cannot be read.
        ahead = await take()
        root = SafeRoot(folder)
        pairs = _Pairs(_Stream(view.entries.cursor().take), _Stream(take, ahead))
        while (pair := await pairs.next()) is not None:
            a, b = pair
            if a is None or b is None:
                yield _one_sided(a, b)
                continue
            was = await _behind_link(view, a)
            what = metadata_changes(was, b)
            if was.kind is Kind.FILE and b.kind is Kind.FILE and not await _same_as_live(view, was, b, root, options):
                what.insert(0, "content")
            if what:
                yield Difference(b.path, "changed", tuple(what), a, b)
    finally:
        await view.pool.disk(scan.close)
        if root is not None:
            root.close()


async def _same_as_live(view: TreeView, was: Entry, now: Entry, root: SafeRoot, options: LiveOptions) -> bool:
    if was.size != now.size:
        return False
    if not options.content and entry_unchanged(was, now.kind, now.size, now.mtime_ns, now.ctime_ns, now.inode, now.fs):
        return True
    pieces = layout(was)
    lengths = view.entries.chunks.lengths([piece.id for piece in pieces])
    keys = view.snapshot.keys
    identify: Callable[[bytes], bytes] = keys.chunk_id if keys is not None and any(view.domain) else plain_chunk_id
    try:
        file = await view.pool.disk(LiveFile, root, now.path)
    except OSError as error:
        options.notes.append(Note("warning", f"cannot be read: {error.strerror}", shown(now.path)))
        return False
    try:
        if not await view.pool.disk(file.holes_are_zero, pieces, was.size):
            return False
        for first in range(0, len(pieces), _PIECES_AT_ONCE):
            some = pieces[first : first + _PIECES_AT_ONCE]
            undecided = await view.pool.disk(file.undecided, some, lengths, identify)
            if undecided is None or not await _same_pieces(view, file, undecided):
                return False
        return True
    finally:
        file.close()


async def _same_pieces(view: TreeView, file: LiveFile, pieces: Sequence[Piece]) -> bool:
    for piece in pieces:
        data = await _chunk(view, piece.id)
        assert data is not None  # noqa: S101 - there is an id
        if not await view.pool.disk(file.same, piece, data):
            return False
    return True


# --- the live side as entries ---


def _live_entries(scan: TreeScan, note: Callable[[Note], None]) -> Iterator[Entry]:
    """Entries as a backup would see them, without data; hard links as files."""
    for found in scan:
        try:
            yield _live_entry(found)
        except OSError as error:
            note(Note("warning", f"cannot be read: {error.strerror}", shown(found.path)))


def _live_entry(found: Found) -> Entry:
    st = found.stat
    folder_fd = found.folder.fd
    if found.entered is not None:
        xattrs = xattrs_of_fd(found.entered.fd)
    else:
        xattrs = xattrs_at(folder_fd, found.name)
    return Entry(
        path=found.path,
        kind=found.kind,
        mode=st.st_mode & 0o7777,
        uid=st.st_uid,
        gid=st.st_gid,
        mtime_ns=st.st_mtime_ns,
        ctime_ns=st.st_ctime_ns,
        size=st.st_size if found.kind is Kind.FILE else 0,
        fs=found.file_system.id,
        inode=st.st_ino,
        xattrs=xattrs,
        link=os.readlink(found.name, dir_fd=folder_fd) if found.kind is Kind.SYMLINK else b"",
        rdev=device_number(st) if found.kind in (Kind.CHAR, Kind.BLOCK) else 0,
    )


def _some(entries: Iterator[Entry]) -> list[Entry]:
    return list(islice(entries, limits.RESTORE_ENTRIES_BATCH))


# --- joining two ordered streams ---


class _Stream:
    """Entries one by one out of batches."""

    def __init__(self, take: Callable[[], Awaitable[list[Entry]]], ahead: Sequence[Entry] = ()) -> None:
        self._take = take
        self._batch: list[Entry] = list(reversed(ahead))
        self._ended = False

    async def next(self) -> Entry | None:
        while not self._batch:
            if self._ended:
                return None
            batch = await self._take()
            self._ended = not batch
            self._batch = batch[::-1]
        return self._batch.pop()


class _Pairs:
    """Two streams side by side. No generator: one inside another would have to be closed by hand."""

    def __init__(self, left: _Stream, right: _Stream) -> None:
        self._left = left
        self._right = right
        self._a: Entry | None = None
        self._b: Entry | None = None

    async def next(self) -> tuple[Entry | None, Entry | None] | None:
        """The next path on either side, None where one lacks it; None at the end of both."""
        if self._a is None:
            self._a = await self._left.next()
        if self._b is None:
            self._b = await self._right.next()
        a, b = self._a, self._b
        if a is None and b is None:
            return None
        if b is None or (a is not None and path_key(a.path) < path_key(b.path)):
            self._a = None
            return a, None
        if a is None or path_key(b.path) < path_key(a.path):
            self._b = None
            return None, b
        self._a = self._b = None
        return a, b


def _one_sided(old: Entry | None, new: Entry | None) -> Difference:
    if new is None:
        assert old is not None  # noqa: S101 - one of the two is there
        return Difference(old.path, "removed", (), old, None)
    return Difference(new.path, "added", (), None, new)
