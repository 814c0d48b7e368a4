"""One running task as whoever works on it sees it: log, progress, state, end, and the wish to stop it.

Made by `engine.tasks.TaskRegistry`; imported for its type by everything that runs as a task. `log`, `warn`, `progress`,
`waits_for` and `advance` change memory only: they return at once. Everything here belongs to the trio thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Protocol

import msgspec
import trio

from ibs.catalog.tasks import TaskFigures, TaskRecord
from ibs.core import limits
from ibs.core.tasks import TaskState, last_line
from ibs.engine import stages
from ibs.engine.tasklog import LogBuffer
from ibs.errors import CancelledError, IbsError
from ibs.log import bound, get_logger
from ibs.wire.session import StageFigures, StageReport

INTERRUPTED = "the server stopped while it ran"
LEVELS = ("info", "warning", "error")
_LEVEL_OF_END = {TaskState.FAILED: "error", TaskState.WARNING: "warning"}
_log = get_logger("worker")


class TaskKeeper(Protocol):
    """What a task needs of its registry."""

    def line(self, task: Task, level: str, text: str, *, last: bool = False) -> None:
        """Take a log line."""

    def changed(self, task: Task) -> None:
        """The task's record is another one now."""

    async def finished(self, task: Task) -> None:
        """The task's record is its last one: write it, and its log, and tell the world."""


class Task:
    """A running task; also the `SessionObserver` of a write session.

    `record`, `buffer` and `grown` are for the registry; others read `upid`, `state` and so on.
    """

    def __init__(self, keeper: TaskKeeper, record: TaskRecord, buffer: LogBuffer) -> None:
        self._keeper = keeper
        self.record = record
        self.buffer = buffer
        self.grown = trio.Event()  # set, and replaced, whenever lines have reached the file
        self._stoppers: list[Callable[[], object]] = []
        self.stop_wanted = False
        self._finishing = False

    @property
    def upid(self) -> str:
        return self.record.upid

    @property
    def type(self) -> str:
        return self.record.type

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def auth_id(self) -> str:
        return self.record.auth_id

    @property
    def state(self) -> TaskState:
        return TaskState(self.record.state)

    @property
    def warnings(self) -> int:
        return self.record.warnings

    def log(self, level: str, text: str) -> None:
        """Add a line; `level` is info, warning (counted) or error, else taken as info. After the end it is dropped."""
        if self._finishing:
            return
        if level not in LEVELS:
            level = "info"
        if level == "warning":
            self.record = replace(self.record, warnings=self.record.warnings + 1)
        self._keeper.line(self, level, text)

    def warn(self, text: str) -> None:
        """A warning line: the task will end WARNING at best."""
        self.log("warning", text)

    def progress(
        self,
        *,
        done_bytes: int | None = None,
        total_bytes: int | None = None,
        files: int | None = None,
        stages: dict[str, StageFigures] | None = None,
    ) -> None:
        """Replace the figures given; `total_bytes` 0: unknown."""
        given = {"done_bytes": done_bytes, "total_bytes": total_bytes, "files": files, "stages": stages}
        self._figures(**{name: value for name, value in given.items() if value is not None})

    def waits_for(self, what: str) -> None:
        """Show what the task waits for, such as `a worker slot`; "" when it goes on."""
        self._figures(waits_for=what)

    def _figures(self, **changes: object) -> None:
        if not self._finishing:
            self.record = replace(self.record, figures=msgspec.structs.replace(self.record.figures, **changes))
            self._keeper.changed(self)

    def advance(self, state: TaskState) -> None:
        """Go on to Starting or running. Raises ValueError for a step backwards or an end (see `finish`)."""
        if state is self.state:
            return
        if state.ended or not self.state.may_become(state):
            raise ValueError(f"a task that is {self.state} does not become {state}")
        self.record = replace(self.record, state=state.value)
        self._keeper.changed(self)

    def on_stop(self, stopper: Callable[[], object]) -> None:
        """Call `stopper` (such as a cancel scope's `cancel`) when somebody stops the task; at once if they have."""
        self._stoppers.append(stopper)
        if self.stop_wanted:
            stopper()

    def ask_stop(self) -> None:
        """Somebody wants it stopped. Whoever runs the task ends it, CANCELLED."""
        if not self.stop_wanted:
            self.stop_wanted = True
            self.log("info", "asked to stop")
            for stopper in tuple(self._stoppers):
                stopper()

    async def reported(self, report: StageReport) -> None:
        """A client sent figures and log lines: bounded here, since it may be anybody's client."""
        for line in report.lines:
            self.log(line.level, line.text)
        self.progress(done_bytes=report.done_bytes, total_bytes=report.total_bytes, files=report.files)
        self.note_stages(report.stages)

    def note_stages(self, given: Mapping[str, StageFigures]) -> None:
        """Where a client spent its time: bounded here as well."""
        named = {name[: limits.NAME_CHARS_MAX]: figures for name, figures in given.items()}
        self.progress(stages=dict(islice(named.items(), limits.TASK_STAGES_MAX)))

    async def ended(self, status: str, message: str) -> None:
        """The session ended; `status` is OK, WARNING, FAILED or CANCELLED."""
        await self.finish(TaskState(status), message)

    async def finish(self, state: TaskState, message: str = "", *, warnings: int = 0) -> None:
        """End the task: last line, row, event. OK with warnings becomes WARNING. A second call does nothing.

        `warnings` is for those counted elsewhere. *Durability*: the end is in the row when this returns, unless the
        disk is full. *Cancellation*: finishes first. Raises ValueError for a state that cannot follow.
        """
        if self._finishing:
            return
        warnings = max(warnings, self.record.warnings)
        if state is TaskState.OK and warnings:
            state = TaskState.WARNING
        if not (state.ended and self.state.may_become(state)):
            raise ValueError(f"a task that is {self.state} does not become {state}")
        message = message[: limits.MESSAGE_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
        if spent := stages.told(self.record.figures.stages):
            self._keeper.line(self, "info", spent)
        self._keeper.line(self, _LEVEL_OF_END.get(state, "info"), last_line(state, warnings, message), last=True)
        self._finishing = True
        figures: TaskFigures = msgspec.structs.replace(self.record.figures, waits_for="")
        self.record = replace(self.record, state=state.value, message=message, warnings=warnings, figures=figures)
        await self._keeper.finished(self)

    async def run(self, work: Callable[[Task], Awaitable[str | None]]) -> TaskState:
        """Do `work` as this task, in a scope that `stop` cancels, and end the task by what comes of it.

        `work` returns a message or None. Its errors end the task and go no further. *Cancellation* from outside ends
        the task FAILED and is passed on.
        """
        with bound(upid=self.upid, auth_id=self.auth_id):
            try:
                with trio.CancelScope() as scope:
                    self.on_stop(scope.cancel)
                    self.advance(TaskState.RUNNING)
                    await trio.lowlevel.checkpoint()
                    message = await work(self)
            except Exception as error:  # noqa: BLE001 - the border of a task: told in its log, nothing gets lost
                await self._failed(error)
            except BaseException:
                await self.finish(TaskState.FAILED, INTERRUPTED)
                raise
            else:
                if scope.cancelled_caught:
                    await self.finish(TaskState.CANCELLED, "stopped on request")
                else:
                    await self.finish(TaskState.OK, message or "")
        return self.state

    async def _failed(self, error: Exception) -> None:
        cause = _first_cause(error)
        if isinstance(cause, IbsError):
            if cause.hint:
                self.log("error", f"hint: {cause.hint}")
            state = TaskState.CANCELLED if isinstance(cause, CancelledError) else TaskState.FAILED
            await self.finish(state, cause.message)
        else:
            _log.error("a task failed in an unforeseen way", exc_info=error)
            what = type(cause).__name__
            await self.finish(TaskState.FAILED, f"internal error ({what}); the worker log has the details")


def _first_cause(error: BaseException) -> BaseException:
    """The first error of ours in nested groups, else the first of all."""
    leaves = [error]
    while any(isinstance(leaf, BaseExceptionGroup) for leaf in leaves):
        leaves = [
            inner for leaf in leaves for inner in (leaf.exceptions if isinstance(leaf, BaseExceptionGroup) else (leaf,))
        ]
    return next((leaf for leaf in leaves if isinstance(leaf, IbsError)), leaves[0])
