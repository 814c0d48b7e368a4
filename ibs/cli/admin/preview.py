"""`ironcore-backup schedule preview`: when a calendar expression comes, without a server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from ibs.cli.common import app, example, fail
from ibs.cli.output import Column, Output, OutputOption, print_rows
from ibs.core import limits
from ibs.core.names import format_time
from ibs.core.retention import zone_of
from ibs.core.schedule import next_time, upcoming
from ibs.errors import IbsError

root = app("schedule", "Calendar expressions, as jobs and upkeep use them.")
_ROWS = (
    Column("RUN", lambda row: str(row["run"]), right=True),
    Column("LOCAL", lambda row: row["local"]),
    Column("UTC", lambda row: row["time"]),
)


@root.command("preview", epilog=example("ironcore-backup schedule preview 'Mon..Fri 02:00' --time-zone Europe/Vienna"))
def preview(
    expr: Annotated[str, typer.Argument(metavar="EXPR", help="A systemd calendar expression: daily, 'Sun 04:30'.")],
    time_zone: Annotated[str, typer.Option("--time-zone", help="IANA name, such as Europe/Vienna.")] = "UTC",
    count: Annotated[int, typer.Option(min=1, max=limits.SCHEDULE_PREVIEW_MAX, help="So many runs.")] = 5,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the next runs of a calendar expression."""
    try:
        now = datetime.now(UTC)
        next_time(expr, time_zone, now)
        zone = zone_of(time_zone)
        times = upcoming(expr, time_zone, now, count)
    except IbsError as error:
        fail(error, output)
    rows = [
        {"run": number, "local": time.astimezone(zone).strftime("%a %Y-%m-%d %H:%M:%S %Z"), "time": format_time(time)}
        for number, time in enumerate(times, 1)
    ]
    print_rows(rows, _ROWS, output, empty="never")


@root.callback()
def _schedule() -> None:
    """Keeps `preview` a subcommand although it is the only one."""
