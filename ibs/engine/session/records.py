"""A growing index file in staging: records are appended idempotently, then the header is written once.

Used by `engine.session` only. The caller serialises calls on one index; all calls block (pool threads).
"""

from __future__ import annotations

from blake3 import blake3

from ibs.core import limits
from ibs.core.index import (
    HEADER_BYTES,
    RECORD_BYTES,
    TREE,
    IdArray,
    IndexHeader,
    check_tree_records,
    encode_header,
    record_ids,
)
from ibs.engine.indexes import IndexFile, linked_index
from ibs.errors import ConflictError, FailedError, FormatError, UsageError
from ibs.storage.local.workfolder import WorkFolder
from ibs.wire.session import ArchiveClose, ArchiveClosed


class GrowingIndex:
    """The index of one archive of an open session.

    `records` counts what is in the file and in the running digest; both move together, after the write succeeded,
    so a failed or repeated append never leaves them apart.
    """

    def __init__(self, folder: WorkFolder, archive: str, kind: str, domain: bytes) -> None:
        """Starts the file in the session's `folder`."""
        self.archive, self.kind, self.domain = archive, kind, domain
        self.file = f"{archive}.idx"
        self.record_bytes = RECORD_BYTES[kind]
        self.records = 0
        self.closed: ArchiveClosed | None = None
        self.header: IndexHeader | None = None
        self._close_request: ArchiveClose | None = None
        self._folder = folder
        self._digest = blake3()
        folder.append(self.file, bytes(HEADER_BYTES), at=0)

    def check(self, first_record: int, records: memoryview) -> memoryview:
        """The part of `records` that is new. Raises UsageError, FormatError, ConflictError."""
        if self.closed is not None:
            raise ConflictError(f"archive {self.archive} is closed", hint="no more records may follow its close")
        count, rest = divmod(len(records), self.record_bytes)
        if rest or len(records) > limits.RECORDS_BODY_BYTES_MAX:
            raise UsageError(
                f"archive {self.archive}: {len(records)} bytes of records are not accepted",
                hint=f"send whole records of {self.record_bytes} bytes, at most {limits.RECORDS_BODY_BYTES_MAX} in all",
            )
        if not 0 <= first_record <= self.records:
            raise UsageError(
                f"archive {self.archive}: records {first_record} on were sent, {self.records} is the next",
                hint="append records in order",
            )
        if HEADER_BYTES + (first_record + count) * self.record_bytes > limits.INDEX_FILE_BYTES_MAX:
            raise UsageError(f"archive {self.archive} has too many records", hint="split the source in two archives")
        known = min(count, self.records - first_record) * self.record_bytes
        if known and self._read(first_record * self.record_bytes, known) != records[:known]:
            raise ConflictError(
                f"archive {self.archive}: records from {first_record} on were sent before with other content",
                hint="a retry must repeat the same records",
            )
        return records[known:]

    def ids(self, records: memoryview) -> IdArray:
        """The chunk ids in `records` (image: without zero blocks). Raises FormatError."""
        ids = record_ids(records, self.record_bytes)
        if self.kind != TREE:
            return ids[ids.any(axis=1)]
        check_tree_records(records)
        return ids

    def append(self, records: memoryview) -> None:
        """Write checked, pinned, new records."""
        self._folder.append(self.file, records, at=HEADER_BYTES + self.records * self.record_bytes)
        self._digest.update(records)
        self.records += len(records) // self.record_bytes

    def close_archive(self, request: ArchiveClose) -> ArchiveClosed:
        """Write the header. Idempotent for the same request. Raises UsageError, ConflictError."""
        if self.closed is not None:
            if request != self._close_request:
                raise ConflictError(f"archive {self.archive} was closed with other figures")
            return self.closed
        header = self._make_header(request)
        self._folder.append(self.file, encode_header(header), at=0)
        self._folder.truncate(self.file, header.file_bytes)  # a failed append may have left a tail
        index = self.index()
        try:
            for _ in index.blocks():
                pass
        except FormatError as error:
            # What is in the file must be what was hashed on its way in.
            raise FailedError(
                f"the staged index of {self.archive} differs from what was received",
                hint="the disk or file system below the datastore is faulty; check it, then start the backup again",
            ) from error
        proven = index.prove()
        self.header, self._close_request = header, request
        self.closed = ArchiveClosed(archive=self.archive, index_bytes=header.file_bytes, index_digest=proven.digest)
        return self.closed

    def _make_header(self, request: ArchiveClose) -> IndexHeader:
        if request.records != self.records:
            raise UsageError(
                f"archive {self.archive}: closed with {request.records} records, {self.records} were received",
                hint="append all records before closing",
            )
        try:
            root = bytes.fromhex(request.root) if request.root else bytes(32)
        except ValueError as error:
            raise UsageError(f"archive {self.archive}: the root id is not hexadecimal") from error
        chunk_bytes = 0 if self.kind == TREE else request.chunk_bytes or limits.IMAGE_CHUNK_BYTES
        return IndexHeader(  # encode_header checks all of it
            kind=self.kind,
            record_bytes=self.record_bytes,
            records=self.records,
            plain_bytes=request.plain_bytes,
            chunk_bytes=chunk_bytes,
            depth=request.depth,
            domain=self.domain,
            root=root,
            records_digest=self._digest.digest(),
        )

    def index(self) -> IndexFile:
        """The index of a closed archive, as it lies in the session's folder."""
        return linked_index(self._folder, self.file, named=False)

    def _read(self, offset: int, count: int) -> bytes:
        return self._folder.read(self.file, offset=HEADER_BYTES + offset, length=count)
