"""Where retention is kept: one record in the store, for the whole datastore and for namespaces of it.

Used by `engine.prune` and `services` as `Datastore.retention`. The record lies in the store, not in the server's state,
so that whoever attaches the store elsewhere finds its rules. The most specific wins: a group's own policy (that of the
job which writes it), else its namespace's, else
that of the nearest namespace above, else the datastore's; without any, nothing is ever removed.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import trio

from ibs.core import limits
from ibs.core.names import Group, Namespace, SnapshotName, format_time
from ibs.core.retention import Policy
from ibs.engine.context import StoreContext
from ibs.errors import FormatError, NotFoundError, UsageError
from ibs.storage.local.records import RETENTION

DATASTORE = "datastore"


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A policy as it was set. `more_than_half`: it may remove more than half of a group in one run, says `by`."""

    policy: Policy
    more_than_half: bool = False
    by: str = ""
    time: str = ""
    job: str = ""


class RetentionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`.ibs/retention.json` (contrib/docs/formats.md). `namespaces` by their written form, `groups` by theirs.

    A group's policy is that of the job which writes it, and counts for that group alone.
    """

    datastore: Kept | None = None
    namespaces: dict[str, Kept] = {}
    groups: dict[str, Kept] = {}


@dataclass(frozen=True, slots=True)
class Effective:
    """The policy in force. `level` is `datastore`, `namespace a/b`, `job NAME`, or `command` for one given with it."""

    policy: Policy
    level: str
    more_than_half: bool = False


class Retention:
    """One a datastore. Methods raise DatastoreOffline, and FormatError when the record is damaged."""

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._changing = trio.Lock()

    async def record(self) -> RetentionRecord:
        """All that is set."""
        return await self._context.pool.disk(self._read)

    async def set(self, namespace: Namespace, policy: Policy, by: str, *, more_than_half: bool = False) -> Kept:
        """For a namespace and those below it; the root's is the datastore's. Raises UsageError, DatastoreReadOnly.

        *Durability*: durable when it returns.
        """
        kept = Kept(
            policy=policy.checked(),
            more_than_half=more_than_half,
            by=by,
            time=format_time(self._context.clock.now()),
        )
        async with self._changing:
            await self._context.pool.disk(self._change, namespace, kept)
        return kept

    async def clear(self, namespace: Namespace) -> None:
        """Take a policy away: that of the level above counts again. Raises NotFoundError when there is none."""
        async with self._changing:
            await self._context.pool.disk(self._change, namespace, None)

    async def set_group(self, namespace: Namespace, group: Group, policy: Policy, job: str) -> None:
        """The policy of the job that wrote that group. Nothing is written when it is so already. Raises as `set`."""
        name = str(SnapshotName(namespace, group))
        async with self._changing:
            record = await self.record()
            before = record.groups.get(name)
            if before is not None and (before.policy, before.job) == (policy.checked(), job):
                return
            if before is None and len(record.groups) >= limits.RETENTION_GROUPS_MAX:
                raise UsageError(f"more than {limits.RETENTION_GROUPS_MAX} groups have a policy already")
            kept = Kept(policy=policy, by=f"job {job}", time=format_time(self._context.clock.now()), job=job)
            groups = dict(sorted({**record.groups, name: kept}.items()))
            await self._context.pool.disk(self._write, msgspec.structs.replace(record, groups=groups))

    async def clear_job(self, job: str) -> None:
        """The policies of that job count no more."""
        async with self._changing:
            record = await self.record()
            groups = {name: kept for name, kept in record.groups.items() if kept.job != job}
            if len(groups) != len(record.groups):
                await self._context.pool.disk(self._write, msgspec.structs.replace(record, groups=groups))

    def _write(self, record: RetentionRecord) -> None:
        self._context.store.records.write(RETENTION, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")

    def _read(self) -> RetentionRecord:
        data = self._context.store.records.read(RETENTION)
        if not data:
            return RetentionRecord()
        try:
            record = msgspec.json.decode(data, type=RetentionRecord)
            for name in record.namespaces:
                Namespace.parse(name)
            for kept in (record.datastore, *record.namespaces.values(), *record.groups.values()):
                if kept is not None:
                    kept.policy.checked()
        except (msgspec.MsgspecError, UsageError) as error:
            raise FormatError(
                f"the retention of datastore {self._context.name} cannot be read: {error}",
                hint="nothing is removed until it is set again: ironcore-backup retention set STORE …",
            ) from error
        return record

    def _change(self, namespace: Namespace, kept: Kept | None) -> None:
        try:
            record = self._read()
        except FormatError:
            if kept is None or namespace.parts:
                raise
            record = RetentionRecord()  # the datastore's policy is stated anew; what namespaces had is lost already
        name = str(namespace)
        if kept is None and (record.datastore is None if not name else name not in record.namespaces):
            raise NotFoundError(f"no retention is set for {'namespace ' + name if name else 'the datastore'}")
        if not name:
            record = msgspec.structs.replace(record, datastore=kept)
        else:
            others = {each: old for each, old in record.namespaces.items() if each != name}
            if kept is not None:
                if len(others) >= limits.RETENTION_NAMESPACES_MAX:
                    raise UsageError(f"more than {limits.RETENTION_NAMESPACES_MAX} namespaces have a policy already")
                others[name] = kept
            record = msgspec.structs.replace(record, namespaces=dict(sorted(others.items())))
        self._write(record)


def effective(record: RetentionRecord, namespace: Namespace, group: Group | None = None) -> Effective | None:
    """The policy in force in a namespace, or for a group there; None: nothing is removed there."""
    if group is not None and (own := record.groups.get(str(SnapshotName(namespace, group)))) is not None:
        return Effective(own.policy, f"job {own.job}", own.more_than_half)
    for depth in range(len(namespace.parts), 0, -1):
        name = "/".join(namespace.parts[:depth])
        kept = record.namespaces.get(name)
        if kept is not None:
            return Effective(kept.policy, f"namespace {name}", kept.more_than_half)
    if record.datastore is None:
        return None
    return Effective(record.datastore.policy, DATASTORE, record.datastore.more_than_half)
