"""`ironcore-backup task …`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import Column, Output, OutputOption, harmless, print_facts, print_json, print_rows, say, state_text
from ibs.core.tasks import TaskState, TaskType
from ibs.units import format_bytes, format_count, format_duration
from ibs.wire.system import TaskLogLine, TaskView

root = app("task", "Tasks: everything the server does or did, by UPID.")

UpidArgument = Annotated[str, typer.Argument(metavar="UPID", help="As `task list` prints it.")]

_LIST = (
    Column("STARTED", lambda row: row.started),
    Column("TYPE", lambda row: row.type),
    Column("ID", lambda row: row.id),
    Column("STATE", lambda row: state_text(row.state)),
    Column("DONE", lambda row: format_bytes(row.done_bytes) if row.done_bytes else "", right=True),
    Column("WAITS FOR / MESSAGE", lambda row: row.waits_for or row.message),
    Column("UPID", lambda row: row.upid),
)


@root.command("list", epilog=example("ironcore-backup task list --state running"))
def list_(
    state: Annotated[
        TaskState | None, typer.Option(help="Only tasks in this state; running includes Starting.")
    ] = None,
    type_: Annotated[TaskType | None, typer.Option("--type", help="Only tasks of this type.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 50,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List tasks, newest first."""
    params: dict[str, str | int] = {"limit": limit}
    params |= {"state": state.value} if state else {}
    params |= {"type": type_.value} if type_ else {}

    async def work() -> list[TaskView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/tasks", list[TaskView], params=params)

    print_rows(run(work, output), _LIST, output, empty="no such tasks")


@root.command("show", epilog=example("ironcore-backup task show UPID:…"))
def show(
    upid: UpidArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one task: state, times, figures and where its stages spent their time."""

    async def work() -> TaskView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/tasks/{upid}", TaskView)

    task = run(work, output)
    facts: list[tuple[str, str | Text]] = [
        ("UPID", task.upid),
        ("Task", f"{task.type} {task.id} by {task.auth_id}"),
        ("State", state_text(task.state) + (harmless(f": {task.message}") if task.message else "")),
        ("Started", task.started),
        ("Ended", task.ended or "not yet"),
        ("Warnings", str(task.warnings)),
        ("Done", f"{format_bytes(task.done_bytes)}, {format_count(task.files)} files"),
    ]
    for name, stage in task.stages.items():
        times = f"busy {format_duration(stage.busy_seconds)}, waiting {format_duration(stage.wait_seconds)}"
        facts.append((f"  {name}", f"{times}, {format_bytes(stage.bytes)} in {format_count(stage.items)}"))
    print_facts(task, facts, output)


@root.command("log", epilog=example("ironcore-backup task log UPID:… --follow"))
def log(
    upid: UpidArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stay until the task ends; exit with its status.")
    ] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print a task's log."""

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            if follow:
                return await follow_task(api, upid, output, detach=False)
            lines = [line async for line in api.lines(f"/tasks/{upid}/log", TaskLogLine)]
        if output is Output.JSON:
            print_json(lines)
        for line in lines:
            mark = "" if line.level == "info" else f"{line.level}: "
            say(f"{line.time} {mark}{line.text}", output)
        return 0

    end(run(work, output))


@root.command("stop", epilog=example("ironcore-backup task stop UPID:…"))
def stop(
    upid: UpidArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Ask a running or queued task to stop; it ends CANCELLED."""

    async def work() -> TaskView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/tasks/{upid}/stop", TaskView)

    task = run(work, output)
    if output is Output.JSON:
        print_json(task)
    say(f"{task.upid}: stopping ({task.state})", output)
