"""Following a task: live progress on a terminal, log lines when piped, its end as an exit status.

Used by every command that starts a task.
"""

from __future__ import annotations

import sys

import trio
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ibs.cli.output import Output, print_json, print_warning, say
from ibs.client.http import ApiClient
from ibs.errors import ExitStatus
from ibs.wire.system import TaskLogLine, TaskView

_ENDED = {
    "OK": ExitStatus.OK,
    "WARNING": ExitStatus.WARNING,
    "FAILED": ExitStatus.FAILED,
    "CANCELLED": ExitStatus.CANCELLED,
}
_POLL_SECONDS = 0.5


def progress_bar(text: str) -> Progress:
    """Bytes done, rate and time left, on stderr; silent when stderr is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn(text),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
        transient=True,
        disable=not sys.stderr.isatty(),
        console=Console(file=sys.stderr),
    )


async def follow_task(api: ApiClient, upid: str, output: Output, *, detach: bool) -> int:
    """Print the task's log as it grows and return the exit status of its end; `detach` prints the UPID only."""
    if detach:
        if output is Output.JSON:
            print_json({"upid": upid})
        else:
            say(upid)
        return ExitStatus.OK
    with progress_bar(upid.split(":")[6] if upid.count(":") > 6 else "task") as bar:
        shown = bar.add_task("", total=None, note="")
        async with trio.open_nursery() as nursery:  # noqa: TID251 - the poller lives as long as the log is followed
            nursery.start_soon(_poll, api, upid, bar, shown)
            async for line in api.lines(f"/tasks/{upid}/log", TaskLogLine, params={"follow": 1}):
                if output is Output.TEXT:
                    _print_line(bar, line)
            nursery.cancel_scope.cancel()
    task = await api.get(f"/tasks/{upid}", TaskView)
    if output is Output.JSON:
        print_json(task)
    return _ENDED.get(task.state, ExitStatus.FAILED)


def _print_line(bar: Progress, line: TaskLogLine) -> None:
    if line.level == "warning" and not sys.stderr.isatty():
        print_warning(line.text)
        return
    style = {"warning": "yellow", "error": "red"}.get(line.level, "")
    text = line.text.replace("[", "\\[")
    if sys.stderr.isatty():
        bar.console.print(f"[{style}]{text}[/{style}]" if style else text)
    else:
        say(text)


async def _poll(api: ApiClient, upid: str, bar: Progress, shown: object) -> None:
    while True:
        task = await api.get(f"/tasks/{upid}", TaskView)
        note = f"{task.files} files" if task.files else task.waits_for
        bar.update(shown, completed=task.done_bytes, total=task.total_bytes or None, note=note)  # type: ignore[arg-type]
        await trio.sleep(_POLL_SECONDS)


def end(status: int) -> None:
    """End the program with `status` unless it is 0."""
    if status:
        raise typer.Exit(status)
