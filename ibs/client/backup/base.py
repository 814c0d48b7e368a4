"""The previous snapshot's index and metadata chunks, as far as a backup may build on them.

Importable by the backup pipeline only. The reading thread never waits for the network: where a metadata chunk is not
at hand the shelf raises `ChunkWanted`, the trio side fetches that chunk and the ones that come next, and the reader
tries again. So the same code serves real threads and the simulator, and over a slow line a few round trips carry all
metadata.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import trio
from numpy.typing import NDArray

from ibs.core import index, limits
from ibs.core.index import IdLookup, IndexHeader
from ibs.errors import FormatError, IbsError


class ChunkWanted(Exception):
    """The walk cannot go on without this metadata chunk."""

    def __init__(self, chunk_id: bytes) -> None:
        super().__init__(chunk_id.hex())
        self.chunk_id = chunk_id


class BaseIndex:
    """A checked index of the previous snapshot with its bitmap of usable chunks (`usable_rows`, one a record)."""

    def __init__(self, content: bytes, bitmap: bytes, *, domain: bytes) -> None:
        """Raises FormatError when index or bitmap are malformed, or when the index is of another key."""
        self.header: IndexHeader = index.parse_header(content, file_bytes=len(content))
        records = memoryview(content)[index.HEADER_BYTES :]
        index.check_records(self.header, records)
        if self.header.domain != domain:
            raise FormatError("the previous index is of another key")
        count = self.header.records
        if len(bitmap) * 8 < count:
            raise FormatError(f"a bitmap of {len(bitmap)} bytes cannot cover {count} records")
        usable = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=count, bitorder="little").astype(np.bool_)
        ids = index.record_ids(records, self.header.record_bytes)
        self._records = records
        self._ids = ids
        self.lookup = IdLookup(ids)
        self.usable = IdLookup(ids[usable]) if not usable.all() else self.lookup
        self.usable_rows = usable
        self.unusable = frozenset(one.tobytes() for one in ids[~usable])

    def image_records(self, first: int, count: int) -> bytes:
        """Some records of an image index."""
        size = index.IMAGE_RECORD_BYTES
        return bytes(self._records[first * size : (first + count) * size])

    def plain_lengths(self, ids: Sequence[bytes]) -> list[int]:
        """Plaintext length of each chunk of a tree index; 0 for one that it does not list."""
        rows = self.lookup.positions(ids)
        lengths = np.where(rows >= 0, index.tree_records(self._records)["plain_length"][rows], 0)
        return [int(length) for length in lengths]

    @property
    def data_lengths(self) -> NDArray[np.int64]:
        """Of a tree index: plaintext length of each data chunk, 0 in the rows of metadata chunks."""
        rows = index.tree_records(self._records)
        lengths: NDArray[np.int64] = np.where(rows["kind"] == index.KIND_DATA, rows["plain_length"], 0).astype(np.int64)
        return lengths

    def ids_at(self, rows: NDArray[np.int64]) -> list[bytes]:
        """Ids of these records."""
        return [one.tobytes() for one in self._ids[rows]]

    def metadata_ids(self) -> list[bytes]:
        """Ids of all metadata chunks, in order of first use: the order in which a walk wants them."""
        rows = index.tree_records(self._records)
        return [one.tobytes() for one in rows["id"][rows["kind"] == index.KIND_METADATA]]


class ChunkShelf:
    """Plaintexts of metadata chunks, fetched ahead in the order in which a walk wants them.

    `get` is called in the reading thread, `provide` in the trio thread while the reader stands still.
    """

    def __init__(
        self,
        order: Sequence[bytes],
        fetch: Callable[[bytes], Awaitable[bytes]],
        *,
        ahead: int = limits.BASE_CHUNKS_AHEAD,
        kept: int = limits.BASE_CHUNKS_KEPT,
    ) -> None:
        self._order = order
        self._place = {chunk_id: place for place, chunk_id in enumerate(order)}
        self._fetch = fetch
        self._ahead = ahead
        self._kept = kept
        self._chunks: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, chunk_id: bytes) -> bytes:
        """Raises ChunkWanted."""
        found = self._chunks.get(chunk_id)
        if found is None:
            raise ChunkWanted(chunk_id)
        return found

    async def provide(self, chunk_id: bytes) -> None:
        """Fetch a chunk and, at the same time, those after it. Raises what `fetch` raises for the wanted one."""
        place = self._place.get(chunk_id)
        following = [] if place is None else self._order[place + 1 : place + 1 + self._ahead]
        asked = [chunk_id, *(one for one in following if one not in self._chunks)]
        found: dict[bytes, bytes] = {}
        errors: list[IbsError] = []

        async def fetch(one: bytes) -> None:
            try:
                found[one] = await self._fetch(one)
            except IbsError as error:
                if one == chunk_id:
                    errors.append(error)  # what was only fetched ahead may never be wanted

        async with trio.open_nursery() as nursery:  # noqa: TID251 - a handful of requests that end here
            for one in asked:
                nursery.start_soon(fetch, one)
        if errors:
            raise errors[0]
        # In the order of their use, whatever order they came in: the first to be used is the first to be forgotten.
        self._chunks.update((one, found[one]) for one in asked if one in found)
        while len(self._chunks) > self._kept:
            self._chunks.popitem(last=False)
