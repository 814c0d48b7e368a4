"""Reading finished index files of a store: piece by piece or whole, bounded, proven by their digests. Synchronous.

Used by `engine` only; call from the pool. What does not check raises FormatError, and never passes for an index
without records (PROTOCOLS 10: unreadable means abort, never absent). Who looks at an index in pieces learns only at its
end whether it is sound: what was concluded from the pieces must not outlive that error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from ibs.core import limits, limits_index
from ibs.core.idtable import IdTable, IdTableBuilder
from ibs.core.index import (
    HEADER_BYTES,
    KIND_METADATA,
    TREE,
    IdArray,
    check_tree_records,
    parse_header,
    record_ids,
    tree_records,
)
from ibs.errors import FormatError
from ibs.storage.local.bin import BinFiles
from ibs.storage.local.snapshots import SnapshotFiles
from ibs.storage.local.workfolder import WorkFolder

ReadAt = Callable[[int, int], bytes]
"""`read(offset, count)`: bytes of a file; fewer at its end."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A whole index that was looked at: `rows` finds its stored ids, `digest` (hex) is BLAKE3 of the file."""

    rows: IdTable
    digest: str


class IndexFile:
    """An index as it lies in a file. `where` names it in errors. A small one is read at once and held."""

    def __init__(self, read: ReadAt, where: str) -> None:
        """Raises FormatError when the header is not valid, and what `read` raises."""
        self._read, self._where = read, where
        start = read(0, limits_index.INDEX_HELD_BYTES_MAX + 1)
        with self._named():
            self.header = parse_header(start[:HEADER_BYTES])
            if self.header.file_bytes > limits.INDEX_FILE_BYTES_MAX:
                raise FormatError(f"the index has more than {limits.INDEX_FILE_BYTES_MAX} bytes")
        self.held = len(start) <= limits_index.INDEX_HELD_BYTES_MAX
        """Whether it is in memory, so that looking things up reads no file."""
        if self.held:
            self._read = lambda offset, count: start[offset : offset + count]
        self._start = start[:HEADER_BYTES]

    def blocks(self) -> Iterator[tuple[int, memoryview]]:
        """All records in pieces, each with the number of its first. What they are is proven when it has ended.

        Raises FormatError at its end when they are not those that the header tells of.
        """
        yield from self._walk(blake3())

    def _walk(self, whole: blake3) -> Iterator[tuple[int, memoryview]]:
        header, records = self.header, blake3()
        whole.update(self._start)
        for first in range(0, header.records, limits_index.INDEX_BLOCK_RECORDS):
            count = min(limits_index.INDEX_BLOCK_RECORDS, header.records - first)
            piece = self._records(first, count)
            records.update(piece)
            whole.update(piece)
            yield first, piece
        with self._named():
            if self._read(header.file_bytes, 1):
                raise FormatError(f"index file is longer than the {header.file_bytes} bytes its header says")
            if records.digest() != header.records_digest:
                raise FormatError("index records do not match their digest")

    def ids(self) -> Iterator[IdArray]:
        """The ids that stand for stored chunks, in pieces; an image may name one several times. As `blocks`."""
        for _, piece in self.blocks():
            yield self.stored(piece)[1]

    def stored(self, piece: memoryview, first: int = 0) -> tuple[NDArray[np.int64], IdArray]:
        """Rows and ids of those records of a piece that stand for stored chunks."""
        ids = record_ids(piece, self.header.record_bytes)
        if self.header.kind == TREE:
            return np.arange(first, first + len(ids)), ids
        there = ids.any(axis=1)
        return first + np.flatnonzero(there), ids[there]

    def read_ids(self, row: int, count: int) -> IdArray:
        """The ids of some records: `ReadIds` of this file. Raises FormatError when the file has become shorter."""
        return record_ids(self._records(row, count), self.header.record_bytes)

    def prove(self, each: Callable[[NDArray[np.int64], IdArray], None] | None = None) -> Proven:
        """Check everything that the format asks of an index, telling `each` piece's rows and ids on the way.

        Raises FormatError.
        """
        header = self.header
        builder = IdTableBuilder(self.read_ids, header.records)
        whole = blake3()
        for first, piece in self._walk(whole):
            if header.kind == TREE:
                with self._named():
                    check_tree_records(piece)
            rows, ids = self.stored(piece, first)
            builder.add(rows, ids)
            if each is not None:
                each(rows, ids)
        table, repeated = builder.done()
        if header.kind == TREE:
            with self._named():
                if repeated:
                    raise FormatError("tree index lists a chunk twice")
                self._check_root(table)
        return Proven(table, whole.hexdigest())

    def _check_root(self, table: IdTable) -> None:
        root = np.frombuffer(self.header.root, dtype=np.uint8).reshape(1, -1)
        row = int(table.rows(root)[0])
        if row < 0 or tree_records(self._records(row, 1))["kind"][0] != KIND_METADATA:
            raise FormatError("tree index does not list its root chunk as metadata")

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except FormatError as error:
            if not self._where:
                raise
            hint = "verify the snapshot; restore it from a replica"
            raise FormatError(f"{self._where}: {error.message}", hint=hint) from error

    def _records(self, first: int, count: int) -> memoryview:
        size = self.header.record_bytes
        piece = self._read(HEADER_BYTES + first * size, count * size)
        with self._named():
            if len(piece) != count * size:
                raise FormatError(f"index file is shorter than the {self.header.file_bytes} bytes its header says")
        return memoryview(piece)


def linked_index(folder: WorkFolder, name: str, *, named: bool = True) -> IndexFile:
    """An index in a session's or lease's folder. Raises NotFoundError, FormatError (`named`: naming the file)."""

    def read(offset: int, count: int) -> bytes:
        return folder.read(name, offset=offset, length=count)

    return IndexFile(read, f"{folder.path}/{name}" if named else "")


def snapshot_index(files: SnapshotFiles, folder: str, archive: str) -> IndexFile:
    """The index of an archive in a snapshot's folder. Raises NotFoundError, FormatError."""
    name = f"{archive}.idx"
    return IndexFile(lambda offset, count: files.read_part(folder, name, offset, count), f"{folder}/{name}")


def bin_index(files: BinFiles, entry: str, archive: str, where: str) -> IndexFile:
    """The index of an archive of a forgotten snapshot. Raises NotFoundError, FormatError naming `where`."""
    name = f"{archive}.idx"
    return IndexFile(lambda offset, count: files.read_part(entry, name, offset, count), where)
