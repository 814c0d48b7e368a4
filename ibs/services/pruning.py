"""Desk for retention and pruning: policies set and shown, plans shown, runs as tasks of type prune.

Made by `app`, used through `ServerContext`, and by the datastores' schedules. One run at a time a datastore. A run
without a policy in force removes nothing; what it removes goes to the bin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from ibs.core import limits
from ibs.core.access import ROOT
from ibs.core.events import EventSource, Severity
from ibs.core.names import Group, Namespace, SnapshotName, format_time
from ibs.core.retention import Policy
from ibs.core.tasks import TaskType
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.modes import Use
from ibs.engine.prune import GroupPlan, PrunePlan, Scope, execute, plan
from ibs.engine.retention import DATASTORE, Kept
from ibs.engine.task import Task
from ibs.engine.tasks import TaskRegistry
from ibs.errors import BusyError, UsageError
from ibs.wire.lifecycle import (
    PolicyBody,
    PruneDecision,
    PruneGroup,
    PrunePlanView,
    PruneRequest,
    RetentionSet,
    RetentionView,
)

Spawn = Callable[[Callable[[], Awaitable[object]]], None]
"""Run this in the background, for as long as the server lives."""
May = Callable[[Namespace, str], bool]
"""Whether groups of that owner in that namespace are the caller's to prune, or to see."""


class Pruning:
    """One a server. Methods raise NotFoundError and DatastoreOffline for the datastore besides what they say."""

    def __init__(self, datastores: Datastores, tasks: TaskRegistry, *, spawn: Spawn) -> None:
        self._datastores = datastores
        self._tasks = tasks
        self._spawn = spawn
        self._running: set[str] = set()

    # --- retention ---

    async def retention(self, store: str) -> list[RetentionView]:
        """Every policy that is set, the datastore's first. Raises FormatError."""
        record = await (await self._datastores.get(store)).retention.record()
        rows = [("", record.datastore), *record.namespaces.items()]
        found = [_retention_view(name, kept) for name, kept in rows if kept is not None]
        for name, kept in record.groups.items():
            view = _retention_view(str(SnapshotName.parse(name).namespace), kept)
            found.append(msgspec.structs.replace(view, level=f"job {kept.job}, {name}"))
        return found

    async def set_retention(self, store: str, auth_id: str, request: RetentionSet) -> RetentionView:
        """Set a policy for a namespace, or for the datastore. Raises UsageError."""
        datastore = await self._datastores.get(store)
        namespace, policy = Namespace.parse(request.namespace), policy_of(request.policy)
        kept = await datastore.retention.set(namespace, policy, auth_id, more_than_half=request.more_than_half)
        _tell_changed(datastore, auth_id, request.namespace, f"set to {policy}")
        return _retention_view(request.namespace, kept)

    async def clear_retention(self, store: str, auth_id: str, namespace: str) -> None:
        """Take a policy away. Raises NotFoundError when there is none."""
        datastore = await self._datastores.get(store)
        await datastore.retention.clear(Namespace.parse(namespace))
        _tell_changed(datastore, auth_id, namespace, "cleared")

    # --- pruning ---

    async def simulate(self, store: str, request: PruneRequest, may: May) -> PrunePlanView:
        """What a run would do now. Changes nothing. Raises UsageError, FormatError."""
        datastore = await self._datastores.get(store)
        scope = scope_of(request, may)
        found = await plan(datastore.context, datastore.retention, scope, count_bytes=request.count_bytes)
        return _plan_view(found)

    async def run(self, store: str, auth_id: str, request: PruneRequest, may: May | None) -> str:
        """Prune as a task; return its UPID. Raises UsageError, BusyError, Quarantined, UnderMaintenance."""
        datastore = await self._datastores.get(store)
        datastore.context.modes.require(Use.PRUNE)
        scope = scope_of(request, may)
        if store in self._running:
            raise BusyError(f"datastore {store} is being pruned already", hint="see: ironcore-backup task list")
        self._running.add(store)
        try:
            task = await self._tasks.start(TaskType.PRUNE, _subject(store, request), auth_id)
        except BaseException:
            self._running.discard(store)
            raise
        self._spawn(lambda: self._work(task, datastore, scope, override=request.override))
        return task.upid

    async def run_due(self, datastore: Datastore) -> None:
        """Prune a datastore that has a policy; its schedule's work. Raises what `run` does, FormatError."""
        record = await datastore.retention.record()
        if record.datastore is not None or record.namespaces or record.groups:
            await self.run(datastore.name, str(ROOT), PruneRequest(), None)

    async def _work(self, task: Task, datastore: Datastore, scope: Scope, *, override: bool) -> None:
        async def work(task: Task) -> str:
            found = await plan(datastore.context, datastore.retention, scope)
            return await _prune(task, datastore, found, override=override)

        try:
            await task.run(work)
        finally:
            self._running.discard(datastore.name)


async def _prune(task: Task, datastore: Datastore, found: PrunePlan, *, override: bool) -> str:
    if not found.groups:
        task.log("info", "no retention is set where this looks: nothing is removed")

    def tell(level: str, text: str) -> None:
        if level == "warning":
            task.warn(text)
        else:
            task.log(level, text)

    context, bin_, retention = datastore.context, datastore.bin, datastore.retention
    done = await execute(context, bin_, found, task.auth_id, tell, retention=retention, override=override)
    if done.stopped:
        task.log("info", "look: ironcore-backup prune simulate STORE; if that is meant: prune run STORE --override")
    text = f"{done.kept} snapshots kept, {len(done.removed)} moved to the bin"
    if done.stopped:
        text += f", {len(done.stopped)} groups left alone"
    task.log("info", text)
    return text


def policy_of(body: PolicyBody) -> Policy:
    """The checked policy. Raises UsageError."""
    return Policy(**msgspec.structs.asdict(body)).checked()


def scope_of(request: PruneRequest, may: May | None) -> Scope:
    """What a request means. Raises UsageError."""
    group = Group.parse(request.group) if request.group else None
    policy = policy_of(request.policy) if request.policy is not None else None
    if policy is not None and not policy.counts():
        raise UsageError("the policy has no rule", hint="give at least one, such as --keep-daily 7")
    return Scope(namespace=Namespace.parse(request.namespace), group=group, policy=policy, may=may)


def _subject(store: str, request: PruneRequest) -> str:
    parts = [f"ns:{request.namespace}"] if request.namespace else []
    if request.group:
        parts.append(request.group)
    return ":".join([store, "/".join(parts)]) if parts else store


def _policy_body(policy: Policy) -> PolicyBody:
    return PolicyBody(**msgspec.structs.asdict(policy))


def _retention_view(namespace: str, kept: Kept) -> RetentionView:
    return RetentionView(
        level=f"namespace {namespace}" if namespace else DATASTORE,
        namespace=namespace,
        policy=_policy_body(kept.policy),
        text=str(kept.policy),
        more_than_half=kept.more_than_half,
        by=kept.by,
        time=kept.time,
    )


def _plan_view(found: PrunePlan) -> PrunePlanView:
    groups = [_group_view(group) for group in found.groups]
    return PrunePlanView(
        groups=groups,
        keep=sum(group.keep + (group.remove if group.stopped else 0) for group in groups),
        remove=sum(group.remove for group in groups if not group.stopped),
        stopped=sum(1 for group in groups if group.stopped),
        without_policy=found.without_policy,
        freed_bytes=found.freed.stored_bytes,
        freed_note=found.freed.note,
    )


def _group_view(group: GroupPlan) -> PruneGroup:
    decisions = [
        PruneDecision(
            snapshot=one.candidate.name,
            time=format_time(one.candidate.time),
            keep=one.keep,
            rule=one.rule,
            period=one.period,
            plain_bytes=one.candidate.size,
        )
        for one in group.decisions
    ]
    return PruneGroup(
        group=group.name,
        level=group.level,
        policy=_policy_body(group.policy),
        text=str(group.policy),
        keep=len(decisions) - len(group.removals),
        remove=len(group.removals),
        stopped=group.brake,
        decisions=decisions,
    )


def _tell_changed(datastore: Datastore, auth_id: str, namespace: str, what: str) -> None:
    where = f"namespace {namespace} of {datastore.name}" if namespace else f"datastore {datastore.name}"
    text = f"retention of {where} {what} by {auth_id}"[: limits.EVENT_TEXT_CHARS_MAX]
    datastore.context.emit(
        EventSource.CONFIGURATION, Severity.NOTICE, "retention.changed", text, auth_id=auth_id, namespace=namespace
    )
