"""One tree archive from source to closed index: joins the reading side, the assembler and the records.

Importable by `run`.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from ibs.client.backup.assemble import Assembled, TreeAssembler
from ibs.client.backup.base import BaseIndex, ChunkShelf
from ibs.client.backup.closing import close_archive
from ibs.client.backup.encode import TimedEncoder
from ibs.client.backup.items import Job
from ibs.client.backup.known import Watermark
from ibs.client.backup.pipeline import Engine, ItemChannel, JobChannel, Reader, run_pipeline
from ibs.client.backup.previous import PreviousTree
from ibs.client.backup.records import RecordWriter, write_records
from ibs.client.backup.repack import Survey, worth_a_look
from ibs.client.backup.treefront import TreeFront
from ibs.client.backup.treeread import Outlet, TreeFiles
from ibs.core import index
from ibs.core.blob import BlobDecoder
from ibs.core.chunker import Chunker
from ibs.core.ids import Address
from ibs.core.manifest import ManifestArchive
from ibs.core.tree import TreeRoot
from ibs.errors import ChunkNotFound, CorruptChunk, FormatError, IbsError, UnavailableError
from ibs.sources.notes import Note, Noter
from ibs.sources.tree.scan import TreeScan


async def back_up_tree(
    engine: Engine,
    archive: str,
    path: bytes,
    *,
    excludes: Sequence[str],
    all_file_systems: bool,
    base: BaseIndex | None,
    take_over: bool,
    run: int = 1,
    note: Noter,
) -> ManifestArchive:
    """Back up one folder tree; return what the manifest says of it.

    `take_over` lets unchanged files take their content from `base`; without it all is read (chunks that `base` names
    are still not sent). `run` counts the runs in a row that did so. Raises UsageError, SourceUnreadable and what the
    transport raises, perhaps in a group.
    """
    scan = TreeScan(path, note=note, excludes=excludes, all_file_systems=all_file_systems)
    shelf = _shelf(engine, base, note) if base is not None and take_over else None
    outlet = Outlet()
    chunker = Chunker(engine.keys.chunker_seed if engine.keys is not None else 0)
    files = TreeFiles(
        outlet, engine.segments, chunker, clock=engine.clock, figures=engine.figures, note=note, files=engine.files
    )
    front = TreeFront(
        scan,
        files,
        outlet,
        previous=PreviousTree(base, shelf.get) if base is not None and shelf is not None else None,
        clock=engine.clock,
        figures=engine.figures,
        note=note,
        survey=Survey(base, shelf.get) if base is not None and shelf is not None and worth_a_look(base, run) else None,
    )

    async def provide(chunk_id: bytes) -> None:
        assert shelf is not None  # noqa: S101 - only a previous tree asks for chunks
        try:
            await shelf.provide(chunk_id)
        except IbsError as error:
            if isinstance(error, UnavailableError):
                raise
            front.previous_lost(error)

    reader = Reader(front.batches(), lambda: (files.read_seconds, files.chunk_seconds), provide)
    writer = RecordWriter(engine.transport, engine.pool, engine.ledger, archive, index.TREE)
    encoder = TimedEncoder(level=engine.level, keys=engine.keys, monotonic=engine.clock.monotonic)
    assembler = TreeAssembler(encoder, engine.ledger, base)
    sequel = TreeSequel(engine, assembler, writer)
    try:
        await run_pipeline(engine, reader, sequel)
        root = sequel.root
        return await close_archive(
            engine, archive, writer, plain_bytes=assembler.plain_bytes, root=root.id, depth=root.depth,
            entries=root.entries,
        )  # fmt: skip
    finally:
        writer.close()
        front.close()


def _shelf(engine: Engine, base: BaseIndex, note: Noter) -> ChunkShelf:
    async def fetch(chunk_id: bytes) -> bytes:
        try:
            blob = await engine.transport.base_chunk(chunk_id)
        except (ChunkNotFound, CorruptChunk):
            engine.ledger.doubt(chunk_id)  # should the same block come out again, it must be sent
            raise
        # A decoder a call: several may be in progress, and one must not be shared.
        decoder = BlobDecoder(keys=engine.keys)
        try:
            return await engine.pool.cpu(lambda: decoder.decode(blob, want=Address(engine.domain, chunk_id)))
        except (CorruptChunk, FormatError):
            engine.ledger.doubt(chunk_id)
            note(Note("warning", f"chunk {chunk_id.hex()} of the previous snapshot is not what it should be; reported"))
            await engine.transport.suspect([chunk_id])
            raise

    return ChunkShelf([one for one in base.metadata_ids() if one not in base.unusable], fetch)


class TreeSequel:
    """Consumes entries in order; `root` is there after the last."""

    root: TreeRoot

    def __init__(self, engine: Engine, assembler: TreeAssembler, writer: RecordWriter) -> None:
        self._engine = engine
        self._assembler = assembler
        self._writer = writer

    async def run(self, items: ItemChannel, jobs: JobChannel, hashed: Watermark) -> None:
        """See `pipeline.Sequel`."""
        records_in, records_out = trio.open_memory_channel[tuple[bytes, list[bytes]]](4)
        async with trio.open_nursery() as nursery:  # noqa: TID251 - the appender lives as long as records come
            nursery.start_soon(write_records, self._writer, records_out)
            async with items, jobs, records_in:
                async for batch, number in items:
                    await hashed.wait(number)
                    await self._forward(await self._engine.pool.cpu(self._assembler.add, batch), jobs, records_in)
                self.root, rest = await self._engine.pool.cpu(self._assembler.finish)
                await self._forward(rest, jobs, records_in)

    async def _forward(
        self, made: Assembled, jobs: JobChannel, records: trio.MemorySendChannel[tuple[bytes, list[bytes]]]
    ) -> None:
        for ref in made.metadata:
            await jobs.send(Job([ref]))
        if made.records:
            await records.send((made.records, made.ids))
