"""A task as its worker sees it: states, warnings, figures, and how `run` ends it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ibs.catalog.tasks import TaskRecord
from ibs.core import limits
from ibs.core.tasks import TaskState
from ibs.engine.task import INTERRUPTED, Task
from ibs.engine.tasklog import LogBuffer
from ibs.errors import CancelledError, NoSpace, UsageError
from ibs.wire.session import LogLine, StageFigures, StageReport


class Keeper:
    """Keeps what the registry would write."""

    def __init__(self, tmp_path) -> None:
        self.lines: list[tuple[str, str]] = []
        self.changes = 0
        self.ends = 0
        record = TaskRecord("UPID:x", "backup", "main", "root@ibs", "queued", 0)
        self.task = Task(self, record, LogBuffer(tmp_path / "log"))

    def line(self, task: Task, level: str, text: str, *, last: bool = False) -> None:
        self.lines.append((level, text))

    def changed(self, task: Task) -> None:
        self.changes += 1

    async def finished(self, task: Task) -> None:
        self.ends += 1


@pytest.fixture
def keeper(tmp_path) -> Keeper:
    return Keeper(tmp_path)


async def test_states_go_forwards_only(keeper: Keeper) -> None:
    task = keeper.task
    task.advance(TaskState.STARTING)
    task.advance(TaskState.RUNNING)
    task.advance(TaskState.RUNNING)
    for state in (TaskState.QUEUED, TaskState.STARTING, TaskState.OK):
        with pytest.raises(ValueError, match="does not become"):
            task.advance(state)
    await task.finish(TaskState.OK)
    assert (task.state, keeper.lines, keeper.ends) == (TaskState.OK, [("info", "TASK OK")], 1)


async def test_a_task_that_never_ran_does_not_end_well(keeper: Keeper) -> None:
    with pytest.raises(ValueError, match="does not become"):
        await keeper.task.finish(TaskState.OK)
    await keeper.task.finish(TaskState.CANCELLED, "not wanted")
    assert keeper.lines == [("info", "TASK CANCELLED: not wanted")]


async def test_it_ends_once_and_nothing_follows(keeper: Keeper) -> None:
    task = keeper.task
    await task.finish(TaskState.FAILED, "disk \udcff")
    await task.finish(TaskState.CANCELLED)
    task.log("info", "late")
    task.progress(done_bytes=9)
    assert keeper.lines == [("error", "TASK ERROR: disk \\udcff")]
    assert (keeper.ends, task.record.figures.done_bytes) == (1, 0)


async def test_warnings_are_counted(keeper: Keeper) -> None:
    task = keeper.task
    task.advance(TaskState.RUNNING)
    task.warn("one")
    task.log("warning", "two")
    task.log("error", "no warning")
    await task.finish(TaskState.OK)
    assert task.state is TaskState.WARNING
    assert keeper.lines[-1] == ("warning", "TASK WARNING: 2")


async def test_warnings_counted_elsewhere(keeper: Keeper) -> None:
    keeper.task.advance(TaskState.RUNNING)
    await keeper.task.finish(TaskState.OK, warnings=5)
    assert keeper.lines == [("warning", "TASK WARNING: 5")]


async def test_figures(keeper: Keeper) -> None:
    task = keeper.task
    task.waits_for("a worker slot")
    task.progress(done_bytes=1, total_bytes=10)
    task.progress(files=3)
    figures = task.record.figures
    assert (figures.done_bytes, figures.total_bytes, figures.files, figures.waits_for) == (1, 10, 3, "a worker slot")
    task.advance(TaskState.RUNNING)
    await task.finish(TaskState.OK)
    assert task.record.figures.waits_for == ""
    assert task.record.figures.done_bytes == 1


async def test_it_observes_a_session(keeper: Keeper) -> None:
    task = keeper.task
    task.advance(TaskState.RUNNING)
    stages = {"read": StageFigures(busy_seconds=1.0, bytes=7)}
    lines = [LogLine(level="warning", text="changed while read"), LogLine(level="info", text="x")]
    await task.reported(StageReport(done_bytes=7, total_bytes=8, files=1, stages=stages, lines=lines))
    assert keeper.lines == [("warning", "changed while read"), ("info", "x")]
    assert task.record.figures.stages == stages
    await task.ended("OK", "")
    assert task.state is TaskState.WARNING
    assert keeper.lines[2:] == [
        ("info", "time by stage: read 1.0 s (7 B/s); most went into read"),
        ("warning", "TASK WARNING: 1"),
    ]


async def test_a_clients_report_is_bounded(keeper: Keeper) -> None:
    stages = {f"{number}-{'x' * 100}": StageFigures() for number in range(limits.TASK_STAGES_MAX + 9)}
    await keeper.task.reported(StageReport(stages=stages, lines=[LogLine(level="\x1b[31m", text="x")]))
    assert keeper.lines == [("info", "x")]
    kept = keeper.task.record.figures.stages
    assert len(kept) == limits.TASK_STAGES_MAX
    assert max(map(len, kept)) == limits.NAME_CHARS_MAX


async def test_run_ends_ok(keeper: Keeper) -> None:
    async def work(task: Task) -> str:
        assert task.state is TaskState.RUNNING
        return "3 snapshots"

    assert await keeper.task.run(work) is TaskState.OK
    assert keeper.task.record.message == "3 snapshots"


async def test_run_tells_our_errors(keeper: Keeper) -> None:
    async def work(task: Task) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise NoSpace("/srv", "inodes")

    assert await keeper.task.run(work) is TaskState.FAILED
    assert keeper.lines[0][1].startswith("hint: free some")
    assert keeper.lines[1] == ("error", "TASK ERROR: no space: /srv has no free inodes")


async def test_run_hides_internals(keeper: Keeper) -> None:
    async def work(task: Task) -> None:
        raise KeyError("secret detail")

    assert await keeper.task.run(work) is TaskState.FAILED
    assert keeper.lines == [("error", "TASK ERROR: internal error (KeyError); the worker log has the details")]


async def test_work_may_cancel_itself(keeper: Keeper) -> None:
    async def work(task: Task) -> None:
        raise CancelledError("the client gave up")

    assert await keeper.task.run(work) is TaskState.CANCELLED
    assert keeper.lines == [("info", "TASK CANCELLED: the client gave up")]


async def test_stop_cancels_the_work(keeper: Keeper, nursery: trio.Nursery) -> None:
    task, ended = keeper.task, trio.Event()

    async def work(task: Task) -> None:
        await trio.sleep_forever()

    async def runner() -> None:
        assert await task.run(work) is TaskState.CANCELLED
        ended.set()

    nursery.start_soon(runner)
    await trio.testing.wait_all_tasks_blocked()
    task.ask_stop()
    task.ask_stop()
    await ended.wait()
    assert keeper.lines == [("info", "asked to stop"), ("info", "TASK CANCELLED: stopped on request")]


async def test_a_task_stopped_before_it_ran_does_nothing(keeper: Keeper) -> None:
    async def work(task: Task) -> None:
        raise AssertionError("must not run")

    keeper.task.ask_stop()
    assert await keeper.task.run(work) is TaskState.CANCELLED


async def test_work_that_ends_in_spite_of_a_stop_is_ok(keeper: Keeper) -> None:
    async def work(task: Task) -> None:
        task.ask_stop()

    assert await keeper.task.run(work) is TaskState.OK


async def test_a_server_that_stops_fails_the_task(keeper: Keeper) -> None:
    with trio.CancelScope() as server:

        async def work(task: Task) -> None:
            server.cancel()
            await trio.sleep_forever()

        await keeper.task.run(work)
    assert server.cancelled_caught
    assert keeper.lines == [("error", f"TASK ERROR: {INTERRUPTED}")]


async def test_a_callers_mistake_is_told(keeper: Keeper) -> None:
    async def work(task: Task) -> None:
        raise UsageError("no such thing")

    assert await keeper.task.run(work) is TaskState.FAILED
    assert keeper.lines == [("error", "TASK ERROR: no such thing")]
