"""Words of tasks, which state follows which, and the line that ends a log."""

from __future__ import annotations

import pytest

from ibs.core.tasks import ENDED_STATES, TaskState, TaskType, last_line
from ibs.errors import ExitStatus


def test_the_words_are_those_of_the_interface() -> None:
    words = [str(kind) for kind in TaskType]
    assert words[:7] == ["backup", "restore", "sync", "verify", "gc", "prune", "tape"]
    assert words[7:] == ["maintenance", "repair"]
    assert " ".join(TaskState) == "queued Starting running OK WARNING FAILED CANCELLED"


def test_nothing_follows_an_end() -> None:
    for state in TaskState:
        assert state.ended == (state in ENDED_STATES)
        assert state.ended == (not any(state.may_become(other) for other in TaskState))


def test_tasks_move_forwards_and_end_well_only_after_running() -> None:
    assert TaskState.QUEUED.may_become(TaskState.STARTING)
    assert TaskState.STARTING.may_become(TaskState.RUNNING)
    for end in ENDED_STATES:
        assert TaskState.RUNNING.may_become(end)
    for early in (TaskState.QUEUED, TaskState.STARTING):
        assert early.may_become(TaskState.CANCELLED)
        assert early.may_become(TaskState.FAILED)
        assert not early.may_become(TaskState.OK)
        assert not early.may_become(TaskState.WARNING)
    assert not TaskState.RUNNING.may_become(TaskState.STARTING)
    assert not TaskState.STARTING.may_become(TaskState.QUEUED)


def test_exit_statuses_of_commands_that_follow() -> None:
    assert TaskState.OK.exit_status == ExitStatus.OK
    assert TaskState.WARNING.exit_status == ExitStatus.WARNING
    assert TaskState.CANCELLED.exit_status == ExitStatus.CANCELLED
    assert TaskState.FAILED.exit_status == TaskState.RUNNING.exit_status == ExitStatus.FAILED


def test_last_lines() -> None:
    assert last_line(TaskState.OK) == "TASK OK"
    assert last_line(TaskState.WARNING, warnings=3) == "TASK WARNING: 3"
    assert last_line(TaskState.FAILED, message="no space") == "TASK ERROR: no space"
    assert last_line(TaskState.CANCELLED) == "TASK CANCELLED"
    assert last_line(TaskState.CANCELLED, message="by root@ibs") == "TASK CANCELLED: by root@ibs"
    with pytest.raises(ValueError, match="running"):
        last_line(TaskState.RUNNING)
