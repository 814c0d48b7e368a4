"""Kinds and states of tasks, in the words that users read, and which state may follow which.

Pure; imported by the task registry, the catalog, the API and both CLIs.

    queued -> Starting -> running -> OK | WARNING | FAILED | CANCELLED
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from ibs.errors import ExitStatus


class TaskType(StrEnum):
    """What a task does. The list is part of the interface; it only grows."""

    BACKUP = "backup"
    RESTORE = "restore"
    SYNC = "sync"
    VERIFY = "verify"
    GC = "gc"
    PRUNE = "prune"
    TAPE = "tape"
    MAINTENANCE = "maintenance"
    REPAIR = "repair"


class TaskState(StrEnum):
    """Where a task stands. Spelled as every listing shows it, capitals included."""

    QUEUED = "queued"
    STARTING = "Starting"
    RUNNING = "running"
    OK = "OK"
    WARNING = "WARNING"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Nothing follows this state."""
        return self in ENDED_STATES

    @property
    def exit_status(self) -> int:
        """Exit status of a command that followed the task to this end; FAILED for a task that never ended."""
        return _EXIT_STATUSES.get(self, ExitStatus.FAILED)

    def may_become(self, following: TaskState) -> bool:
        """Whether a task in this state may next be in `following`."""
        return following in _FOLLOWING[self]


ENDED_STATES: Final = frozenset({TaskState.OK, TaskState.WARNING, TaskState.FAILED, TaskState.CANCELLED})

_EXIT_STATUSES: Final = {
    TaskState.OK: ExitStatus.OK,
    TaskState.WARNING: ExitStatus.WARNING,
    TaskState.CANCELLED: ExitStatus.CANCELLED,
}
_GIVEN_UP: Final = frozenset({TaskState.FAILED, TaskState.CANCELLED})
_NONE: Final[frozenset[TaskState]] = frozenset()
# A task may skip `queued` and `Starting` (it is simply created later in the row), but it never ends well unless it ran.
_FOLLOWING: Final = {
    TaskState.QUEUED: _GIVEN_UP | {TaskState.STARTING, TaskState.RUNNING},
    TaskState.STARTING: _GIVEN_UP | {TaskState.RUNNING},
    TaskState.RUNNING: ENDED_STATES,
    TaskState.OK: _NONE,
    TaskState.WARNING: _NONE,
    TaskState.FAILED: _NONE,
    TaskState.CANCELLED: _NONE,
}


def last_line(state: TaskState, warnings: int = 0, message: str = "") -> str:
    """The line that ends a task's log: `TASK OK`, `TASK WARNING: n`, `TASK ERROR: message`, `TASK CANCELLED`.

    Raises ValueError for a state that is no end.
    """
    if state is TaskState.OK:
        return "TASK OK"
    if state is TaskState.WARNING:
        return f"TASK WARNING: {warnings}"
    if state is TaskState.FAILED:
        return f"TASK ERROR: {message}"
    if state is TaskState.CANCELLED:
        return f"TASK CANCELLED: {message}" if message else "TASK CANCELLED"
    raise ValueError(f"a task that is {state} has no last line")
