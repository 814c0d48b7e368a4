"""Watches over the backups of every group: late, missing, failed, of a suspicious size, and well again.

Made by `app`, used through `ServerContext.sla`. Rules and last states are kept in the catalog's settings, so that a
restart tells nothing twice. Invariants: an event comes once for each change of state; a group that is paused, or whose
jobs are all disabled, raises none; what cannot be looked at (a datastore that is offline) keeps its state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec
import trio

from ibs.core import limits
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import SnapshotName, format_time, parse_time
from ibs.core.sla import QUIET, Seen, SlaState, Terms, Verdict, judge, learn
from ibs.core.tasks import TaskState, TaskType
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.tasks import TaskRegistry
from ibs.errors import FormatError, IbsError, NotFoundError, UsageError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.wire.jobs import JobView
from ibs.wire.sla import SlaSet, SlaView

_RULES: Final = "sla-rules"
_STATES: Final = "sla-states"
_log = get_logger("scheduler")
Key = tuple[str, str]
"""Datastore, and group as it is written."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody set."""

    store: str
    group: str
    rpo_seconds: float
    min_bytes: int
    max_change_percent: int
    paused: bool
    by: str
    since: str


History = list[Seen]
Judged = list[tuple[Key, Rule | None, Terms | None, History, Verdict]]


class Keeper(Protocol):
    """The catalog's settings."""

    async def get(self, name: str) -> str | None: ...

    async def set(self, name: str, value: str) -> None: ...


class SlaWatch:
    """One a server."""

    def __init__(
        self,
        datastores: Datastores,
        tasks: TaskRegistry,
        kept: Keeper,
        *,
        clock: Clock,
        publish: Callable[[Event], None],
        jobs: Callable[[], Awaitable[Sequence[JobView]]] | None = None,
    ) -> None:
        self._datastores = datastores
        self._tasks = tasks
        self._kept = kept
        self._clock = clock
        self._publish = publish
        self._jobs = jobs
        self._sizes: dict[tuple[str, str], int] = {}
        self._one = trio.Lock()

    async def set(self, by: str, request: SlaSet) -> SlaView:
        """Watch a group by stated terms. Raises UsageError, NotFoundError. *Durability*: kept when it returns."""
        key = await self._resolve(request.store, request.group)
        async with self._one:
            rules = await self._rules()
            if key not in rules and len(rules) >= limits.SLA_RULES_MAX:
                raise UsageError(
                    f"there are {len(rules)} rules already", hint="take one away: ironcore-backup sla unset"
                )
            rules[key] = Rule(
                store=key[0],
                group=key[1],
                rpo_seconds=request.rpo_seconds,
                min_bytes=request.min_bytes,
                max_change_percent=request.max_change_percent,
                paused=request.paused,
                by=by,
                since=format_time(self._clock.now()),
            )
            await self._keep_rules(rules)
        return next(view for view in await self.list(key[0]) if _key_of(view) == key)

    async def unset(self, store: str, group: str) -> None:
        """Take a rule away; the group is watched by what is learned. Raises NotFoundError."""
        wanted = _written(group)
        async with self._one:
            rules = await self._rules()
            found = [key for key in rules if key[1] == wanted and store in {"", key[0]}]
            if not found:
                raise NotFoundError(f"no SLA is set for {wanted}", hint="see: ironcore-backup sla list")
            if len(found) > 1:
                raise UsageError(f"{wanted} has a rule in several datastores", hint="say which with --store")
            del rules[found[0]]
            await self._keep_rules(rules)

    async def list(self, store: str = "") -> list[SlaView]:
        """How each group stands now; of one datastore, or of all that can be looked at."""
        return [_view(key, rule, terms, seen, verdict) for key, rule, terms, seen, verdict in await self._judged(store)]

    async def check(self) -> None:
        """Look at all groups and tell what has changed."""
        judged = await self._judged("")
        async with self._one:
            text = await self._kept.get(_STATES)
            before: dict[str, str] = msgspec.json.decode(text, type=dict[str, str]) if text else {}
            after = dict(before)
            online = {store.name for store in self._datastores.opened()}
            present = {_joined(key) for key, *_rest in judged}
            for name in before:
                if name.partition(":")[0] in online and name not in present:
                    del after[name]
            for key, _rule, _terms, _seen, verdict in judged:
                self._tell(key, SlaState(before.get(_joined(key), SlaState.OK)), verdict)
                after[_joined(key)] = str(verdict.state)
            if after != before:
                await self._kept.set(_STATES, msgspec.json.encode(after).decode())

    async def run(self) -> None:
        """Look every few minutes, for ever."""
        while True:
            await self._clock.sleep(limits.SLA_CHECK_SECONDS)
            try:
                await self.check()
            except IbsError as error:
                _log.error("the backups could not be looked at", error=error.message)

    def _tell(self, key: Key, before: SlaState, verdict: Verdict) -> None:
        if verdict.state is before or (verdict.state in QUIET and before in QUIET) or verdict.state is SlaState.PAUSED:
            return
        cured = verdict.state in QUIET
        severity = Severity.ERROR if verdict.state in {SlaState.MISSING, SlaState.FAILED} else Severity.WARNING
        name = SnapshotName.parse(key[1])
        what = f"well again (it was {before})" if cured else f"{verdict.state}: {verdict.why}"
        fields = {"datastore": key[0], "namespace": str(name.namespace), "group": str(name.group)}
        self._publish(
            Event(
                time=self._clock.now(),
                source=EventSource.BACKUP,
                severity=Severity.NOTICE if cured else severity,
                kind="sla.cured" if cured else "sla." + str(verdict.state).rpartition(" ")[2],
                text=f"backups of {key[1]} in {key[0]}: {what}"[: limits.EVENT_TEXT_CHARS_MAX],
                fields={**fields, "state": str(verdict.state)},
            )
        )

    async def _judged(self, store: str) -> Judged:
        rules = await self._rules()
        found: Judged = []
        sizes: dict[tuple[str, str], int] = {}
        disabled, failures, now = await self._disabled(), await self._failures(), self._clock.now()
        for one in self._datastores.opened():
            if store not in {"", one.name}:
                continue
            histories = await self._histories(one, sizes)
            keys = dict.fromkeys([*((one.name, group) for group in histories), *(k for k in rules if k[0] == one.name)])
            for key in keys:
                rule, seen = rules.get(key), histories.get(key[1], [])
                paused = "paused by " + rule.by if rule is not None and rule.paused else disabled.get(key, "")
                terms, since = _terms(rule, seen), parse_time(rule.since) if rule is not None else now
                verdict = judge(terms, seen, now=now, since=since, failed=failures.get(_joined(key)), paused=paused)
                found.append((key, rule, terms, seen, verdict))
        self._sizes = sizes if not store else self._sizes | sizes
        return found

    async def _histories(self, store: Datastore, sizes: dict[tuple[str, str], int]) -> Mapping[str, History]:
        """The newest backups of each group, oldest first. A snapshot's size is read once: it never changes."""
        found: dict[str, History] = {}
        for namespace in await store.snapshots.namespaces():
            names: dict[str, list[SnapshotName]] = {}
            for name in await store.snapshots.list(namespace):
                names.setdefault(str(SnapshotName(name.namespace, name.group)), []).append(name)
            for group, snapshots in names.items():
                found[group] = []
                for name in snapshots[-limits.SLA_HISTORY :]:
                    kept = (store.name, str(name))
                    size = self._sizes.get(kept)
                    if size is None:
                        try:
                            size = (await store.snapshots.snapshot_view(name)).plain_bytes
                        except (FormatError, NotFoundError):
                            continue
                    sizes[kept] = size
                    if name.time is not None:
                        found[group].append(Seen(name.time, size))
        return found

    async def _failures(self) -> Mapping[str, datetime]:
        """When the last failed backup of each group ended."""
        views = await self._tasks.list(
            type=TaskType.BACKUP.value, state=TaskState.FAILED.value, limit=limits.SLA_FAILED_TASKS
        )
        return {view.id: parse_time(view.ended) for view in reversed(views) if view.ended}

    async def _disabled(self) -> Mapping[Key, str]:
        """Groups that only disabled jobs write, with the words for it."""
        found: dict[Key, list[JobView]] = {}
        for job in await self._jobs() if self._jobs is not None else ():
            for host in [job.spec.backup_id] if job.spec.backup_id else job.comes_to:
                space = f"ns:{job.spec.namespace}/" if job.spec.namespace else ""
                found.setdefault((job.spec.store, f"{space}{job.spec.backup_type}/{host}"), []).append(job)
        return {
            key: f"job {jobs[0].name} is disabled"
            for key, jobs in found.items()
            if not any(job.enabled for job in jobs)
        }

    async def _resolve(self, store: str, group: str) -> Key:
        wanted = _written(group)
        if store:
            await self._datastores.view(store)
            return store, wanted
        having = [one.name for one in self._datastores.opened() if wanted in await self._histories(one, {})]
        if len(having) != 1:
            what = "no datastore that is online has" if not having else "several datastores have"
            raise UsageError(f"{what} {wanted}", hint="say which with --store")
        return having[0], wanted

    async def _rules(self) -> dict[Key, Rule]:
        text = await self._kept.get(_RULES)
        return {(rule.store, rule.group): rule for rule in msgspec.json.decode(text or "[]", type=list[Rule])}

    async def _keep_rules(self, rules: Mapping[Key, Rule]) -> None:
        await self._kept.set(_RULES, msgspec.json.encode(list(rules.values())).decode())


def _terms(rule: Rule | None, seen: Sequence[Seen]) -> Terms | None:
    if rule is None or not (rule.rpo_seconds or rule.min_bytes or rule.max_change_percent):
        return learn(seen)
    return Terms(rpo_seconds=rule.rpo_seconds, bytes_min=rule.min_bytes, change_percent=rule.max_change_percent)


def _written(group: str) -> str:
    name = SnapshotName.parse(group)
    if name.time is not None:
        raise UsageError(f"{group[:200]!r} is a snapshot, not a group", hint="write it like host/web01")
    return str(name)


def _joined(key: Key) -> str:
    return f"{key[0]}:{key[1]}"


def _key_of(view: SlaView) -> Key:
    return view.store, f"ns:{view.namespace}/{view.group}" if view.namespace else view.group


def _view(key: Key, rule: Rule | None, terms: Terms | None, seen: Sequence[Seen], verdict: Verdict) -> SlaView:
    name, used = SnapshotName.parse(key[1]), terms or Terms()
    return SlaView(
        store=key[0],
        namespace=str(name.namespace),
        group=str(name.group),
        state=str(verdict.state),
        why=verdict.why,
        last=format_time(seen[-1].time.astimezone(UTC)) if seen else "",
        last_bytes=seen[-1].plain_bytes if seen else 0,
        due=format_time(verdict.due) if verdict.due is not None else "",
        rpo_seconds=used.rpo_seconds,
        min_bytes=used.bytes_min,
        max_bytes=used.bytes_max,
        max_change_percent=used.change_percent,
        learned=bool(used.learned_from),
        learned_from=used.learned_from,
        set_by=rule.by if rule is not None else "",
    )
