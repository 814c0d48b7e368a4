"""From entries to metadata chunks and index records of a tree. Runs in a thread, one call at a time.

Importable by the backup pipeline only. Records list every chunk once, in order of first use by the entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ibs.client.backup.base import BaseIndex
from ibs.client.backup.items import ChunkRef, Draft
from ibs.client.backup.known import IdTable, Ledger
from ibs.client.backup.previous import OldRun
from ibs.core.blob import BlobEncoder
from ibs.core.index import KIND_DATA, KIND_METADATA, tree_record
from ibs.core.tree import Entry, TreeBuilder, TreeRoot
from ibs.errors import FormatError


class Assembled(NamedTuple):
    """What one call brought: index records, the ids in them, and metadata chunks that have to be sent."""

    records: bytes
    ids: list[bytes]
    metadata: list[ChunkRef]


class TreeAssembler:
    """Feeds a `TreeBuilder`. `base` tells the lengths of chunks that are taken over from the previous snapshot."""

    def __init__(self, encoder: BlobEncoder, ledger: Ledger, base: BaseIndex | None) -> None:
        self._encoder = encoder
        self._ledger = ledger
        self._base = base
        self._builder = TreeBuilder(self._emit)
        self._listed = IdTable()
        self._last = b""
        self._fresh: list[tuple[bytes, int, int]] = []
        self._metadata: list[ChunkRef] = []
        self.plain_bytes = 0

    def add(self, items: Sequence[Entry | Draft | OldRun]) -> Assembled:
        """Take entries in canonical order; all their chunks have been hashed. Raises FormatError."""
        for item in items:
            if type(item) is Draft:
                for ref, _, _ in item.spans:
                    if ref.id != self._last:
                        self._use(ref.id, ref.length)
                entry = item.entry()
                self.plain_bytes += entry.size
                self._builder.add(entry)
            elif type(item) is OldRun:
                self._take_over(item)
            else:
                self._add(item)  # type: ignore[arg-type]
        return self._take()

    def _add(self, entry: Entry) -> None:
        """An entry whose chunks, if any, are the previous snapshot's."""
        for extent in entry.extents:
            if extent[0] != self._last:
                self._use(extent[0], 0)
        self.plain_bytes += entry.size
        self._builder.add(entry)

    def _take_over(self, run: OldRun) -> None:
        """A block of the previous snapshot in which nothing changed: whole where it fits, else entry by entry."""
        block = run.child
        if self._builder.fits(block, run.last_path):
            for chunk_id in run.data_ids():
                self._use(chunk_id, 0)
            if not self._listed.put(block.id, 1):
                self._fresh.append((block.id, block.plain_bytes, KIND_METADATA))
            self.plain_bytes += run.size
            # Last, because it may close a node, whose record comes after those of what is below it.
            self._builder.adopt(block, run.last_path, last_is_folder=run.last_is_folder)
        else:
            for entry in run.entries():
                self._add(entry)

    def finish(self) -> tuple[TreeRoot, Assembled]:
        """Close the tree. Raises FormatError when nothing was added."""
        root = self._builder.finish()
        return root, self._take()

    def _use(self, chunk_id: bytes, length: int) -> None:
        """A data chunk is referred to; `length` 0 when only the previous index knows it."""
        self._last = chunk_id
        if not self._listed.put(chunk_id, 1):
            self._fresh.append((chunk_id, length, KIND_DATA))

    def _emit(self, plain: bytes) -> bytes:
        chunk_id = self._encoder.identify(plain)
        if not self._listed.put(chunk_id, 1):
            self._fresh.append((chunk_id, len(plain), KIND_METADATA))
        if self._ledger.claim(chunk_id):
            ref = ChunkRef(memoryview(plain), None)
            ref.id = chunk_id
            self._metadata.append(ref)
        return chunk_id

    def _take(self) -> Assembled:
        fresh, metadata = self._fresh, self._metadata
        self._fresh, self._metadata = [], []
        old = [chunk_id for chunk_id, length, _ in fresh if not length]
        if old:
            found = self._base.plain_lengths(old) if self._base is not None else [0] * len(old)
            if not all(found):
                raise FormatError(
                    "entries of the previous snapshot use a chunk that its index does not list",
                    hint="verify that snapshot; back up with --reread",
                )
            lengths = iter(found)
            fresh = [(one, length or next(lengths), kind) for one, length, kind in fresh]
        records = b"".join([tree_record(*one) for one in fresh])
        return Assembled(records, [one for one, _, _ in fresh], metadata)
