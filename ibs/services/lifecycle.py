"""Desk for the life of snapshots: notes, protection, forgetting, the bin, namespaces, owners, the store's clock.

Made by `app`, used through `ServerContext`. Whose groups a caller may touch is decided by the routes and handed in as
`owner`: "" for every group, else only those that this identity owns; others are answered as if they did not exist.
Every change is told as an event with who made it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ibs.core.access import owns
from ibs.core.events import EventSource, Severity
from ibs.core.locks import Period, current
from ibs.core.names import Group, Namespace, SnapshotName, format_time, parse_time
from ibs.engine.bin import BinEntry
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.moving import move_group
from ibs.errors import FormatError, NotFoundError, UsageError
from ibs.units import format_duration
from ibs.wire.datastore import SnapshotView
from ibs.wire.lifecycle import (
    BinEmptied,
    BinView,
    ClockView,
    ComplianceSet,
    ComplianceView,
    GroupMoved,
    GroupOwnerChanged,
    NamespaceRemoved,
    NamespaceView,
    SnapshotChange,
    SnapshotLock,
)

May = Callable[[Namespace, str], bool]
"""Whether groups of that owner in that namespace are the caller's."""


_WITH_TIME = "write it like host/web01/2026-11-22T19:00:00Z"


class Lifecycle:
    """One a server. Methods raise NotFoundError and DatastoreOffline for the datastore besides what they say."""

    def __init__(self, datastores: Datastores) -> None:
        self._datastores = datastores

    # --- snapshots ---

    async def change(self, store: str, auth_id: str, request: SnapshotChange, *, owner: str) -> SnapshotView:
        """Change notes or protection. Raises NotFoundError, UsageError."""
        datastore = await self._datastores.get(store)
        name = await self._own(datastore, request.snapshot, owner)
        view = await datastore.snapshots.annotate(name, notes=request.notes, protected=request.protected)
        if request.protected is not None:
            what = "protected" if request.protected else "unprotected"
            _tell(datastore, f"snapshot.{what}", f"snapshot {name} of {store} was {what} by {auth_id}", auth_id)
        return view

    async def lock(self, store: str, auth_id: str, request: SnapshotLock) -> SnapshotView:
        """Lock a snapshot: nobody can remove it before. Raises NotFoundError, UsageError, RefusedError."""
        if SnapshotName.parse(request.snapshot).time is None:
            raise UsageError(f"snapshot {request.snapshot} names no time", hint=_WITH_TIME)
        until = parse_time(request.until)
        datastore = await self._datastores.get(store)
        context = datastore.context
        name = await datastore.snapshots.resolve(SnapshotName.parse(request.snapshot))
        async with context.locks.of(name.namespace, name.group):
            await context.pool.disk(context.retained.lock, name, until, auth_id, context.clock.now())
        text = f"snapshot {name} of {store} was locked until {request.until} by {auth_id}"
        _tell(datastore, "snapshot.locked", text, auth_id)
        return await datastore.snapshots.snapshot_view(name)

    async def compliance(self, store: str) -> list[ComplianceView]:
        """Namespaces whose snapshots are locked by themselves, by name."""
        context = (await self._datastores.get(store)).context
        record = await context.pool.disk(context.retained.record)
        return [_compliance_view(space, periods) for space, periods in record.namespaces.items()]

    async def set_compliance(self, store: str, auth_id: str, request: ComplianceSet) -> ComplianceView:
        """Lock all snapshots of a namespace for a time after they were made. Raises UsageError."""
        datastore = await self._datastores.get(store)
        context, space = datastore.context, Namespace.parse(request.namespace)
        retained, seconds = context.retained, request.seconds
        await context.pool.disk(retained.set_period, space, seconds, auth_id, context.clock.now())
        where, how = f"namespace {space} of {store}" if space.parts else store, format_duration(seconds)
        text = (
            f"snapshots of {where} are locked for {how} from now on" if seconds else f"compliance mode of {where} ends"
        )
        _tell(datastore, "namespace.compliance", f"{text}, by {auth_id}", auth_id)
        record = await context.pool.disk(retained.record)
        return _compliance_view(str(space), record.namespaces.get(str(space), []))

    async def forget(self, store: str, auth_id: str, snapshot: str, why: str, *, owner: str) -> BinView:
        """Move a snapshot to the bin. Raises NotFoundError, RefusedError when it is protected, UsageError without a
        time: the newest must be meant on purpose.
        """
        if SnapshotName.parse(snapshot).time is None:
            raise UsageError(f"snapshot {snapshot} names no time", hint=_WITH_TIME)
        datastore = await self._datastores.get(store)
        name = await self._own(datastore, snapshot, owner)
        entry = await datastore.bin.put(name, auth_id, why)
        _tell(datastore, "snapshot.forgotten", f"snapshot {name} of {store} was forgotten by {auth_id}", auth_id)
        return _bin_view(datastore, entry)

    async def _own(self, datastore: Datastore, snapshot: str, owner: str) -> SnapshotName:
        """The full name of a snapshot that the caller may touch, damaged ones included. Raises NotFoundError."""
        name = await datastore.snapshots.resolve(SnapshotName.parse(snapshot))
        if owner:
            try:
                whose = await datastore.snapshots.owner(name.namespace, name.group)
            except FormatError:
                whose = ""
            if not whose or not owns(owner, whose):
                raise NotFoundError(f"snapshot {snapshot} not found")
        return name

    # --- the bin ---

    async def bin_list(self, store: str, may: May) -> list[BinView]:
        """What is in the bin, of groups that the caller may see."""
        datastore = await self._datastores.get(store)
        entries = await datastore.bin.entries()
        return [_bin_view(datastore, one) for one in entries if may(one.snapshot.namespace, one.owner)]

    async def bin_undo(self, store: str, auth_id: str, entry: str, may: May) -> str:
        """Move an entry back; returns the snapshot. Raises NotFoundError, ConflictError."""
        datastore = await self._datastores.get(store)

        def check(found: BinEntry) -> None:
            if not may(found.snapshot.namespace, found.owner):
                raise NotFoundError(f"{entry} is not in the bin")

        name = await datastore.bin.undo(entry, check)
        _tell(
            datastore, "snapshot.undone", f"snapshot {name} of {store} was taken out of the bin by {auth_id}", auth_id
        )
        return str(name)

    async def bin_empty(self, store: str, auth_id: str, entry: str) -> BinEmptied:
        """Remove one entry, or all, for good. Raises NotFoundError."""
        datastore = await self._datastores.get(store)
        found = [await datastore.bin.find(entry)] if entry else await datastore.bin.entries()
        removed = []
        for one in found:
            try:
                await datastore.bin.purge(one.entry)
            except NotFoundError:
                continue  # its time had come, or somebody took it out
            removed.append(str(one.snapshot))
        if removed:
            text = f"{len(removed)} snapshots of {store} were removed from the bin for good by {auth_id}"
            _tell(datastore, "bin.emptied", text, auth_id)
        return BinEmptied(removed=removed)

    # --- the clock ---

    async def clock(self, store: str) -> ClockView:
        """The store's own clock."""
        return _clock_view(await self._datastores.get(store))

    async def confirm_clock(self, store: str, auth_id: str) -> ClockView:
        """The machine's clock is right, says the caller: the store's goes on from it."""
        datastore = await self._datastores.get(store)
        frozen = datastore.context.time.frozen
        await datastore.context.pool.disk(datastore.context.time.confirm, auth_id)
        text = f"the clock of {store} was confirmed by {auth_id}" + (f"; it stood still: {frozen}" if frozen else "")
        _tell(datastore, "datastore.clock-confirmed", text, auth_id)
        return _clock_view(datastore)

    # --- namespaces and groups ---

    async def namespaces(self, store: str, sees: Callable[[Namespace], bool]) -> list[NamespaceView]:
        """Those that the caller may see, each before those in it."""
        datastore = await self._datastores.get(store)
        return [
            NamespaceView(namespace=str(one.namespace), groups=one.groups, snapshots=one.snapshots)
            for one in await datastore.namespaces.filled()
            if sees(one.namespace)
        ]

    async def create_namespace(self, store: str, auth_id: str, namespace: str) -> NamespaceView:
        """Make a namespace and those above it. Raises UsageError, ConflictError."""
        datastore = await self._datastores.get(store)
        space = Namespace.parse(namespace)
        await datastore.namespaces.create(space)
        _tell(datastore, "namespace.created", f"namespace {space} of {store} was made by {auth_id}", auth_id)
        return NamespaceView(namespace=str(space), groups=0, snapshots=0)

    async def remove_namespace(self, store: str, auth_id: str, namespace: str, *, recursive: bool) -> NamespaceRemoved:
        """Remove a namespace. Raises what `Namespaces.remove` does."""
        datastore = await self._datastores.get(store)
        gone = await datastore.namespaces.remove(Namespace.parse(namespace), auth_id, recursive=recursive)
        text = f"namespace {namespace} of {store} was removed by {auth_id}, {len(gone.to_bin)} snapshots are in the bin"
        _tell(datastore, "namespace.removed", text, auth_id)
        return NamespaceRemoved(removed=_words(gone.namespaces), to_bin=_words(gone.to_bin))

    async def set_owner(self, store: str, auth_id: str, group: str, owner: str) -> GroupOwnerChanged:
        """Give a group to another identity. Raises UsageError, NotFoundError."""
        datastore = await self._datastores.get(store)
        name = group_of(group)
        before = await datastore.namespaces.set_owner(name.namespace, name.group, owner)
        text = f"group {name} of {store} was given to {owner} by {auth_id}; it was {before or 'without an owner'}"
        _tell(datastore, "group.owner-changed", text, auth_id)
        return GroupOwnerChanged(group=str(name), owner=owner, before=before)

    async def move_group(self, store: str, auth_id: str, group: str, namespace: str) -> GroupMoved:
        """Move a group to another namespace. Raises what `engine.moving.move_group` does."""
        datastore = await self._datastores.get(store)
        name, target = group_of(group), Namespace.parse(namespace)

        def busy(namespace: Namespace, of: Group) -> bool:
            facts = [one.facts.name for one in datastore.sessions.open_sessions]
            return any((one.namespace, one.group) == (namespace, of) for one in facts)

        moved = await move_group(datastore.context, datastore.bin, name, target, auth_id, busy=busy)
        text = f"group {name} of {store} was moved to namespace {target or 'root'} by {auth_id}"
        _tell(datastore, "group.moved", text, auth_id)
        return GroupMoved(snapshots=_words(moved.snapshots))


def group_of(text: str) -> SnapshotName:
    """A group with its namespace, such as `ns:a/b/host/web01`. Raises UsageError."""
    name = SnapshotName.parse(text)
    if name.time is not None:
        raise UsageError(f"{text[:200]!r} is a snapshot, not a group", hint="leave its time out: host/web01")
    return SnapshotName(name.namespace, Group.parse(str(name.group)))


def _words(values: Sequence[object]) -> list[str]:
    return [str(value) for value in values]


def _bin_view(datastore: Datastore, entry: BinEntry) -> BinView:
    due = datastore.bin.due(entry)
    waits = datastore.context.time.frozen or datastore.context.modes.reason
    return BinView(
        entry=entry.entry,
        snapshot=str(entry.snapshot),
        owner=entry.owner,
        forgotten=entry.time,
        by=entry.by,
        why=entry.why,
        due=format_time(due) if due is not None else "",
        plain_bytes=entry.plain_bytes,
        waits=waits,
    )


def _compliance_view(namespace: str, periods: Sequence[Period]) -> ComplianceView:
    now = current(periods)
    return ComplianceView(
        namespace=namespace,
        seconds=now.seconds if now is not None else 0,
        by=now.by if now is not None else "",
        time=now.time if now is not None else "",
        earlier_seconds=max((one.seconds for one in periods if one.ended), default=0),
    )


def _clock_view(datastore: Datastore) -> ClockView:
    record = datastore.context.time.record
    return ClockView(
        store=datastore.name,
        time=format_time(datetime.fromtimestamp(record.seconds, UTC)),
        wall=format_time(datastore.context.clock.now()),
        frozen=record.frozen,
        confirmed=record.confirmed,
        confirmed_by=record.confirmed_by,
    )


def _tell(datastore: Datastore, kind: str, text: str, auth_id: str) -> None:
    datastore.context.emit(EventSource.DATASTORE, Severity.NOTICE, kind, text[:4000], auth_id=auth_id)
