"""A tree archive opened to be looked at: listing it, finding things, reading chunks.

Imported by `client.restore.diff` and `cli`. The lease is held and the fetcher runs inside `open_tree` only.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from ibs.client.restore.chunks import TreeChunks
from ibs.client.restore.entries import TreeEntries
from ibs.client.restore.fetch import ChunkFetcher
from ibs.client.restore.opener import LocalOpener
from ibs.client.restore.plan import first_error
from ibs.client.restore.snapshot import LastSeen, OpenSnapshot, open_snapshot
from ibs.core import limits
from ibs.core.keys import DataKeys
from ibs.core.tree import Entry, Kind, after_subtree, check_path
from ibs.errors import IbsError, NotFoundError, UsageError
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.ports.transport import RestoreTransport
from ibs.restore.tree.safe_path import shown


@dataclass(frozen=True, slots=True)
class TreeView:
    """One archive of an open snapshot."""

    snapshot: OpenSnapshot
    archive: str
    entries: TreeEntries
    fetcher: ChunkFetcher
    pool: Pool
    domain: bytes

    async def chunks(self, wanted: Mapping[bytes, int]) -> dict[bytes, bytes]:
        """Plaintexts by id, for plain lengths by id. Raises CorruptChunk, ChunkNotFound."""
        lease = await self.fetcher.lease(wanted)
        try:
            found = await lease.ready()
        finally:
            lease.release()
        plain = {}
        for chunk_id, data in found.items():
            if isinstance(data, IbsError):
                raise data
            plain[chunk_id] = bytes(data)
        return plain


@asynccontextmanager
async def open_tree(
    transport: RestoreTransport,
    *,
    store: str,
    snapshot: str,
    archive: str,
    pool: Pool,
    clock: Clock,
    keys: DataKeys | None = None,
    last_seen: LastSeen | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> AsyncIterator[TreeView]:
    """Open a tree archive for the block; the server is told at its end.

    Raises what `open_snapshot` raises, UsageError for an image, NotFoundError.
    """
    if not archive.endswith(".tree"):
        raise UsageError(f"{archive} is not a tree of files", hint="name an archive like etc.tree")
    opened = await open_snapshot(transport, store, snapshot, keys=keys, last_seen=last_seen)
    status, message = "FAILED", "cancelled"
    try:
        header, index = await opened.index(archive, pool)
        chunks = await pool.cpu(TreeChunks, header, index)
        opener = LocalOpener(transport, pool, clock, domain=header.domain, keys=keys, entropy=entropy)
        fetcher = ChunkFetcher(opener, clock)
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the fetcher
            nursery.start_soon(fetcher.run)
            yield TreeView(opened, archive, TreeEntries(fetcher, chunks, pool), fetcher, pool, header.domain)
            nursery.cancel_scope.cancel()
        status, message = "OK", ""
    except BaseException as raised:
        error = first_error(raised)
        if isinstance(error, IbsError):
            message = error.code
        if error is raised:
            raise
        raise error from None
    finally:
        with trio.move_on_after(limits.RESTORE_CLOSE_SECONDS, shield=True):
            await transport.close(status, 0, message)


def archive_path(text: str) -> bytes:
    """A path of an archive as a user writes it: slashes at its ends mean nothing. Raises FormatError."""
    path = os.fsencode(text.strip("/"))
    check_path(path)
    return path


async def list_entries(view: TreeView, path: bytes = b"", *, recursive: bool = False) -> AsyncIterator[Entry]:
    """The entry at `path`, or what is in it when it is a folder (with `recursive` everything below), in order.

    Streams; subtrees that are not listed are jumped over. Raises NotFoundError, CorruptChunk, ChunkNotFound.
    """
    found = await view.entries.find(path)
    if found is None:
        raise NotFoundError(f"{shown(path)} is not in {view.archive} of {view.snapshot.manifest.snapshot}")
    if found.kind is not Kind.DIR:
        yield found
        return
    inside = path + b"/" if path else b""
    cursor = view.entries.cursor(prefix=path or None)
    while batch := await cursor.take():
        for entry in batch:
            if entry.path != path and (recursive or b"/" not in entry.path[len(inside) :]):
                yield entry
        child, deeper, _ = batch[-1].path[len(inside) :].partition(b"/")
        if deeper and not recursive:
            cursor.seek(after_subtree(inside + child))
