"""The snapshots of one datastore as others see them: lists, views, owners, and the result of verification.

Used by `services` and `control` as `Datastore.snapshots`. Everything is read from disk in the pool; a damaged snapshot
is listed as such and never hides the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ibs.core.access import owns
from ibs.core.manifest import SnapshotState, VerifyState
from ibs.core.names import Group, Namespace, SnapshotName, format_time
from ibs.engine.context import StoreContext
from ibs.engine.folders import StoredSnapshot
from ibs.engine.modes import Use
from ibs.errors import FormatError, NotFoundError
from ibs.wire.datastore import ArchiveView, GroupView, SnapshotView

Groups = list[Group]
Names = list[SnapshotName]
GroupViews = list[GroupView]


class SnapshotCatalog:
    """Read and note. Methods raise DatastoreOffline besides what they say."""

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._folders = context.folders

    async def namespaces(self) -> list[Namespace]:
        """The root and every namespace below."""
        return await self._context.pool.disk(self._folders.files.namespaces)

    async def groups(self, namespace: Namespace) -> Groups:
        """Groups of a namespace that have a snapshot, sorted."""
        return await self._context.pool.disk(self._groups, namespace)

    async def list(self, namespace: Namespace, group: Group | None = None) -> Sequence[SnapshotName]:
        """Names in a namespace or group, oldest first within each group."""
        return await self._context.pool.disk(self._names, namespace, group)

    async def every(self) -> Sequence[SnapshotName]:
        """Names of all snapshots in all namespaces."""
        return await self._context.pool.disk(lambda: list(self._folders.every()))

    async def needing_key(self, fingerprint: str) -> Sequence[SnapshotName]:
        """Those that only the data key with this fingerprint (colon form) can read."""

        def find() -> Sequence[SnapshotName]:
            return [name for name in self._folders.every() if self._key(name) == fingerprint]

        return await self._context.pool.disk(find)

    async def rekeying(self, names: Sequence[SnapshotName]) -> tuple[int, int]:
        """What a change of key costs where `names` are encrypted: groups whose newest snapshot is among them, and the
        plain bytes of those, which their next backups read whole, send and need room for.
        """

        def find() -> tuple[int, int]:
            held = set(names)
            groups = {(name.namespace, name.group) for name in held}
            newest = [name for group in groups if (name := self._folders.newest(*group)) in held]
            return len(newest), sum(map(self._plain_bytes, newest))

        return await self._context.pool.disk(find)

    async def newest(self, namespace: Namespace, group: Group) -> SnapshotName | None:
        """The group's newest snapshot."""
        return await self._context.pool.disk(self._folders.newest, namespace, group)

    async def resolve(self, name: SnapshotName) -> SnapshotName:
        """The name with its time; without one it is the group's newest. Raises NotFoundError."""
        return await self._context.pool.disk(self._folders.resolve, name)

    async def load(self, name: SnapshotName) -> StoredSnapshot:
        """Manifest, signature and state. Raises NotFoundError, FormatError."""
        return await self._context.pool.disk(lambda: self._folders.load(self._folders.resolve(name)))

    async def owner(self, namespace: Namespace, group: Group) -> str:
        """Auth-id of the group's owner; "" while it has no snapshot."""
        return await self._context.pool.disk(self._folders.owner, namespace, group)

    async def set_verify(self, name: SnapshotName, verify: VerifyState) -> None:
        """Note the outcome of a verification in `state.json`. Raises NotFoundError. *Durability*: durable."""

        def change(state: SnapshotState) -> SnapshotState:
            return msgspec.structs.replace(state, verify=verify)

        async with self._context.locks.of(name.namespace, name.group):
            await self._context.pool.disk(self._folders.change_state, name, change)

    async def annotate(
        self, name: SnapshotName, *, notes: str | None = None, protected: bool | None = None
    ) -> SnapshotView:
        """Change notes or protection; None leaves it. Raises NotFoundError, and what the datastore's mode forbids.

        *Durability*: durable when it returns.
        """
        self._context.modes.require(Use.REPAIR)  # in a quarantine too: what is protected then is safe after it

        def change(state: SnapshotState) -> SnapshotState:
            return msgspec.structs.replace(
                state,
                notes=state.notes if notes is None else notes,
                protected=state.protected if protected is None else protected,
            )

        async with self._context.locks.of(name.namespace, name.group):
            await self._context.pool.disk(self._folders.change_state, name, change)
        return await self.snapshot_view(name)

    # --- views ---

    async def group_views(self, namespace: Namespace) -> Sequence[GroupView]:
        """One row a group, sorted."""
        return await self._context.pool.disk(self._group_views, namespace)

    async def snapshot_views(self, namespace: Namespace, group: Group | None = None) -> Sequence[SnapshotView]:
        """One row a snapshot, oldest first within each group."""

        def views() -> Sequence[SnapshotView]:
            names = self._names(namespace, group)
            return [view for name in names if (view := self._view(name)) is not None]

        return await self._context.pool.disk(views)

    async def snapshot_view(self, name: SnapshotName, *, owner: str | None = None) -> SnapshotView:
        """One snapshot; with `owner` only if that identity owns its group. Raises NotFoundError."""

        def find() -> SnapshotView:
            found = self._folders.resolve(name)
            view = self._view(found)
            # Whoever may not see it gets the answer for what does not exist.
            if view is None or (owner is not None and not self._owned(found, owner)):
                raise NotFoundError(f"snapshot {name} not found")
            return view

        return await self._context.pool.disk(find)

    def _key(self, name: SnapshotName) -> str:
        """The key it is encrypted with; "" for none, for one that is gone meanwhile and for one that cannot be read."""
        try:
            manifest = self._folders.load(name).manifest
        except (NotFoundError, FormatError):
            return ""
        return manifest.key_fingerprint if manifest.mode == "encrypted" else ""

    def _plain_bytes(self, name: SnapshotName) -> int:
        """0 for one that is gone meanwhile or cannot be read."""
        try:
            return sum(archive.plain_bytes for archive in self._folders.load(name).manifest.archives)
        except (NotFoundError, FormatError):
            return 0

    def _owned(self, name: SnapshotName, auth_id: str) -> bool:
        owner = self._folders.owner(name.namespace, name.group)
        return bool(owner) and owns(auth_id, owner)

    def _groups(self, namespace: Namespace) -> Groups:
        return [group for group in self._folders.files.groups(namespace) if self._folders.times(namespace, group)]

    def _names(self, namespace: Namespace, group: Group | None) -> Names:
        groups = self._groups(namespace) if group is None else [group]
        return [SnapshotName(namespace, each, time) for each in groups for time in self._folders.times(namespace, each)]

    def _group_views(self, namespace: Namespace) -> GroupViews:
        found = []
        for group in self._groups(namespace):
            times = self._folders.times(namespace, group)
            if not times:
                continue
            try:
                owner = self._folders.owner(namespace, group)
            except FormatError:
                owner = ""
            newest = format_time(times[-1])
            found.append(
                GroupView(namespace=str(namespace), group=str(group), owner=owner, snapshots=len(times), newest=newest)
            )
        return found

    def _view(self, name: SnapshotName) -> SnapshotView | None:
        try:
            return self._with_lock(name, snapshot_view(self._folders.load(name)))
        except NotFoundError:
            return None  # removed between listing and looking
        except FormatError:
            return SnapshotView(
                snapshot=str(name),
                namespace=str(name.namespace),
                group=str(name.group),
                time=_time(name),
                owner=self._owner_or_nobody(name),
                plain_bytes=0,
                archives=[],
                verify="CORRUPT",
            )

    def _with_lock(self, name: SnapshotName, view: SnapshotView) -> SnapshotView:
        try:
            found = self._context.retained.until(name)
        except FormatError as error:
            return msgspec.structs.replace(view, locked_until="unknown", locked_by=error.message)
        if found is None:
            return view
        return msgspec.structs.replace(view, locked_until=format_time(found[0]), locked_by=found[1])

    def _owner_or_nobody(self, name: SnapshotName) -> str:
        try:
            return self._folders.owner(name.namespace, name.group)
        except FormatError:
            return ""


def snapshot_view(stored: StoredSnapshot) -> SnapshotView:
    """The wire form of a snapshot."""
    manifest, state = stored.manifest, stored.state
    return SnapshotView(
        snapshot=str(stored.name),
        namespace=str(stored.name.namespace),
        group=str(stored.name.group),
        time=_time(stored.name),
        owner=manifest.owner,
        plain_bytes=sum(archive.plain_bytes for archive in manifest.archives),
        archives=[
            ArchiveView(
                name=archive.name,
                kind=archive.kind,
                plain_bytes=archive.plain_bytes,
                chunks=archive.records,
                index_digest=archive.index_digest,
                key_fingerprint=archive.key_fingerprint,
            )
            for archive in manifest.archives
        ],
        warnings=manifest.warnings,
        protected=state.protected,
        notes=state.notes,
        verify=state.verify.result if state.verify is not None else "",
        signed_by=stored.signature.by,
        manifest_digest=stored.digest.hex(),
        source="" if isinstance(manifest.source, msgspec.UnsetType) else manifest.source,
        brought=not isinstance(state.brought, msgspec.UnsetType),
        brought_from="" if isinstance(state.brought, msgspec.UnsetType) else state.brought.remote,
    )


def _time(name: SnapshotName) -> str:
    return format_time(name.time) if name.time is not None else ""
