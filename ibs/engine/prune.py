"""Pruning: by retention, what of a datastore goes to the bin; planned as a value first, then executed.

Used by `services.pruning`. A plan is what `prune simulate` prints and what `prune run` does, computed the same way from
what is on disk. Invariants: nothing is removed where no policy is in force; a group whose plan looks like an accident
(PROTOCOLS 14) is left alone and told, unless somebody overrides; what is removed goes to the bin and can be undone;
what was protected, or removed, since the plan was made is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ibs.core import limits
from ibs.core.events import EventSource, Severity
from ibs.core.index import IdLookup, distinct
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.core.retention import Candidate, Decision, Policy, decide, too_many, too_small
from ibs.engine.bin import Bin
from ibs.engine.context import StoreContext
from ibs.engine.modes import Use
from ibs.engine.references import of_snapshot, protected_ids
from ibs.engine.retention import Effective, Retention, effective
from ibs.engine.session.journal import id_array
from ibs.errors import BusyError, FormatError, NotFoundError, RefusedError
from ibs.ports.chunkstore import Address

COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What to prune: everything, a namespace with those below it, or one group (then `namespace` is its own).

    `policy` counts instead of the stored ones. `may` says which groups, by namespace and owner, are the caller's to
    prune; None: all.
    """

    namespace: Namespace = field(default_factory=Namespace)
    group: Group | None = None
    policy: Policy | None = None
    may: Callable[[Namespace, str], bool] | None = None


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """One group: each snapshot with its decision, newest first. `brake`: why nothing is removed all the same."""

    namespace: Namespace
    group: Group
    policy: Policy
    level: str
    decisions: Sequence[Decision]
    brake: str = ""

    @property
    def removals(self) -> list[Decision]:
        return [one for one in self.decisions if not one.keep]

    @property
    def name(self) -> str:
        return str(SnapshotName(self.namespace, self.group))


@dataclass(frozen=True, slots=True)
class Freed:
    """Bytes on disk that only the removed snapshots need, once bin and garbage collection are done with them.

    None when that was not counted; `note` says why.
    """

    stored_bytes: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """`freed` counts the groups that would really be pruned."""

    groups: Sequence[GroupPlan]
    freed: Freed
    without_policy: int = 0
    """Groups where no policy is in force."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a run did. `skipped`: snapshots left alone, with the reason."""

    kept: int
    removed: Sequence[SnapshotName]
    stopped: Sequence[GroupPlan]
    skipped: Sequence[tuple[SnapshotName, str]]


async def plan(context: StoreContext, retention: Retention, scope: Scope, *, count_bytes: bool = False) -> PrunePlan:
    """What a run would do now. Changes nothing. Raises FormatError when the retention's record is damaged.

    With `count_bytes` it reads every index of the datastore.
    """
    record = await retention.record()
    groups, without = [], 0
    for namespace, group in await context.pool.disk(lambda: list(_groups(context, scope))):
        if scope.policy is not None:
            found: Effective | None = Effective(scope.policy.checked(), COMMAND)
        else:
            found = effective(record, namespace, group)
        if found is None:
            without += 1
            continue
        made = await context.pool.disk(_plan_group, context, namespace, group, found)
        if made is not None:
            groups.append(made)
    doomed = [_name(one, each) for one in groups if not one.brake for each in one.removals]
    freed = Freed(None, "not counted")
    if count_bytes:
        freed = await context.pool.disk(unique_bytes, context, doomed)
    return PrunePlan(groups, freed, without)


async def execute(
    context: StoreContext,
    bin_: Bin,
    planned: PrunePlan,
    by: str,
    tell: Callable[[str, str], None],
    *,
    retention: Retention,
    override: bool = False,
) -> Pruned:
    """Move what the plan removes to the bin. `tell` gets a level and a line for each thing done.

    Each group is decided anew right before, under its lock: what the plan removed and what is found then, both, go.
    Raises FormatError when the retention's record is damaged; Quarantined, UnderMaintenance, DatastoreReadOnly.
    *Cancellation*: between snapshots; what went is undoable.
    """
    kept, removed, stopped, skipped = 0, [], [], []
    with context.modes.using(Use.PRUNE):
        for group in planned.groups:
            async with context.locks.of(group.namespace, group.group):
                now = await _decided_anew(context, retention, group)
                if now is None:
                    continue
                if now.brake and not override:
                    stopped.append(now)
                    kept += len(now.decisions)
                    tell("warning", f"{now.name}: nothing removed: {now.brake}")
                    _tell_stopped(context, now)
                    continue
                kept += len(now.decisions) - len(now.removals)
                for decision in reversed(now.removals):  # oldest first: stopped half way, the newest are still there
                    name = _name(now, decision)
                    try:
                        await bin_.put_held(name, by, f"pruned: {now.policy}")
                    except NotFoundError:
                        continue
                    except (RefusedError, BusyError) as error:
                        # A change of mode ends the run, a snapshot's own trouble does not.
                        context.modes.require(Use.PRUNE)
                        skipped.append((name, error.message))
                        tell("warning", f"{name}: left alone: {error.message}")
                        continue
                    removed.append(name)
                    tell("info", f"{name}: to the bin")
    return Pruned(kept, removed, stopped, skipped)


async def _decided_anew(context: StoreContext, retention: Retention, planned: GroupPlan) -> GroupPlan | None:
    """The group's plan as things are now, without removals that were not planned; None when nothing is left to do.

    A snapshot may have been protected, found bad, or removed since, and the retention changed. The caller holds the
    group's lock, so that it stays true.
    """
    found: Effective | None = Effective(planned.policy, COMMAND)
    if planned.level != COMMAND:
        found = effective(await retention.record(), planned.namespace, planned.group)
    if found is None:
        return None
    now = await context.pool.disk(_plan_group, context, planned.namespace, planned.group, found)
    if now is None:
        return None
    doomed = {one.candidate.name for one in planned.removals}
    decisions = [
        one if one.keep or one.candidate.name in doomed else replace(one, keep=True, rule="not planned")
        for one in now.decisions
    ]
    return replace(now, decisions=decisions, brake=_brake(found, decisions) or planned.brake)


def unique_bytes(context: StoreContext, names: Sequence[SnapshotName]) -> Freed:
    """Bytes on disk of chunks that only these snapshots refer to: no other snapshot, nothing in the bin, no session,
    no reader. Exact for this moment. Blocks; reads every index.
    """
    doomed = frozenset(names)
    try:
        gathered: dict[bytes, list[bytes]] = {}
        references = 0
        for name in names:
            for part in of_snapshot(context, name):
                references += len(part.ids)
                if references > limits.PRUNE_UNIQUE_CHUNKS_MAX:
                    return Freed(None, f"not counted: more than {limits.PRUNE_UNIQUE_CHUNKS_MAX} references")
                gathered.setdefault(part.domain or b"", []).append(distinct(part.ids).tobytes())
        return Freed(sum(_unique_in(context, domain, ids, doomed) for domain, ids in gathered.items()))
    except FormatError as error:
        return Freed(None, f"cannot be told: {error.message}")


def _unique_in(
    context: StoreContext, domain: bytes, gathered: Sequence[bytes], doomed: Collection[SnapshotName]
) -> int:
    candidates = distinct(id_array(b"".join(gathered)))
    lookup = IdLookup(candidates)
    alive = np.zeros(len(candidates), dtype=np.bool_)
    for part in protected_ids(context, without=doomed):
        if part.domain in (None, domain):
            at = lookup.positions(part.ids)
            alive[at[at >= 0]] = True
    left = candidates[~alive]
    total = 0
    for start in range(0, len(left), limits.STORE_DB_BATCH_ROWS):
        addresses = [Address(domain, one.tobytes()) for one in left[start : start + limits.STORE_DB_BATCH_ROWS]]
        total += sum(info.stored_bytes for info in context.store.info(addresses))
    return total


def _groups(context: StoreContext, scope: Scope) -> Iterator[tuple[Namespace, Group]]:
    files, depth = context.folders.files, len(scope.namespace.parts)
    for namespace in files.namespaces():
        if namespace.parts[:depth] != scope.namespace.parts:
            continue
        if scope.group is not None and namespace != scope.namespace:
            continue
        for group in files.groups(namespace):
            if scope.group is not None and group != scope.group:
                continue
            if scope.may is None or scope.may(namespace, _owner(context, namespace, group)):
                yield namespace, group


def _owner(context: StoreContext, namespace: Namespace, group: Group) -> str:
    try:
        return context.folders.owner(namespace, group)
    except FormatError:
        return ""


def _plan_group(context: StoreContext, namespace: Namespace, group: Group, found: Effective) -> GroupPlan | None:
    candidates = [
        candidate(context, SnapshotName(namespace, group, moment)) for moment in context.folders.times(namespace, group)
    ]
    decisions = decide(found.policy, candidates)
    if not decisions:
        return None
    return GroupPlan(namespace, group, found.policy, found.level, decisions, _brake(found, decisions))


def _brake(found: Effective, decisions: Sequence[Decision]) -> str:
    return too_small(decisions) if found.more_than_half else too_many(decisions) or too_small(decisions)


def candidate(context: StoreContext, name: SnapshotName) -> Candidate:
    """What retention needs to know of a snapshot; what cannot be read speaks for keeping."""
    assert name.time is not None  # noqa: S101 - a name from a listing
    try:
        protected = context.folders.state(name).protected
    except FormatError:
        protected = True
    locked = context.retained.locked(name)
    try:
        stored = context.folders.load(name)
    except (FormatError, NotFoundError):
        return Candidate(str(name), name.time, protected=protected, locked=locked, good=False)
    size = sum(archive.plain_bytes for archive in stored.manifest.archives)
    good = not stored.verify_failed
    return Candidate(str(name), name.time, protected=protected, locked=locked, good=good, size=size)


def _name(group: GroupPlan, decision: Decision) -> SnapshotName:
    return SnapshotName(group.namespace, group.group, decision.candidate.time)


def _tell_stopped(context: StoreContext, group: GroupPlan) -> None:
    text = f"pruning of {group.name} in {context.name} was stopped: {group.brake}"
    context.emit(
        EventSource.DATASTORE,
        Severity.WARNING,
        "prune.stopped",
        text[: limits.EVENT_TEXT_CHARS_MAX],
        group=group.name,
        removals=len(group.removals),
    )
