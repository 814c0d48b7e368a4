"""Slots and a bounded first-in-first-out queue of tasks. Used by the verifier and the collector, not by the worker.

A queue is made once by `app` and outlives the actor that serves it, so what was queued is still there when the actor
was restarted. Invariants: never more tasks run than there are slots; a task that was taken in always reaches an end;
tasks start in the order they came. Everything belongs to the trio thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from ibs.core import limits
from ibs.core.tasks import TaskState
from ibs.engine.task import Task
from ibs.errors import BusyError, UsageError

Work = Callable[[Task], Awaitable[str | None]]
NOT_BEGUN = "the server stopped before it began"


@dataclass(frozen=True, eq=False)
class _Job:
    task: Task
    work: Work


class TaskQueue:
    """`what` names a slot in messages, such as `worker slot`."""

    def __init__(self, what: str, *, slots: int, waiting_max: int = limits.WORKER_QUEUE_MAX) -> None:
        self._what = what
        self._slots = slots
        self._waiting_max = waiting_max
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._changed = trio.Event()

    @property
    def slots(self) -> int:
        """How many tasks may run at once."""
        return self._slots

    @property
    def running(self) -> Sequence[Task]:
        """Tasks in slots, in the order they began."""
        return [job.task for job in self._running]

    @property
    def waiting(self) -> Sequence[Task]:
        """Tasks without a slot, the next one first."""
        return [job.task for job in self._waiting]

    def set_slots(self, slots: int) -> None:
        """From now on; running tasks beyond a lower number finish. Raises UsageError."""
        if not 1 <= slots <= limits.WORKER_SLOTS_MAX:
            raise UsageError(f"{slots} slots are out of range", hint=f"use 1 to {limits.WORKER_SLOTS_MAX}")
        self._slots = slots
        self._wake()

    def require_room(self) -> None:
        """Raises BusyError when one more would not fit. Ask before the task is made."""
        if len(self._waiting) >= self._waiting_max:
            raise BusyError(
                f"{len(self._waiting)} tasks wait for a {self._what} already", hint="wait until some have ended"
            )

    def submit(self, task: Task, work: Work) -> None:
        """Queue `task`; once it has a slot `work` is done as it (see `Task.run`). Raises BusyError."""
        self.require_room()
        if len(self._running) >= self._slots or self._waiting:
            task.waits_for(f"a free {self._what}")
        self._waiting.append(_Job(task, work))
        task.on_stop(self._wake)
        self._wake()

    def explain(self) -> list[str]:
        """What each waiting task waits for, in queue order."""
        holders = ", ".join(f"{task.type} of {task.id} ({task.state})" for task in self.running) or "nobody"
        busy = f"{len(self._running)} of {self._slots} busy: {holders}"
        return [f"a free {self._what}, {place} ahead in the queue; {busy}" for place in range(len(self._waiting))]

    async def serve(self, stopping: trio.Event) -> None:
        """Run what is queued until `stopping`; then end what has not begun, and return when the rest has finished.

        *Cancellation*: running tasks end FAILED; waiting ones stay for the next call, unless the server stops.
        """
        async with trio.open_nursery() as nursery:  # noqa: TID251 - the owner of the tasks in slots
            nursery.start_soon(self._wake_when, stopping)
            while not stopping.is_set():
                self._changed = trio.Event()
                await self._end_stopped()
                while self._waiting and len(self._running) < self._slots:
                    job = self._waiting.popleft()
                    self._running.append(job)
                    nursery.start_soon(self._run, job)
                if not stopping.is_set():
                    await self._changed.wait()
            while self._waiting:
                job = self._waiting.popleft()
                await job.task.finish(TaskState.CANCELLED, NOT_BEGUN)

    async def _run(self, job: _Job) -> None:
        try:
            job.task.waits_for("")
            job.task.advance(TaskState.STARTING)
            await job.task.run(job.work)
        finally:
            self._running.remove(job)
            self._wake()

    async def _end_stopped(self) -> None:
        """Tasks that somebody stopped while they waited never begin."""
        stopped = [job for job in self._waiting if job.task.stop_wanted]
        for job in stopped:
            self._waiting.remove(job)
            await job.task.finish(TaskState.CANCELLED, "stopped before it began")

    async def _wake_when(self, stopping: trio.Event) -> None:
        await stopping.wait()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
