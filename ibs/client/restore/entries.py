"""The entries of a tree archive as they are fetched: streamed, sought, or looked up one by one.

Imported by the modules of `client.restore`. `TreeReader` is synchronous and asks for chunks as it goes; here it runs in
a pool thread on chunks that are in memory, stops at the first one that is not, and is taken up again where it
stopped when that chunk has come. So no thread ever waits for the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import trio

from ibs.client.restore.chunks import TreeChunks
from ibs.client.restore.fetch import ChunkFetcher
from ibs.core import limits
from ibs.core.tree import Entry, TreeReader
from ibs.errors import FormatError
from ibs.ports.pool import Pool
from ibs.restore.tree.jobs import entry_bytes

T = TypeVar("T")


class _Wanted(Exception):
    """The reader needs a chunk that is not in memory."""

    def __init__(self, chunk_id: bytes) -> None:
        super().__init__(chunk_id.hex())
        self.chunk_id = chunk_id


class TreeEntries:
    """The entries of one archive. Several cursors may be open at once."""

    def __init__(self, fetcher: ChunkFetcher, chunks: TreeChunks, pool: Pool) -> None:
        self.chunks = chunks
        self._fetcher = fetcher
        self._pool = pool
        self._look_up = trio.Lock()
        self._finder = self._reader(lambda _: None)

    def cursor(self, start: bytes = b"", prefix: bytes | None = None) -> EntryCursor:
        """Entries from the first at or after `start` on; with `prefix` only that path and what is below it."""
        return EntryCursor(self, start, prefix)

    async def find(self, path: bytes) -> Entry | None:
        """The entry of exactly this path, or None. Raises FormatError, CorruptChunk, ChunkNotFound."""
        async with self._look_up:  # a reader serves one thread at a time
            return await self._complete(lambda: self._finder.find(path))

    async def _complete(self, work: Callable[[], T]) -> T:
        """Repeat `work` until every chunk it wants is in memory."""
        while True:
            try:
                return await self._pool.cpu(work)
            except _Wanted as wanted:
                await self._bring(wanted.chunk_id)

    async def _bring(self, chunk_id: bytes, *, ahead: int = 0) -> None:
        lengths = self.chunks.lengths([chunk_id])
        if chunk_id not in lengths:
            raise FormatError(f"metadata refers to chunk {chunk_id.hex()}, which the index does not list")
        if ahead:
            self._fetcher.ahead(self.chunks.metadata_after(chunk_id, ahead))
        await self._fetcher.metadata(chunk_id, lengths[chunk_id])

    def _reader(self, note: Callable[[bytes], None]) -> TreeReader:
        def fetch(chunk_id: bytes) -> bytes:
            data = self._fetcher.peek(chunk_id)
            if data is None:
                raise _Wanted(chunk_id)
            note(chunk_id)
            return data

        header = self.chunks.header
        return TreeReader(fetch, header.root, header.depth)


class EntryCursor:
    """A place in the stream of entries."""

    def __init__(self, entries: TreeEntries, start: bytes, prefix: bytes | None) -> None:
        self._entries = entries
        self._prefix = prefix
        self._recent = b""
        self._reader = entries._reader(self._note)  # noqa: SLF001 - the two are one
        self._start = start
        self._iterator: Iterator[Entry] | None = None
        self._ended = False

    async def take(self) -> list[Entry]:
        """The next entries, at most RESTORE_ENTRIES_BATCH; empty at the end. Raises as `TreeEntries.find` does."""
        entries = self._entries
        while not self._ended:
            wanted, batch = await entries._pool.cpu(self._step)  # noqa: SLF001 - the two are one
            if self._recent:
                following = entries.chunks.metadata_after(self._recent, limits.RESTORE_METADATA_AHEAD)
                entries._fetcher.ahead(following)  # noqa: SLF001 - the two are one
                self._recent = b""
            if batch:
                # What came before a missing chunk is handed out first: that chunk may never come.
                return batch
            if wanted is not None:
                await entries._bring(wanted, ahead=limits.RESTORE_METADATA_AHEAD)  # noqa: SLF001 - the two are one
        return []

    def seek(self, start: bytes) -> None:
        """Go on with the first entry at or after `start`, which must lie ahead."""
        self._start = start
        self._iterator = None

    def _note(self, chunk_id: bytes) -> None:
        self._recent = chunk_id

    def _step(self) -> tuple[bytes | None, list[Entry]]:
        """In a pool thread: entries until the batch is full, a chunk is missing (its id comes first), or the end."""
        batch: list[Entry] = []
        size = 0
        if self._iterator is None:
            self._iterator = self._reader.entries(self._start, self._prefix)
        try:
            for entry in self._iterator:
                batch.append(entry)
                # The path right behind this one: where to go on should the next chunk be missing.
                self._start = entry.path + b"\0"
                size += entry_bytes(entry)
                if len(batch) >= limits.RESTORE_ENTRIES_BATCH or size >= limits.RESTORE_ENTRIES_BYTES:
                    return None, batch
        except _Wanted as wanted:
            self._iterator = None
            return wanted.chunk_id, batch
        self._ended = True
        return None, batch
