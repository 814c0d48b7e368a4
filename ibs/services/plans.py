"""Desk for the schedules of datastores: set, shown, and carried out when they are due.

Made by `roster`, used through `ServerContext`, and each minute by the gc actor, which the scheduler reminds. What is
due is started as if an administrator had asked for it, and told like that. Last and next runs are remembered in the
catalog: a run that was missed, because the server was down or the datastore offline, is made up for once. What cannot
start when it is due (quarantine, a full queue, another run) is left for the next time, and the log says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from ibs.core.access import ROOT
from ibs.core.events import EventSource, Severity
from ibs.core.names import Namespace, format_time
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.schedules import GC, NEVER, PRUNE, VERIFY, Schedule
from ibs.errors import BusyError, IbsError, UsageError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.runtime.mailbox import Handle, Message
from ibs.services.collecting import StartGc
from ibs.services.scheduler import Memory, next_run
from ibs.services.verifier import StartVerify, check_request
from ibs.wire.datastore import VerifyStart
from ibs.wire.gc import GcStart
from ibs.wire.schedule import ScheduleSet, ScheduleView

_NS = 1_000_000_000
_log = get_logger("scheduler")


class RunPlans(Message[None]):
    """Start what the datastores' schedules say is due."""


class Forgetting(Memory, Protocol):
    """A memory that can also forget a job."""

    async def remove(self, job: str) -> None: ...


Start = Callable[[Datastore, Schedule], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Times:
    when: str
    last: datetime | None
    next: datetime | None


class StorePlans:
    """One a server. Belongs to the trio thread."""

    def __init__(
        self,
        datastores: Datastores,
        memory: Forgetting,
        clock: Clock,
        *,
        prune: Callable[[Datastore], Awaitable[object]] | None = None,
    ) -> None:
        self._datastores = datastores
        self._memory = memory
        self._clock = clock
        self._times: dict[str, _Times] = {}
        self._remembered: dict[str, tuple[int | None, int | None]] | None = None
        self._starts: dict[str, Start] = {}
        if prune is not None:
            self._starts[PRUNE] = lambda datastore, _: prune(datastore)

    def bind(self, verifier: Handle, gc: Handle) -> None:
        """Who does the work. Before that only pruning is started."""

        async def verify(datastore: Datastore, one: Schedule) -> None:
            await verifier.ask(StartVerify(str(ROOT), datastore.name, verify_request(one)))

        async def collect(datastore: Datastore, one: Schedule) -> None:
            if datastore.gc.progress is not None:
                raise BusyError(f"garbage collection of {datastore.name} is under way already")
            await gc.ask(StartGc(str(ROOT), datastore.name, GcStart(io_limit=one.io_limit)))

        self._starts |= {VERIFY: verify, GC: collect}

    # --- as administrators see it ---

    async def list(self, sees: Callable[[str], bool], store: str = "", kind: str = "") -> Sequence[ScheduleView]:
        """Of one datastore, or of all that are online and `sees` lets through.

        Raises NotFoundError, DatastoreOffline and FormatError for the one.
        """
        await self._recall()
        if store:
            return await self._views(await self._datastores.get(store), kind)
        rows: list[ScheduleView] = []
        for datastore in self._datastores.opened():
            if sees(datastore.name):
                try:
                    rows += await self._views(datastore, kind)
                except IbsError as error:  # one damaged record hides its own rows only
                    _log.error("schedules cannot be listed", datastore=datastore.name, reason=error.message)
        return rows

    async def _views(self, datastore: Datastore, kind: str) -> Sequence[ScheduleView]:
        return [self._view(datastore, one) for one in await datastore.schedules.all() if kind in ("", one.kind)]

    async def set(self, store: str, auth_id: str, request: ScheduleSet) -> ScheduleView:
        """Raises UsageError for a time or bound that cannot be; NotFoundError, DatastoreOffline, DatastoreReadOnly."""
        datastore = await self._datastores.get(store)
        when = " ".join(request.when.split())
        if when != NEVER:
            next_run(when, self._clock.now())
        schedule = Schedule(
            kind=request.kind,
            when=when,
            namespace=str(Namespace.parse(request.namespace)),
            window_days=request.verify_window_days,
            slots=request.max_concurrent_snapshots,
            io_limit=request.io_limit,
            notification_mode=request.notification_mode,
        )
        check_request(verify_request(schedule))
        made = await datastore.schedules.set(schedule, auth_id)
        await self._recall()
        await self._begin(_job(datastore, made), made)
        _tell(datastore, made, f"set to {made.when} by {auth_id}", auth_id)
        return self._view(datastore, made)

    async def unset(self, store: str, auth_id: str, kind: str, namespace: str) -> None:
        """Back to the default. Raises NotFoundError when nothing is set, UsageError."""
        datastore = await self._datastores.get(store)
        gone = Schedule(kind=kind, when=NEVER, namespace=str(Namespace.parse(namespace)))
        await datastore.schedules.unset(kind, gone.namespace)
        self._times.pop(_job(datastore, gone), None)
        if self._remembered is not None:
            self._remembered.pop(_job(datastore, gone), None)
        await self._memory.remove(_job(datastore, gone))
        _tell(datastore, gone, f"unset by {auth_id}", auth_id)

    async def of_verification(self) -> Mapping[str, Sequence[ScheduleView]]:
        """Per datastore that is online, the verifications that are scheduled; one whose record is damaged has none."""
        found: dict[str, Sequence[ScheduleView]] = {}
        await self._recall()
        for datastore in self._datastores.opened():
            try:
                every = await datastore.schedules.all()
            except IbsError:
                continue
            found[datastore.name] = [self._view(datastore, one) for one in every if one.kind == VERIFY and one.on]
        return found

    # --- when the time has come ---

    async def run_due(self) -> None:
        """Start what is due, in every datastore that is online. *Cancellation*: between two; the rest is due again."""
        await self._recall()
        for datastore in self._datastores.opened():
            try:
                every = await datastore.schedules.all()
            except IbsError as error:
                _log.error("schedules were left out", datastore=datastore.name, reason=error.message)
                continue
            for one in every:
                try:
                    await self._look_at(datastore, one)
                except UsageError as error:  # a store that was adopted may say anything
                    _log.error("a schedule was left out", job=_job(datastore, one), reason=error.message)

    async def _look_at(self, datastore: Datastore, one: Schedule) -> None:
        job, now = _job(datastore, one), self._clock.now()
        known = self._times.get(job)
        if known is None or known.when != one.when:
            known = await self._begin(job, one, self._first(job, one, now))
        if known.next is None:
            return
        if known.next > now:  # earlier than planned when the clock was set back
            earlier = min(known.next, next_run(one.when, now))
            self._times[job] = _Times(one.when, known.last, earlier)
            return
        # Remembered first: what dies while it starts is not started again and again.
        await self._keep(job, _Times(one.when, now, next_run(one.when, now)))
        start = self._starts.get(one.kind)
        if start is None:
            return
        try:
            await start(datastore, one)
        except IbsError as error:
            _log.warning("a scheduled run was left out", job=job, reason=error.message)

    def _first(self, job: str, one: Schedule, now: datetime) -> _Times | None:
        """As it was remembered over a restart: a next run that has passed is due at once."""
        last, due = (self._remembered or {}).get(job, (None, None))
        if not one.on or due is None:
            return None
        soon = _moment(due)
        try:
            return _Times(one.when, _moment(last) if last else None, min(soon, next_run(one.when, now)))
        except IbsError:
            return None

    async def _begin(self, job: str, one: Schedule, times: _Times | None = None) -> _Times:
        if times is None:
            last = self._times[job].last if job in self._times else None
            times = _Times(one.when, last, next_run(one.when, self._clock.now()) if one.on else None)
        await self._keep(job, times)
        return times

    async def _keep(self, job: str, times: _Times) -> None:
        self._times[job] = times
        try:
            await self._memory.save(job, _ns(times.last), _ns(times.next))
        except IbsError as error:
            _log.error("the timetable cannot be kept", job=job, error=error.message)

    async def _recall(self) -> None:
        if self._remembered is None:
            rows = await self._memory.load()
            self._remembered = {row.job: (row.last_run_ns, row.next_run_ns) for row in rows}

    def _view(self, datastore: Datastore, one: Schedule) -> ScheduleView:
        job = _job(datastore, one)
        times = self._times.get(job)
        if times is None or times.when != one.when:
            times = self._first(job, one, self._clock.now()) or _Times(one.when, None, None)
        due = times.next
        if due is None and one.on:
            with contextlib.suppress(UsageError):  # then it never comes
                due = next_run(one.when, self._clock.now())
        return ScheduleView(
            store=datastore.name,
            kind=one.kind,
            when=one.when,
            namespace=one.namespace,
            default=one.is_default,
            next=format_time(due) if due is not None else "",
            last=format_time(times.last) if times.last is not None else "",
            verify_window_days=one.window_days,
            max_concurrent_snapshots=one.slots,
            io_limit=one.io_limit,
            notification_mode=one.notification_mode,
            by=one.by,
            time=one.time,
        )


def verify_request(one: Schedule) -> VerifyStart:
    """What a schedule asks the verifier for."""
    return VerifyStart(
        namespace=one.namespace,
        notification_mode=one.notification_mode,
        verify_window_days=one.window_days,
        max_concurrent_snapshots=one.slots,
        io_limit=one.io_limit,
    )


def _job(datastore: Datastore, one: Schedule) -> str:
    """The name under which its runs are remembered: by the store's uuid, so that another of its name begins anew."""
    return f"store:{datastore.uuid}:{one.key}"


def _tell(datastore: Datastore, one: Schedule, what: str, auth_id: str) -> None:
    where = f"namespace {one.namespace} of {datastore.name}" if one.namespace else f"datastore {datastore.name}"
    text = f"schedule of {one.kind} in {where} {what}"
    datastore.context.emit(
        EventSource.CONFIGURATION, Severity.NOTICE, "schedule.changed", text, auth_id=auth_id, schedule=one.when
    )


def _moment(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns // _NS, UTC)


def _ns(moment: datetime | None) -> int | None:
    return int(moment.timestamp()) * _NS if moment is not None else None
