"""Reading finished index files of a store: whole, bounded, proven by their digests. Synchronous; call from the pool.

Used by `engine` only. What comes out is safe to build look-ups from; what does not check raises FormatError, and
never passes for an index without records (PROTOCOLS 10: unreadable means abort, never absent).
"""

from __future__ import annotations

from dataclasses import dataclass

from ibs.core import limits
from ibs.core.ids import digest
from ibs.core.index import HEADER_BYTES, TREE, IdArray, IndexHeader, parse_header, record_ids
from ibs.errors import FormatError
from ibs.storage.local.snapshots import SnapshotFiles
from ibs.storage.local.workfolder import WorkFolder


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """An index as read. `content` is the whole file, `digest` (hex) BLAKE3 of it."""

    header: IndexHeader
    content: bytes
    digest: str

    @property
    def records(self) -> memoryview:
        return memoryview(self.content)[HEADER_BYTES:]

    @property
    def ids(self) -> IdArray:
        """One row a record; an image's zero blocks are zero ids."""
        return record_ids(self.records, self.header.record_bytes)

    @property
    def stored_ids(self) -> IdArray:
        """The ids that stand for stored chunks, in order; an image may name one several times."""
        ids = self.ids
        return ids if self.header.kind == TREE else ids[ids.any(axis=1)]


def linked_index(folder: WorkFolder, name: str) -> StoredIndex:
    """An index linked into a session's or lease's folder.

    Raises NotFoundError; FormatError when header or records do not match their digests.
    """
    content = folder.read(name, length=limits.INDEX_FILE_BYTES_MAX + 1)
    return parse_index(content, f"{folder.path}/{name}")


def snapshot_index(files: SnapshotFiles, folder: str, archive: str) -> StoredIndex:
    """The index of an archive in a snapshot's folder. Raises as `linked_index` does."""
    name = f"{archive}.idx"
    content = files.read(folder, name, limit=limits.INDEX_FILE_BYTES_MAX)
    return parse_index(content, f"{folder}/{name}")


def parse_index(content: bytes, where: str) -> StoredIndex:
    """An index from its whole content. Raises FormatError naming `where`."""
    try:
        if len(content) > limits.INDEX_FILE_BYTES_MAX:
            raise FormatError(f"the index has more than {limits.INDEX_FILE_BYTES_MAX} bytes")
        header = parse_header(content[:HEADER_BYTES], file_bytes=len(content))
        if digest(memoryview(content)[HEADER_BYTES:]) != header.records_digest:
            raise FormatError("index records do not match their digest")
    except FormatError as error:
        raise FormatError(f"{where}: {error.message}", hint="verify the snapshot; restore it from a replica") from error
    return StoredIndex(header, content, digest(content).hex())
