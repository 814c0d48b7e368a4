"""The seam through which tests stop or disturb a store at a named point. Production passes `no_hook`.

A store calls its hook with the name of the step it is about to take. A hook may return, raise OSError as the
kernel would, or end the process. It is handed in when the store is opened; nothing here reads the environment.

Points of the local store, in the order a chunk and a snapshot meet them:

    put.write               before the first byte of a received chunk
    put.temp                the whole body is in its temporary file
    put.rename              the chunk has its name in the incoming folder
    barrier.sync            before the file system is asked to flush
    barrier.promote         before each received chunk moves to its final folder
    barrier.record          before rows of promoted chunks are added
    publish.index           before each index file or small file of a snapshot
    publish.sync            before the second flush
    publish.manifest.temp   before the temporary file of each of the last files
    publish.manifest.rename before it gets its name
    publish.manifest.done   it is visible, its folder not yet flushed
    remove.manifest         before a snapshot's manifest goes
    remove.files            before the rest of it goes
    bin.record              before a forgotten snapshot gets its record
    bin.rename              before it moves to the bin
    bin.done                it is there, the two folders not yet flushed
    undo.rename             before it moves back
    undo.done               it is there, the two folders not yet flushed
    purge.manifest          before the manifest of a bin's entry goes
    purge.files             before the rest of it goes
    discard.sync            before the flush of snapshots removed since the last one
    discard.row             before rows of discarded chunks go
    discard.file            before each of their files goes
    retire.row              before rows of chunks that garbage collection retires say so
    retire.file             before each of their files moves to trash
    retire.free             before each file that is deleted at once goes
    revive.file             before a retired chunk's file moves back
    revive.row              before its row says so
    reclaim.row             before rows of chunks in trash go
    reclaim.file            before each of their files goes
    reindex.row             before a batch of rows is written by a reindex
    get.read                before a chunk is read
    recover.promote         opening: before each proven chunk moves to its final folder
    recover.rebuild         opening: before the index is rebuilt
    recover.sweep           opening: before a half-made snapshot goes
"""

from __future__ import annotations

from collections.abc import Callable

Hook = Callable[[str], None]


def no_hook(point: str) -> None:
    """Let every step pass."""
