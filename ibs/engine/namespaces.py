"""Namespaces of a datastore: made, listed with what is in them, removed; and the owner of a group, set anew.

Used by `services` as `Datastore.namespaces`. A namespace is a folder; one that a backup names comes into being with it.
Only an empty one is removed, unless all its snapshots are to go to the bin first; undo brings it back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from ibs.core.access import check_auth_id
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.engine.bin import Bin
from ibs.engine.context import StoreContext
from ibs.engine.modes import Use
from ibs.errors import ConflictError, FormatError, NotFoundError, RefusedError, UsageError


@dataclass(frozen=True, slots=True)
class Filled:
    """A namespace and what is directly in it."""

    namespace: Namespace
    groups: int
    snapshots: int


@dataclass(frozen=True, slots=True)
class Removed:
    """Namespaces that are gone, deepest first, and snapshots that went to the bin."""

    namespaces: Sequence[Namespace]
    to_bin: Sequence[SnapshotName]


class Namespaces:
    """Methods raise DatastoreOffline, and what the datastore's mode forbids, besides what they say."""

    def __init__(self, context: StoreContext, bin_: Bin) -> None:
        self._context = context
        self._bin = bin_
        self._files = context.folders.files

    async def filled(self) -> Sequence[Filled]:
        """The root, then every namespace, each before those in it."""
        return await self._context.pool.disk(self._filled)

    async def create(self, namespace: Namespace) -> None:
        """Make a namespace and those above it. Raises UsageError for the root, ConflictError when it exists.

        *Durability*: durable when it returns.
        """
        self._context.modes.require(Use.WRITE)
        _check_not_root(namespace)
        if namespace in await self._context.pool.disk(self._files.namespaces):
            raise ConflictError(f"namespace {namespace} exists already")
        await self._context.pool.disk(self._files.make_namespace, namespace)

    async def remove(self, namespace: Namespace, by: str, *, recursive: bool = False) -> Removed:
        """Remove an empty namespace; with `recursive` also those below it, their snapshots go to the bin.

        Raises UsageError for the root, NotFoundError, ConflictError when it is not empty; RefusedError, before anything
        is moved, when a snapshot in it is protected. *Cancellation*: between snapshots; what went can be undone.
        """
        self._context.modes.require(Use.PRUNE)
        _check_not_root(namespace)
        below, names = await self._context.pool.disk(self._within, namespace)
        if not below:
            raise NotFoundError(f"namespace {namespace} not found", hint="list them: ironcore-backup namespace list")
        if not recursive and (len(below) > 1 or names):
            raise ConflictError(
                f"namespace {namespace} is not empty: {len(names)} snapshots, {len(below) - 1} namespaces below it",
                hint="with --recursive all of them go to the bin first",
            )
        await self._context.pool.disk(self._check_unprotected, names)
        for name in names:
            await self._bin.put(name, by, f"namespace {namespace} was removed")
        gone = list(reversed(below))
        for one in gone:
            await self._remove_folder(one)
        return Removed(gone, names)

    async def _remove_folder(self, namespace: Namespace) -> None:
        groups = await self._context.pool.disk(self._files.groups, namespace)
        async with AsyncExitStack() as held:
            for group in groups:  # a backup that begins meanwhile finds its group whole, or makes it anew
                await held.enter_async_context(self._context.locks.of(namespace, group))
            await self._context.pool.disk(self._files.remove_namespace, namespace, groups)

    async def set_owner(
        self, namespace: Namespace, group: Group, owner: str, allowed: Callable[[str], None] | None = None
    ) -> str:
        """Give a group to another identity, also where its owner's record is lost; returns who it was, "" if unknown.

        Raises UsageError, NotFoundError. *Durability*: durable when it returns.
        """
        self._context.modes.require(Use.WRITE)
        check_auth_id(owner)

        def change() -> str:
            if not self._context.folders.times(namespace, group):
                raise NotFoundError(f"group {SnapshotName(namespace, group)} not found")
            try:
                before = self._context.folders.owner(namespace, group)
            except FormatError:
                before = ""
            if allowed is not None:
                allowed(before)
            self._context.folders.set_owner(namespace, group, owner)
            return before

        async with self._context.locks.of(namespace, group):
            return await self._context.pool.disk(change)

    # --- in the pool ---

    def _filled(self) -> list[Filled]:
        found = []
        for namespace in self._files.namespaces():
            counts = [len(self._files.times(namespace, group)) for group in self._files.groups(namespace)]
            found.append(Filled(namespace, sum(1 for count in counts if count), sum(counts)))
        return found

    def _within(self, namespace: Namespace) -> tuple[list[Namespace], list[SnapshotName]]:
        depth = len(namespace.parts)
        below = [one for one in self._files.namespaces() if one.parts[:depth] == namespace.parts]
        names = [
            SnapshotName(one, group, moment)
            for one in below
            for group in self._files.groups(one)
            for moment in self._files.times(one, group)
        ]
        return below, names

    def _check_unprotected(self, names: Sequence[SnapshotName]) -> None:
        for name in names:
            try:
                protected = self._context.folders.state(name).protected
            except FormatError:
                protected = True
            if protected:
                raise RefusedError(
                    f"snapshot {name} is protected; nothing was removed",
                    hint=f"first: ironcore-backup snapshot unprotect {self._context.name} {name}",
                )
            self._context.retained.check(name)


def _check_not_root(namespace: Namespace) -> None:
    if not namespace.parts:
        raise UsageError("the root namespace is always there", hint="name a namespace such as a/b")
