"""The verifier: checks what datastores hold, snapshot by snapshot, one request after the other, each as a task.

What is checked and proven is the engine's business (`engine.verify`); here requests are queued, told as tasks, and
their outcome is published as the request's notification mode wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

import trio

from ibs.core import limits
from ibs.core.events import Event, EventSource, JsonScalar, Severity
from ibs.core.manifest import VerifyState
from ibs.core.names import Namespace, SnapshotName
from ibs.core.tasks import TaskType
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.modes import Use
from ibs.engine.task import Task
from ibs.engine.tasks import TaskRegistry
from ibs.engine.verify import CORRUPT, OK, VerifyProgress, VerifyRun, verify_snapshot
from ibs.errors import FailedError, IbsError, NotFoundError, UsageError
from ibs.ports.clock import Clock
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.mailbox import Message
from ibs.runtime.throttle import Throttle
from ibs.services.mending import Mending, parse_origin
from ibs.services.pulling import of_one_snapshot
from ibs.services.taskqueue import TaskQueue
from ibs.units import format_bytes, format_duration
from ibs.wire.datastore import VerifyReport, VerifyStart
from ibs.wire.session import StageFigures

__all__ = ["CORRUPT", "StartVerify", "Verifier", "as_report", "check_request"]

ALWAYS, ON_FAILURE, NEVER = "always", "on-failure", "never"


@dataclass(frozen=True, slots=True)
class StartVerify(Message[str]):
    """Queue a verification; the answer is its UPID."""

    auth_id: str
    store: str
    request: VerifyStart


@dataclass
class _Tally:
    """What one run found. `read` counts chunks read, `chunks` those checked or known to be good."""

    total: int = 0
    snapshots: int = 0
    bytes: int = 0
    chunks: int = 0
    read: int = 0
    bad: list[VerifyReport] = field(default_factory=list)

    def show(self, task: Task) -> None:
        figures = StageFigures(bytes=self.bytes, items=self.chunks)
        task.progress(done_bytes=self.bytes, files=self.snapshots, stages={"verify": figures})


class Verifier(Actor):
    """Verifies datastores on request."""

    role: ClassVar[str] = "verifier"
    duty: ClassVar[str] = "verifies snapshots: presence, digests, content, signatures"

    def __init__(
        self,
        seat: Seat,
        queue: TaskQueue,
        tasks: TaskRegistry,
        datastores: Datastores,
        *,
        clock: Clock,
        publish: Callable[[Event], None],
        mending: Mending | None = None,
    ) -> None:
        super().__init__(seat)
        self._mending = mending
        self._queue = queue
        self._tasks = tasks
        self._datastores = datastores
        self._clock = clock
        self._publish = publish

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of queue and mailbox
            nursery.start_soon(self._queue.serve, self.seat.stopping)
            task_status.started()
            await self.serve()

    async def handle(self, message: Message[Any]) -> Any:
        if not isinstance(message, StartVerify):
            raise NotImplementedError(type(message).__name__)
        request, store = message.request, message.store
        check_request(request)
        namespace = Namespace.parse(request.namespace)
        self._queue.require_room()
        datastore = await self._datastores.get(store)
        datastore.context.modes.require(Use.VERIFY)
        if request.repair_from:
            datastore.context.modes.require(Use.REPAIR)
        subject, only = store, None
        if request.snapshot:
            only = await datastore.snapshots.resolve(SnapshotName.parse(request.snapshot, namespace))
            subject = f"{store}:{only}"
        elif request.namespace:
            subject = f"{store}:ns:{namespace}"
        task = await self._tasks.start(TaskType.VERIFY, subject, message.auth_id)
        self._queue.submit(task, lambda task: self._verify(task, store, request, only))
        return task.upid

    async def _verify(self, task: Task, store: str, request: VerifyStart, only: SnapshotName | None) -> str | None:
        """The task's work. Raises FailedError when something is wrong with the data."""
        datastore = await self._datastores.get(store)
        names = [only] if only is not None else await _names(datastore, request)
        tally, run = _Tally(total=len(names)), self._run_of(request)
        began = self._clock.monotonic()
        try:
            with datastore.context.modes.using(Use.VERIFY):
                await self._verify_all(task, datastore, names, run, tally, slots=request.max_concurrent_snapshots)
                await self._seek_rest(task, datastore, run)
            if request.repair_from:
                await self._repair(task, datastore, request, run, tally)
        except IbsError as error:
            if request.notification_mode != NEVER:
                self._tell(task, store, Severity.ERROR, "verify.aborted", f"verification of {store} failed: {error}")
            raise
        if tally.bad:
            text = (
                f"{len(tally.bad)} of {tally.snapshots} snapshots in {store} are damaged; "
                f"the first is {tally.bad[0].snapshot}: {tally.bad[0].first_failure}"
            )
            if request.notification_mode != NEVER:
                self._tell(task, store, Severity.CRITICAL, "verify.damaged", text)
            raise FailedError(text, hint=f"see: ironcore-backup task log {task.upid}")
        seconds = self._clock.monotonic() - began
        rate = f" at {format_bytes(tally.bytes / seconds)}/s" if seconds > 0 and tally.bytes else ""
        text = (
            f"{tally.snapshots} snapshots in {store} verified OK: {tally.chunks} chunks, "
            f"{format_bytes(tally.bytes)} of {tally.read} read{rate}"
        )
        if request.notification_mode == ALWAYS:
            self._tell(task, store, Severity.NOTICE, "verify.ok", text)
        return text

    async def _repair(
        self, task: Task, datastore: Datastore, request: VerifyStart, run: VerifyRun, tally: _Tally
    ) -> None:
        """Mend what this run found damaged, and whom else that hurts, from a remote; then verify those again."""
        hurt = {SnapshotName.parse(report.snapshot) for report in tally.bad} | set(run.hurt)
        if not hurt or self._mending is None:
            return
        verified = tally.snapshots
        try:
            async with AsyncExitStack() as stack:
                mend_one = await self._mending.each(datastore, request.repair_from, task.auth_id, stack)
                for name in sorted(hurt, key=str):
                    try:
                        done = await mend_one(name)
                    except IbsError as error:
                        if not of_one_snapshot(error):
                            raise
                        task.log("error", f"{name} could not be mended from {request.repair_from}: {error}")
                    else:
                        task.log("info", f"{name}: {done} from {request.repair_from}")
                    tally.bad = [report for report in tally.bad if report.snapshot != str(name)]
                    await self._verify_one(task, datastore, name, run, tally)
        except IbsError as error:
            if not tally.bad:
                raise
            # The damage that was found is the news; that it could not be mended is no reason to be silent about it.
            task.log("error", f"nothing more could be mended from {request.repair_from}: {error}")
        finally:
            tally.snapshots = verified  # none is counted twice

    def _run_of(self, request: VerifyStart) -> VerifyRun:
        """What the snapshots of one run share: since when earlier checks count, and how fast it may read."""
        now = self._clock.now_ns() // 1_000_000_000
        days = limits.VERIFY_WINDOW_DAYS if request.verify_window_days is None else request.verify_window_days
        since = now - days * 86_400 if days else now + 1  # never within the second that has begun
        if not request.io_limit:
            return VerifyRun(since=since)
        throttle = Throttle(self._clock, request.io_limit)
        return VerifyRun(since=since, pace=throttle.take, hop=limits.VERIFY_HOP_CHUNKS_THROTTLED)

    async def _verify_all(
        self,
        task: Task,
        datastore: Datastore,
        names: Sequence[SnapshotName],
        run: VerifyRun,
        tally: _Tally,
        *,
        slots: int,
    ) -> None:
        """Each snapshot once, `slots` at a time. The first that cannot be read ends all."""
        waiting = iter(names)
        failed: list[Exception] = []

        async def work() -> None:
            try:
                for name in waiting:  # shared: taking the next has no await
                    await self._verify_one(task, datastore, name, run, tally)
            except Exception as error:  # noqa: BLE001 - handed to the caller below, alone and unwrapped
                failed.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the snapshots verified side by side
            for _ in range(slots):
                nursery.start_soon(work)
        if failed:
            raise failed[0]

    async def _seek_rest(self, task: Task, datastore: Datastore, run: VerifyRun) -> None:
        """Whom the bad chunks hurt that were found after many others: searched once, at the end."""
        if run.unsought:
            await run.seek(datastore, task.upid)
            for name in sorted(map(str, run.hurt)):
                task.log("error", f"snapshot affected: {name}")

    async def _verify_one(
        self, task: Task, datastore: Datastore, name: SnapshotName, run: VerifyRun, tally: _Tally
    ) -> None:
        seen = VerifyProgress(0, 0, 0, 0, 0)

        async def progress(now: VerifyProgress) -> None:
            nonlocal seen
            tally.bytes += now.bytes - seen.bytes
            tally.chunks += now.done - seen.done
            seen = now
            tally.show(task)

        try:
            report = await verify_snapshot(datastore, name, progress, run=run, upid=task.upid, auth_id=task.auth_id)
        except NotFoundError as error:
            task.log("info", f"{name}: {error.message}; it was removed meanwhile")
            return
        tally.snapshots += 1
        tally.read += report.read
        if report.result != OK:
            tally.bad.append(report)
        _log_report(task, report)

    def _tell(self, task: Task, store: str, severity: Severity, kind: str, text: str) -> None:
        fields: dict[str, JsonScalar] = {"datastore": store, "upid": task.upid}
        text = text[: limits.EVENT_TEXT_CHARS_MAX]
        self._publish(Event(self._clock.now(), EventSource.VERIFY, severity, kind, text, fields))


async def _names(datastore: Datastore, request: VerifyStart) -> Sequence[SnapshotName]:
    if request.namespace:
        return await datastore.snapshots.list(Namespace.parse(request.namespace))
    return await datastore.snapshots.every()


def check_request(request: VerifyStart) -> None:
    """Raises UsageError for a mode or bound that cannot be."""
    if request.notification_mode not in (ALWAYS, ON_FAILURE, NEVER):
        hint = f"use {ALWAYS}, {ON_FAILURE} or {NEVER}"
        raise UsageError(f"notification mode {request.notification_mode!r} is not known", hint=hint)
    days, slots = request.verify_window_days, request.max_concurrent_snapshots
    if days is not None and not 0 <= days <= limits.VERIFY_WINDOW_DAYS_MAX:
        raise UsageError(f"a window of {days} days is out of range", hint=f"use 0 to {limits.VERIFY_WINDOW_DAYS_MAX}")
    if not 1 <= slots <= limits.VERIFY_SNAPSHOTS_MAX:
        hint = f"use 1 to {limits.VERIFY_SNAPSHOTS_MAX}"
        raise UsageError(f"{slots} snapshots side by side are out of range", hint=hint)
    if request.repair_from:
        parse_origin(request.repair_from)
    if request.io_limit < 0:
        raise UsageError("the I/O limit is negative", hint="give bytes a second, 0 for no limit")


def _log_report(task: Task, report: VerifyReport) -> None:
    proven = ", ".join(report.proof) or "nothing"
    took = format_duration(report.duration_seconds)
    earlier = report.read < report.chunks
    task.log(
        "info" if report.result == OK else "error",
        f"{report.snapshot}: {report.result}, {report.chunks} chunks, {format_bytes(report.bytes)} read in {took}; "
        f"proven: {proven}" + (f"; {report.chunks - report.read} chunks by earlier reads" if earlier else ""),
    )
    if report.healed:
        task.log("info", f"{report.snapshot}: it was damaged and is whole again")
    if report.first_failure:
        task.log("error", f"{report.snapshot}: first failure: {report.first_failure}")
    for chunk in report.bad_chunks:
        task.log("error", f"{report.snapshot}: {report.result} chunk {chunk}")
    for affected in report.affected:
        task.log("error", f"snapshot affected: {affected}")


def as_report(store: str, name: SnapshotName, state: VerifyState) -> VerifyReport:
    """The last verification of a snapshot as it was noted beside it."""
    return VerifyReport(
        snapshot=str(name),
        started=state.time,
        duration_seconds=state.duration_seconds or 0.0,
        chunks=state.chunks,
        bytes=state.bytes or 0,
        result=state.result,
        proof=list(state.proof or []),
        first_failure=state.first_failure,
        upid=state.upid,
        store=store,
    )
