"""Moving a group to another namespace: its snapshots are issued anew there, the old ones go to the bin.

Used by `services` through `move_group`. A manifest is immutable and holds its snapshot's full name, so no folder is
simply renamed: that would be one snapshot passed off as another (contrib/docs/decisions). The server may state anew
what it had signed itself; what a client signed it cannot, and such a group is refused whole, before anything moves.
Indexes are hard-linked, chunks are not touched. Stopped half way, the move goes on where it was when asked again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec

from ibs.core import manifest as manifests
from ibs.core.ids import digest
from ibs.core.manifest import MANIFEST_FILE, SIGNATURE_FILE, STATE_FILE, SnapshotState
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.engine.bin import Bin
from ibs.engine.context import StoreContext
from ibs.engine.folders import StoredSnapshot
from ibs.engine.modes import Use
from ibs.errors import BusyError, ConflictError, FormatError, NotFoundError, RefusedError, UsageError
from ibs.storage.local.layout import snapshot_folder


@dataclass(frozen=True, slots=True)
class Moved:
    """Snapshots by their new names, oldest first. Each has its old one in the bin."""

    snapshots: Sequence[SnapshotName]


async def move_group(
    context: StoreContext,
    bin_: Bin,
    moving: SnapshotName,
    target: Namespace,
    by: str,
    *,
    busy: Callable[[Namespace, Group], bool],
) -> Moved:
    """Move all snapshots of the group `moving`. `busy`: whether a session of a group is open; asked under its lock.

    Raises NotFoundError, UsageError, BusyError; ConflictError when the target has another group of that name;
    RefusedError when a snapshot is signed by its client, or locked; FormatError when one is damaged. *Durability*: each
    snapshot is durable in its new place before the old one goes. *Cancellation*: between snapshots; ask again to go on.
    """
    context.modes.require(Use.WRITE)
    context.modes.require(Use.PRUNE)
    source, group = moving.namespace, moving.group
    if source == target:
        raise UsageError(f"group {group} is in that namespace already")
    previous, moved = "", []
    async with AsyncExitStack() as held:
        for namespace in sorted((source, target), key=str):  # two moves against each other never wait for each other
            await held.enter_async_context(context.locks.of(namespace, group))
        for namespace in (source, target):  # who opens a session from here on waits until the move is over
            if busy(namespace, group):
                raise BusyError(
                    f"group {SnapshotName(namespace, group)} is being backed up",
                    hint="try again when the backup has ended",
                )
        old = await context.pool.disk(_gather, context, source, group)
        await context.pool.disk(_check_target, context, old, target)
        for stored in old:
            name, previous = await context.pool.disk(_issue, context, stored, target, previous)
            moved.append(name)
        for stored in old:
            if stored.state.protected:  # its protection has gone with it
                await context.pool.disk(context.folders.change_state, stored.name, _unprotected)
            await bin_.put_held(stored.name, by, f"moved to {SnapshotName(target, group)}")
    return Moved(moved)


def _unprotected(state: SnapshotState) -> SnapshotState:
    return msgspec.structs.replace(state, protected=False)


def _gather(context: StoreContext, source: Namespace, group: Group) -> list[StoredSnapshot]:
    """The group's snapshots, oldest first, all of them found fit to move."""
    times = context.folders.times(source, group)
    if not times:
        raise NotFoundError(f"group {SnapshotName(source, group)} not found")
    found = [context.folders.load(SnapshotName(source, group, moment)) for moment in times]
    for stored in found:
        context.retained.check(stored.name)
        if stored.signature.by != "server" or stored.manifest.mode != "plain":
            raise RefusedError(
                f"snapshot {stored.name} is signed by its client under that name; the server cannot state it anew",
                hint="leave the group where it is, and back up to the other namespace from now on",
            )
        manifests.verify(stored.manifest_bytes, stored.signature)
    return found


def _check_target(context: StoreContext, old: Sequence[StoredSnapshot], target: Namespace) -> None:
    """Nothing is there but what this move has made before it was stopped.

    Where all that is left of the old group is there already, only its removal was missing: whatever else has come to
    the new group since, and whatever has left the bin, does not matter then.
    """
    source, group = old[0].name.namespace, old[0].name.group
    times = context.folders.times(target, group)
    if not times:
        return
    taken = ConflictError(f"there is a group {SnapshotName(target, group)} already", hint="choose another namespace")
    if context.folders.owner(target, group) != context.folders.owner(source, group):
        raise taken
    there = {moment: context.folders.load(SnapshotName(target, group, moment)) for moment in times}
    left = [stored for stored in old if stored.name.time not in there]
    for stored in old:
        if stored.name.time in there and not _is_made_from(there[stored.name.time], stored):
            raise taken
    if left:  # stopped while the old ones went to the bin, those that are there already count as well
        made = {stored.digest.hex() for stored in old} | _binned(context, SnapshotName(source, group))
        if any(one.manifest.source not in made for one in there.values()):
            raise taken


def _is_made_from(new: StoredSnapshot, old: StoredSnapshot) -> bool:
    """Whether `new` is what this server states anew of `old`: signed by it, of the same content."""
    if new.signature.by != "server" or new.manifest.source != old.digest.hex():
        return False
    manifests.verify(new.manifest_bytes, new.signature)
    return (new.manifest.archives, new.manifest.blobs) == (old.manifest.archives, old.manifest.blobs)


def _binned(context: StoreContext, group: SnapshotName) -> set[str]:
    """Digests, in hex, of the group's manifests in the bin, as far as they can be read."""
    found = set()
    for entry in context.store.bin.entries():
        with contextlib.suppress(NotFoundError, FormatError):
            raw = context.store.bin.read(entry, MANIFEST_FILE)
            name = SnapshotName.parse(manifests.decode(raw).snapshot)
            if SnapshotName(name.namespace, name.group) == group:
                found.add(digest(raw).hex())
    return found


def _issue(context: StoreContext, stored: StoredSnapshot, target: Namespace, previous: str) -> tuple[SnapshotName, str]:
    """Publish the snapshot under its new name; returns that and its manifest's digest."""
    name = SnapshotName(target, stored.name.group, stored.name.time)
    if context.folders.exists(name):
        return name, context.folders.load(name).digest.hex()
    # As a plain object: what a later version has added to the manifest goes along.
    stated = msgspec.json.decode(stored.manifest_bytes)
    stated |= {"snapshot": str(name), "previous": previous, "source": stored.digest.hex()}
    raw = msgspec.json.format(msgspec.json.encode(stated), indent=1)
    manifest = manifests.decode(raw)
    owner = context.folders.owner(stored.name.namespace, stored.name.group)
    work = context.store.staging.create(context.new_id())
    try:
        content: dict[str, bytes | str] = {}
        for file in [*(f"{one.name}.idx" for one in manifest.archives), *(blob.name for blob in manifest.blobs)]:
            work.link(stored.folder, file, as_name=file)
            content[file] = f"{work.name}/{file}"
        content[STATE_FILE] = manifests.encode_state(stored.state)
        content[SIGNATURE_FILE] = manifests.encode_signature(manifests.sign(raw, context.signing_seed, "server"))
        content[MANIFEST_FILE] = raw
        if not context.folders.times(target, name.group):
            context.folders.set_owner(target, name.group, owner)
        context.store.publish(snapshot_folder(name), content, [SIGNATURE_FILE, MANIFEST_FILE])
    finally:
        with contextlib.suppress(NotFoundError):
            context.store.staging.remove(work.name)
    context.moved(context.uuid, str(name), True)
    return name, digest(raw).hex()
