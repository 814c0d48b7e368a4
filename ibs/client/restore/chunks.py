"""What the index of one archive says about its chunks, for whoever fetches them.

Imported by the modules of `client.restore`. Built only from an index file whose digest the manifest states.
Memory: the index file and at most 16 bytes a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ibs.core.index import HEADER_BYTES as INDEX_HEADER_BYTES
from ibs.core.index import KIND_METADATA, IdLookup, IndexHeader, check_records, record_ids, tree_records
from ibs.errors import FormatError


class TreeChunks:
    """Plain lengths of the chunks of a tree archive, and the order in which its metadata is read."""

    def __init__(self, header: IndexHeader, index: bytes) -> None:
        """Raises FormatError when the records do not fit the header."""
        if header.kind != "tree":
            raise FormatError(f"an index of kind {header.kind} is not one of a tree")
        records = memoryview(index)[INDEX_HEADER_BYTES:]
        check_records(header, records)
        rows = tree_records(records)
        self.header = header
        self._ids = record_ids(records, header.record_bytes)
        self._lookup = IdLookup(self._ids)
        self._lengths = rows["plain_length"]
        self._metadata = np.flatnonzero(rows["kind"] == KIND_METADATA)
        self.data_bytes = int(self._lengths.sum(dtype=np.int64)) - int(
            self._lengths[self._metadata].sum(dtype=np.int64)
        )
        """Plaintext of all distinct data chunks."""

    def lengths(self, ids: Sequence[bytes]) -> dict[bytes, int]:
        """Plain lengths of those of `ids` that the index lists."""
        distinct = list(dict.fromkeys(ids))
        rows = self._lookup.positions(distinct)
        return {
            chunk_id: int(length)
            for chunk_id, row, length in zip(distinct, rows, self._lengths[np.maximum(rows, 0)], strict=True)
            if row >= 0
        }

    def metadata_after(self, chunk_id: bytes, count: int) -> list[tuple[bytes, int]]:
        """The next `count` metadata chunks in order of first use, with plain lengths: what is likely read next."""
        row = int(self._lookup.positions([chunk_id])[0])
        first = int(np.searchsorted(self._metadata, row, side="right"))
        return [
            (self._ids[following].tobytes(), int(self._lengths[following]))
            for following in self._metadata[first : first + count]
        ]
