"""`ironcore-backup task …`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import (
    Column,
    Output,
    OutputOption,
    harmless,
    print_done,
    print_facts,
    print_json,
    print_rows,
    say,
    state_text,
)
from ibs.client.http import ApiClient
from ibs.core.names import format_time, parse_time
from ibs.core.tasks import TaskState, TaskType
from ibs.errors import UsageError
from ibs.units import format_bytes, format_count, format_duration, parse_duration
from ibs.wire.common import TaskStarted
from ibs.wire.jobs import TaskKeeping
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
    host: Annotated[str, typer.Option(help="Only tasks of this host.")] = "",
    user: Annotated[str, typer.Option(help="Only what this auth-id asked for; of a user, with all its tokens.")] = "",
    job: Annotated[str, typer.Option(help="Only tasks of this job.")] = "",
    since: Annotated[str, typer.Option(help="Started at this time or later: RFC 3339, or ago, such as 24h.")] = "",
    until: Annotated[str, typer.Option(help="Started before this time.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 50,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List tasks, newest first."""
    params: dict[str, str | int] = {"limit": limit}
    params |= {"state": state.value} if state else {}
    params |= {"type": type_.value} if type_ else {}
    params |= {name: text for name, text in (("host", host), ("user", user), ("job", job)) if text}

    async def work() -> list[TaskView]:
        params.update({name: _moment(text) for name, text in (("since", since), ("until", until)) if text})
        async with administrator(server, state_dir) as api:
            return await api.get("/tasks", list[TaskView], params=params)

    print_rows(run(work, output), _LIST, output, empty="no such tasks")


def _moment(text: str) -> str:
    """A time as given, or so long ago. Raises UsageError."""
    if "T" in text:
        return format_time(parse_time(text))
    return format_time(datetime.now(UTC) - timedelta(seconds=parse_duration(text)))


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
    output_file: Annotated[
        Path | None, typer.Option(help="Write the log there instead, whole; it must not exist yet.")
    ] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print a task's log, or write it to a file."""

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            if follow and output_file is None:
                return await follow_task(api, upid, output, detach=False)
            if output_file is not None:
                return await _download(api, upid, output_file, output)
            lines = [line async for line in api.lines(f"/tasks/{upid}/log", TaskLogLine)]
        if output is Output.JSON:
            print_json(lines)
        for line in lines:
            mark = "" if line.level == "info" else f"{line.level}: "
            say(f"{line.time} {mark}{line.text}", output)
        return 0

    end(run(work, output))


async def _download(api: ApiClient, upid: str, path: Path, output: Output) -> int:
    """Raises UsageError when the file cannot be made."""
    count = 0
    try:
        with path.open("x", encoding="utf-8") as file:
            async for line in api.lines(f"/tasks/{upid}/log", TaskLogLine):
                file.write(f"{line.time} {line.level} {line.text}\n")
                count += 1
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="name a file that does not exist") from error
    print_done(f"{count} lines written to {path}", output, upid=upid, file=str(path))
    return 0


@root.command("retry", epilog=example("ironcore-backup task retry UPID:…"))
def retry(
    upid: UpidArgument,
    detach: Annotated[bool, typer.Option(help="Print the UPID and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Do again what an ended task was to do, as a task of its own. Backups that the server made can be repeated."""

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/tasks/{upid}/retry", TaskStarted)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.command("keep", epilog=example("ironcore-backup task keep --days 90"))
def keep(
    count: Annotated[int | None, typer.Option(min=1, help="Keep so many ended tasks at most.")] = None,
    days: Annotated[int | None, typer.Option(min=0, help="Keep them for so many days at most; 0: however old.")] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show, or say, how long ended tasks and their logs are kept."""

    async def work() -> TaskKeeping:
        async with administrator(server, state_dir) as api:
            now = await api.get("/worker/task-keeping", TaskKeeping)
            if count is None and days is None:
                return now
            changed = TaskKeeping(count=now.count if count is None else count, days=now.days if days is None else days)
            return await api.post("/worker/task-keeping", TaskKeeping, changed)

    kept = run(work, output)
    age = f"{kept.days} days" if kept.days else "however old"
    print_facts(kept, [("Tasks kept", format_count(kept.count)), ("Age", age)], output)


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
