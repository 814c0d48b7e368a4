"""Retention on the command line: the options of a policy, and a prune's plan as table, JSON or calendar.

Shared by both programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from ibs.cli.output import Column, Output, print_json, print_rows, print_warning, say
from ibs.core.names import parse_time
from ibs.core.retention import zone_of
from ibs.errors import UsageError
from ibs.units import format_bytes, format_count
from ibs.wire.lifecycle import PolicyBody, PruneDecision, PruneGroup, PrunePlanView

KeepLast = Annotated[int, typer.Option("--keep-last", min=0, help="The newest N snapshots.")]
KeepHourly = Annotated[int, typer.Option("--keep-hourly", min=0, help="The newest of each of N hours.")]
KeepDaily = Annotated[int, typer.Option("--keep-daily", min=0, help="The newest of each of N days.")]
KeepWeekly = Annotated[int, typer.Option("--keep-weekly", min=0, help="The newest of each of N ISO weeks.")]
KeepMonthly = Annotated[int, typer.Option("--keep-monthly", min=0, help="The newest of each of N months.")]
KeepYearly = Annotated[int, typer.Option("--keep-yearly", min=0, help="The newest of each of N years.")]
TimeZone = Annotated[
    str, typer.Option("--timezone", help="IANA time zone of days, weeks and so on, such as Europe/Vienna.")
]
CalendarOption = Annotated[bool, typer.Option("--calendar", help="A picture: one line a month, one sign a day.")]

_DECISIONS = (
    Column("SNAPSHOT", lambda row: row.snapshot),
    Column("SIZE", lambda row: format_bytes(row.plain_bytes), right=True),
    Column("DECISION", lambda row: Text("keep", "green") if row.keep else Text("remove", "red")),
    Column("BECAUSE", lambda row: f"{row.rule} {row.period}".strip() if row.keep else "no rule keeps it"),
)


class Sign(StrEnum):
    """What a day of the calendar shows."""

    NONE = "."
    KEPT = "#"
    SOME = "%"
    REMOVED = "x"


_STYLES = {Sign.NONE: "dim", Sign.KEPT: "green", Sign.SOME: "yellow", Sign.REMOVED: "red"}
_LEGEND = "# all kept   % some kept   x all removed   . no snapshot"
_DAYS = "".join(str(day // 10) if day % 10 == 0 else " " for day in range(1, 32))
_ONES = "".join(str(day % 10) for day in range(1, 32))


def policy_of(values: Sequence[int], timezone: str, *, required: bool) -> PolicyBody | None:
    """The policy of the six options, in their order. None when none was given. Raises UsageError when one is needed."""
    if not any(values):
        if required:
            raise UsageError("no rule was given", hint="give at least one, such as --keep-daily 7")
        return None
    zone_of(timezone)
    last, hourly, daily, weekly, monthly, yearly = values
    return PolicyBody(
        keep_last=last,
        keep_hourly=hourly,
        keep_daily=daily,
        keep_weekly=weekly,
        keep_monthly=monthly,
        keep_yearly=yearly,
        timezone=timezone,
    )


def print_plan(plan: PrunePlanView, output: Output, *, calendar: bool = False) -> None:
    """The whole plan: each snapshot with its decision, or the picture; then what it comes to."""
    if output is Output.JSON:
        print_json(plan)
        return
    for group in plan.groups:
        say(f"{group.group}: {group.text}, set for the {group.level}" if group.level != "command" else group.group)
        if calendar:
            for line in calendar_lines(group.decisions, group.policy.timezone):
                say(line)
        else:
            print_rows(group.decisions, _DECISIONS, output, empty="no snapshots")
        say("")
    if calendar and plan.groups:
        say(_LEGEND)
    if not plan.groups:
        say("nothing to prune: no retention is set here; set one: ironcore-backup retention set STORE --keep-daily 7")
        return
    say(f"{format_count(plan.keep)} snapshots stay, {format_count(plan.remove)} would go to the bin")
    if plan.remove:
        say(_freed(plan))
    for group in plan.groups:
        if group.stopped:
            print_warning(_stopped(group))


def _freed(plan: PrunePlanView) -> str:
    if plan.freed_bytes is None:
        return f"bytes that this would free: {plan.freed_note}"
    return (
        f"{format_bytes(plan.freed_bytes)} are needed by nothing else now, and free when the bin's grace of 7 days is "
        "over and garbage was collected"
    )


def _stopped(group: PruneGroup) -> str:
    return f"{group.group} would be left alone: {group.stopped}; prune run --override does it all the same"


def calendar_lines(decisions: Sequence[PruneDecision], timezone: str) -> list[Text]:
    """One line a month with a sign for each day, newest month first, below a head that numbers the days."""
    zone = zone_of(timezone)
    days: dict[tuple[int, int], dict[int, list[bool]]] = {}
    for one in decisions:
        local: datetime = parse_time(one.time).astimezone(zone)
        days.setdefault((local.year, local.month), {}).setdefault(local.day, []).append(one.keep)
    lines = [Text(f"{'':9}{_DAYS}", "dim"), Text(f"{'':9}{_ONES}", "dim")] if days else []
    for (year, month), found in sorted(days.items(), reverse=True):
        line = Text(f"{year:04}-{month:02}  ")
        for day in range(1, 32):
            sign = _sign(found.get(day, []))
            line.append(sign.value, _STYLES[sign])
        lines.append(line)
    return lines


def _sign(kept: Sequence[bool]) -> Sign:
    if not kept:
        return Sign.NONE
    if all(kept):
        return Sign.KEPT
    return Sign.SOME if any(kept) else Sign.REMOVED
