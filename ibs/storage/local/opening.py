"""Opening a store step by step: the right folder, alone, owned, a new generation, recovered, ready.

Used inside `storage.local`. Everything taken is given back when a step fails. A file system mounted read-only, or one
whose flush fails, gives a store that only reads: restores must work on a disk that is on its way out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from ibs.errors import DatastoreOffline, DatastoreReadOnly
from ibs.storage.hooks import Hook, no_hook
from ibs.storage.local import ownership, probe
from ibs.storage.local.chunkdb import ChunkDb
from ibs.storage.local.durable import Flusher, syncfs
from ibs.storage.local.gate import Gate
from ibs.storage.local.held import Folders, Held, Prefixes
from ibs.storage.local.layout import Generation, Owner
from ibs.storage.local.recover import Recovery, open_index, remove_index
from ibs.storage.local.space import Reserve, Room
from ibs.storage.local.trouble import border, is_full


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to open. The last three are seams for tests: None asks the machine."""

    takeover: bool = False
    hook: Hook = no_hook
    boot_id: str | None = None
    flush_whole: bool | None = None
    flush: Callable[[int], None] = syncfs


@dataclass(frozen=True, slots=True)
class Recovered:
    """What opening found. `clean`: the last stop was orderly, on this boot."""

    clean: bool
    chunks_promoted: int = 0
    snapshots_swept: int = 0
    index_rebuilt: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """An open store's parts, for `LocalStore` to own."""

    held: Held
    db: ChunkDb
    lock_fd: int
    owner: Owner
    boot_id: str
    recovered: Recovered


def open_store(path: str, uuid: str, server: str, *, name: str, options: Options) -> Opened:
    """Open the store `uuid` at `path` for `server`. Raises DatastoreOffline, NoSpace, FailedError."""
    with contextlib.ExitStack() as undo, border(name, "opening it"):
        root = probe.open_root(path, name)
        undo.callback(os.close, root)
        meta = probe.open_meta(root, path, name)
        undo.callback(os.close, meta)
        probe.check_identity(meta, uuid, path, name)
        lock = ownership.take_lock(meta, name)
        undo.callback(os.close, lock)
        held = _hold(path, name, root, options)
        undo.callback(held.close)
        owner = _owner(held, server, options)
        boot_id = ownership.boot_id() if options.boot_id is None else options.boot_id
        db, recovered = _recover(held, boot_id)
        undo.pop_all()
        os.close(meta)
        os.close(root)
        return Opened(held, db, lock, owner, boot_id, recovered)


def _hold(path: str, name: str, root: int, options: Options) -> Held:
    try:
        folders = Folders(os.dup(root))
    except FileNotFoundError as error:
        raise DatastoreOffline(name, f"damaged: {path} lacks one of its folders") from error
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise DatastoreOffline(name, f"damaged: folders of {path} lie on different file systems") from error
        raise
    try:
        gate = Gate(name)
        room = Room(folders.root, name)
        if os.fstatvfs(folders.root).f_flag & os.ST_RDONLY:
            gate.go_read_only("its file system is mounted read-only")
        return Held(
            name=name,
            path=path,
            folders=folders,
            epoch=0,
            hook=options.hook,
            gate=gate,
            flusher=Flusher(folders.root, gate, options.hook, whole=options.flush_whole, flush_whole=options.flush),
            room=room,
            reserve=Reserve(folders.meta, room),
            prefixes=Prefixes(folders.chunks),
        )
    except BaseException:
        folders.close()
        raise


def _owner(held: Held, server: str, options: Options) -> Owner:
    meta = held.folders.meta
    if not held.gate.read_only_reason:
        return held.reserve.retrying(lambda: ownership.claim(meta, held.name, server, takeover=options.takeover))
    owner = ownership.read_owner(meta)
    if owner.server not in ("", server):
        raise DatastoreOffline(held.name, f"owner elsewhere: it belongs to server {owner.server}")
    return owner


def _recover(held: Held, boot_id: str) -> tuple[ChunkDb, Recovered]:
    before = ownership.read_generation(held.folders.meta)
    held.epoch = before.generation + 1
    if held.gate.read_only_reason:
        return _scratch_index(held), Recovered(clean=False, index_rebuilt=True)
    raised = Generation(generation=held.epoch, clean=False, boot_id=boot_id)
    held.reserve.retrying(lambda: ownership.write_generation(held.folders.meta, raised))
    clean = before.clean and bool(boot_id) and before.boot_id == boot_id
    recovery = Recovery(held)
    try:
        promoted = recovery.settle_incoming()
    except DatastoreReadOnly:  # the disk lost what was written; it can still be read
        return _scratch_index(held), Recovered(clean=False, index_rebuilt=True)
    # What a killed process removed last may not be on the platter, nor is what the sweep removes now: before the
    # first chunk is deleted everything is flushed.
    held.manifests_removed = not clean and before.generation > 0
    swept = 0 if clean else recovery.sweep_litter()
    db, rebuilt = _index(recovery, before, promoted)
    try:
        held.reserve.retrying(held.open_arrivals)
    except BaseException:
        db.close()
        raise
    held.reserve.fill()
    return db, Recovered(clean, len(promoted), swept, rebuilt)


def _index(recovery: Recovery, before: Generation, promoted: set[str]) -> tuple[ChunkDb, bool]:
    """The chunk index, whole for this generation, and whether it had to be rebuilt."""
    held = recovery.held
    try:
        db = held.reserve.retrying(lambda: open_index(held.folders.meta))
        try:
            stale = bool(promoted) or not before.clean or db.generation != before.generation
            if stale:
                db = _rebuild(recovery, db, promoted)
            held.reserve.retrying(lambda: db.set_generation(held.epoch))
        except BaseException:
            db.close()
            raise
        return db, stale
    except (OSError, sqlite3.Error) as error:
        if not is_full(error):
            raise
    # No room even for the index of what is there: deleting must work all the same. The next open rebuilds it.
    return _scratch_index(held), True


def _rebuild(recovery: Recovery, db: ChunkDb, promoted: set[str]) -> ChunkDb:
    """Rebuild the index; one too damaged for that is replaced."""
    held = recovery.held
    try:
        held.reserve.retrying(lambda: recovery.rebuild(db, promoted))
        return db
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        db.close()
        remove_index(held.folders.meta)
    fresh = open_index(held.folders.meta)
    try:
        recovery.rebuild(fresh, promoted)
    except BaseException:
        fresh.close()
        raise
    return fresh


def _scratch_index(held: Held) -> ChunkDb:
    """An index outside the store, gone with the process, for one that takes no writes or has no room."""
    db = ChunkDb("")
    try:
        db.rebuild(Recovery(held).scan(db.domains(), set()), held.epoch)
    except BaseException:
        db.close()
        raise
    return db
