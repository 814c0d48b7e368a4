"""Snapshots of one store as values: read, decoded, remembered. Synchronous; call from the pool.

Used by `engine` only; `snapshots.SnapshotCatalog` is the async face. What is on disk is the truth: listings read
folders each time; only decoded snapshots are remembered, keyed by the stamp of their folder.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from ibs.core import limits, manifest
from ibs.core.ids import digest
from ibs.core.manifest import (
    MANIFEST_FILE,
    MARK_FILE,
    OWNER_FILE,
    SIGNATURE_FILE,
    STATE_FILE,
    GroupMark,
    GroupOwner,
    Manifest,
    Signature,
    SnapshotState,
)
from ibs.core.names import Group, Namespace, SnapshotName, format_time
from ibs.errors import FormatError, NotFoundError
from ibs.storage.local.layout import group_folder, snapshot_folder
from ibs.storage.local.snapshots import SnapshotFiles, Stamp


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot as read from disk. `digest` is BLAKE3-256 of the manifest's exact bytes."""

    name: SnapshotName
    manifest_bytes: bytes
    manifest: Manifest
    digest: bytes
    signature: Signature
    state: SnapshotState

    @property
    def folder(self) -> str:
        """Its folder below `ns/`."""
        return snapshot_folder(self.name)

    @property
    def encrypted(self) -> bool:
        """True when only its key can read it."""
        return self.manifest.mode == "encrypted"

    @property
    def verify_failed(self) -> bool:
        """True when the last verification found something wrong (P8: nothing may be reused then)."""
        return self.state.verify is not None and self.state.verify.result not in ("OK", "")


class SnapshotFolders:
    """Thread-safe."""

    def __init__(self, files: SnapshotFiles) -> None:
        self.files = files
        self._lock = threading.Lock()
        self._known: OrderedDict[SnapshotName, tuple[Stamp, StoredSnapshot]] = OrderedDict()

    def every(self) -> Iterator[SnapshotName]:
        """Names of all snapshots of the store."""
        for namespace in self.files.namespaces():
            for group in self.files.groups(namespace):
                for moment in self.files.times(namespace, group):
                    yield SnapshotName(namespace, group, moment)

    def times(self, namespace: Namespace, group: Group) -> list[datetime]:
        """Times of the group's snapshots, oldest first."""
        return self.files.times(namespace, group)

    def newest(self, namespace: Namespace, group: Group) -> SnapshotName | None:
        """The group's newest snapshot."""
        times = self.times(namespace, group)
        return SnapshotName(namespace, group, times[-1]) if times else None

    def resolve(self, name: SnapshotName) -> SnapshotName:
        """The name with its time: as given, or the group's newest. Raises NotFoundError."""
        found = name if name.time is not None else self.newest(name.namespace, name.group)
        if found is None or not self.files.exists(found):
            raise _not_found(name)
        return found

    def exists(self, name: SnapshotName) -> bool:
        """A snapshot exists when its manifest does."""
        return self.files.exists(name)

    def load(self, name: SnapshotName) -> StoredSnapshot:
        """Read a snapshot (its name holds a time). Raises NotFoundError, FormatError."""
        folder = snapshot_folder(name)
        stamp = self.files.stamp(folder)
        if stamp is None:
            raise _not_found(name)
        with self._lock:
            known = self._known.get(name)
            if known is not None and known[0] == stamp:
                self._known.move_to_end(name)
                return known[1]
        try:
            stored = self._read(name, folder)
        except FormatError as error:
            if str(name) in error.message:
                raise
            raise FormatError(
                f"snapshot {name} is damaged: {error.message}",
                hint="restore another snapshot of the group, and see: ironcore-backup verify start STORE",
            ) from error
        with self._lock:
            self._known[name] = (stamp, stored)
            if len(self._known) > limits.SNAPSHOTS_REMEMBERED:
                self._known.popitem(last=False)
        return stored

    def _read(self, name: SnapshotName, folder: str) -> StoredSnapshot:
        try:
            content = self.files.read(folder, MANIFEST_FILE, limit=limits.MANIFEST_BYTES_MAX)
        except NotFoundError:
            raise _not_found(name) from None
        stated = manifest.decode(content)
        if stated.snapshot != str(name):
            # A folder renamed or copied by hand must not pass for another snapshot.
            raise FormatError(
                f"the manifest of {name} names {stated.snapshot}", hint="put the folder back in its place"
            )
        try:
            signature = self.files.read(folder, SIGNATURE_FILE, limit=limits.SIGNATURE_BYTES_MAX)
        except NotFoundError:
            raise FormatError(f"snapshot {name} has no {SIGNATURE_FILE}", hint="restore it from a replica") from None
        return StoredSnapshot(
            name, content, stated, digest(content), manifest.decode_signature(signature), self.state(name)
        )

    def state(self, name: SnapshotName) -> SnapshotState:
        """What may change about a snapshot. Raises FormatError."""
        try:
            return manifest.decode_state(
                self.files.read(snapshot_folder(name), STATE_FILE, limit=limits.STATE_BYTES_MAX)
            )
        except NotFoundError:
            return SnapshotState()

    def change_state(self, name: SnapshotName, change: Callable[[SnapshotState], SnapshotState]) -> SnapshotState:
        """Read, change and durably replace `state.json`. The caller holds the group's lock. Raises NotFoundError."""
        if not self.exists(name):
            raise _not_found(name)
        try:
            before = self.state(name)
        except FormatError:
            before = SnapshotState()  # torn or foreign: what it said is lost, what we say now is not
        after = change(before)
        self.files.write_state(snapshot_folder(name), manifest.encode_state(after))
        self.forget(name)  # the folder's stamp may be too coarse for two changes in a row
        return after

    def forget(self, name: SnapshotName) -> None:
        """Read the snapshot from disk next time: bytes that rot in place do not change their folder's stamp."""
        with self._lock:
            self._known.pop(name, None)

    def owner(self, namespace: Namespace, group: Group) -> str:
        """Auth-id of the group's owner; "" while the group has no snapshot. Raises FormatError.

        The first snapshot makes the owner: a record left by a commit that failed before it means nothing.
        """
        if not self.times(namespace, group):
            return ""
        try:
            content = self.files.read(group_folder(namespace, group), OWNER_FILE, limit=limits.STATE_BYTES_MAX)
        except NotFoundError:
            raise FormatError(
                f"group {group} has no {OWNER_FILE}", hint="restore the file from a replica: nobody owns the group now"
            ) from None
        return manifest.decode_owner(content).owner

    def mark(self, namespace: Namespace, group: Group) -> GroupMark:
        """The last number and time that left the group; zeros when none did. Raises FormatError."""
        try:
            content = self.files.read(group_folder(namespace, group), MARK_FILE, limit=limits.STATE_BYTES_MAX)
        except NotFoundError:
            return GroupMark()
        return manifest.decode_mark(content)

    def note_leaving(self, name: SnapshotName) -> None:
        """Call before the snapshot leaves its group: neither its number nor its time is given again there.

        A client takes a number that goes behind for a server set back, and an undo needs the name to be free.
        *Durability*: durable when it returns. The caller holds the group's lock.
        """
        if name.time is None or self.newest(name.namespace, name.group) != name:
            return  # a newer one is there and goes on counting
        try:
            sequence = self.load(name).manifest.sequence
        except FormatError:
            sequence = 0
        try:
            before = self.mark(name.namespace, name.group)
        except FormatError:
            before = GroupMark()  # torn or foreign: what we say now holds
        after = GroupMark(sequence=max(sequence, before.sequence), time=max(format_time(name.time), before.time))
        if after != before:
            self.files.write_group_mark(name.namespace, name.group, manifest.encode_mark(after))

    def set_owner(self, namespace: Namespace, group: Group, owner: str) -> None:
        """*Durability*: durable when it returns. The caller holds the group's lock."""
        self.files.write_group_owner(namespace, group, manifest.encode_owner(GroupOwner(owner=owner)))


def _not_found(name: SnapshotName) -> NotFoundError:
    return NotFoundError(f"snapshot {name} not found", hint="list them: ironcore-backup-client snapshot list")
