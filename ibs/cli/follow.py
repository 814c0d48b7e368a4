"""Following a task: live progress on a terminal, log lines when piped, its end as an exit status.

Used by every command that starts a task.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import trio
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from ibs.cli.output import Output, harmless, print_json, print_note, print_warning, say
from ibs.client.http import ApiClient
from ibs.core import limits
from ibs.errors import ExitStatus, ServerUnreachable
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
    """Print the task's log as it grows and return the exit status of its end; `detach` prints the UPID only.

    Goes on when the connection breaks and the server is there again. *Cancellation*: the task goes on; that is told.
    """
    if detach:
        if output is Output.JSON:
            print_json({"upid": upid})
        else:
            say(upid)
        return ExitStatus.OK
    try:
        task = await _followed(api, upid, output)
    except (trio.Cancelled, BaseExceptionGroup) as ending:
        if isinstance(ending, trio.Cancelled) or ending.subgroup(trio.Cancelled) is not None:
            print_note(f"the task goes on; see: ironcore-backup task log {upid} --follow")
        raise
    if output is Output.JSON:
        print_json(task)
    return _ENDED[task.state]


async def _followed(api: ApiClient, upid: str, output: Output) -> TaskView:
    """The ended task. Raises ServerUnreachable when the connection keeps breaking without a new line."""
    seen, cuts = 0, 0
    with progress_bar(upid.split(":")[6] if upid.count(":") > 6 else "task") as bar:
        shown = bar.add_task("", total=None, note="")
        while True:
            before, cut = seen, None
            async with trio.open_nursery() as nursery:  # noqa: TID251 - the poller lives as long as the log is followed
                nursery.start_soon(_poll, api, upid, bar, shown)
                try:
                    lines = api.lines(f"/tasks/{upid}/log", TaskLogLine, params={"follow": 1, "from": seen})
                    async with aclosing(cast(AsyncGenerator[TaskLogLine], lines)):
                        async for line in lines:
                            seen = line.n + 1
                            if output is Output.TEXT:
                                _print_line(bar, line)
                except ServerUnreachable as error:
                    cut = error  # asking for the task tells whether the server is gone or only the connection
                nursery.cancel_scope.cancel()
            task = await api.get(f"/tasks/{upid}", TaskView)
            if cut is None and task.state in _ENDED:
                return task
            cuts = cuts + 1 if cut is not None and seen == before else 0
            if cut is not None and cuts >= limits.HTTP_TRIES_MAX:
                raise cut
            await trio.sleep(_POLL_SECONDS)


def _print_line(bar: Progress, line: TaskLogLine) -> None:
    """Log lines are the command's result; on a terminal they go above the bar."""
    if line.level == "warning" and not sys.stderr.isatty():
        print_warning(line.text)
    elif sys.stdout.isatty() and sys.stderr.isatty():
        style = {"warning": "yellow", "error": "red"}.get(line.level, "")
        bar.console.print(Text(harmless(line.text), style=style))
    else:
        say(line.text)


async def _poll(api: ApiClient, upid: str, bar: Progress, shown: TaskID) -> None:
    while True:
        try:
            task = await api.get(f"/tasks/{upid}", TaskView)
        except ServerUnreachable:
            pass  # whoever follows the log finds out whether it stays so
        else:
            note = f"{task.files} files" if task.files else task.waits_for
            bar.update(shown, completed=task.done_bytes, total=task.total_bytes or None, note=note)
        await trio.sleep(_POLL_SECONDS)


def end(status: int) -> None:
    """End the program with `status` unless it is 0."""
    if status:
        raise typer.Exit(status)
