"""`ironcore-backup verify …`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ibs.cli.admin import schedule
from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import Column, Output, OutputOption, harmless, print_json, print_rows, say, state_text
from ibs.core import limits
from ibs.errors import ExitStatus
from ibs.units import format_bytes, format_count, parse_rate
from ibs.wire.common import TaskStarted
from ibs.wire.datastore import Damage, VerifyOutlook, VerifyReport, VerifyStart
from ibs.wire.schedule import ScheduleSet

root = app("verify", "Verification: is everything that the snapshots need still there and unharmed?")


class NotificationMode(StrEnum):
    """When a verification is reported."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


_REPORTS = (
    Column("SNAPSHOT", lambda row: row.snapshot),
    Column("RESULT", lambda row: state_text(row.result)),
    Column("CHECKED", lambda row: row.started),
    Column("CHUNKS", lambda row: format_count(row.chunks), right=True),
    Column("BYTES", lambda row: format_bytes(row.bytes), right=True),
    Column("PROVEN", lambda row: ", ".join(row.proof)),
    Column("REASON", lambda row: row.stale or row.first_failure),
)


_OUTLOOKS = (
    Column("DATASTORE", lambda row: row.name),
    Column("SNAPSHOTS", lambda row: format_count(row.snapshots), right=True),
    Column("OK", lambda row: format_count(row.ok), right=True),
    Column("CORRUPT", lambda row: format_count(row.corrupt), right=True),
    Column("MISSING", lambda row: format_count(row.missing), right=True),
    Column("STALE", lambda row: format_count(row.stale), right=True),
    Column("NOT YET", lambda row: format_count(row.never), right=True),
    Column("OLDEST CHECK", lambda row: row.oldest_check),
)
_DAMAGE = (
    Column("CHUNK", lambda row: row.chunk),
    Column("RESULT", lambda row: state_text(row.result)),
    Column("SNAPSHOTS", lambda row: format_count(len(row.snapshots)), right=True),
)


@root.command("start", epilog=example("ironcore-backup verify start ibs-primary --notification-mode always"))
def start(
    store: StoreArgument,
    snapshot: Annotated[str, typer.Option(help="Only this snapshot, such as host/web01 or host/web01/TIME.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "--ns", help="Only this namespace.")] = "",
    verify_window_days: Annotated[
        int,
        typer.Option(help="Chunks checked in so many days, and not touched since, are not read again. 0 reads all."),
    ] = limits.VERIFY_WINDOW_DAYS,
    max_concurrent_snapshots: Annotated[int, typer.Option(help="Snapshots verified side by side.")] = 1,
    io_limit: Annotated[str, typer.Option(metavar="RATE", help="Read at most so much, such as 50MiB/s.")] = "",
    repair_from: Annotated[
        str, typer.Option(metavar="REMOTE:DATASTORE", help="Fetch what is damaged here from there; verify it again.")
    ] = "",
    notification_mode: Annotated[NotificationMode, typer.Option(help="When to report.")] = NotificationMode.ON_FAILURE,
    detach: Annotated[bool, typer.Option(help="Print the UPID and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check every chunk of a datastore's snapshots; name each snapshot that is affected by a bad one."""
    body = VerifyStart(
        snapshot=snapshot,
        namespace=namespace,
        notification_mode=notification_mode.value,
        verify_window_days=verify_window_days,
        max_concurrent_snapshots=max_concurrent_snapshots,
        io_limit=parse_rate(io_limit) if io_limit else 0,
        repair_from=repair_from,
    )

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/datastores/{store}/verify", TaskStarted, body)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.command(
    "status",
    epilog=example("ironcore-backup verify status --output json", "ironcore-backup verify status --summary"),
)
def status(
    summary: Annotated[bool, typer.Option(help="One row a datastore, with the forecast for its window.")] = False,
    verify_window_days: Annotated[int, typer.Option(help="An older check is STALE.")] = limits.VERIFY_WINDOW_DAYS,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the last verification of each snapshot, what is STALE and why, and whether a pass fits its window."""
    window = {"window_days": str(verify_window_days)}

    async def work() -> tuple[list[VerifyOutlook], list[VerifyReport]]:
        async with administrator(server, state_dir) as api:
            outlooks = []
            if summary or output is Output.TEXT:
                outlooks = await api.get("/verify/outlook", list[VerifyOutlook], params=window)
            reports = [] if summary else await api.get("/verify/status", list[VerifyReport], params=window)
            return outlooks, reports

    outlooks, reports = run(work, output)
    if summary or (output is Output.TEXT and outlooks):
        print_rows(outlooks, _OUTLOOKS, output, empty="no datastore is online")
        for row in outlooks if output is Output.TEXT else ():
            say(harmless(f"{row.name}: {row.text}"))
    if not summary:
        print_rows(reports, _REPORTS, output, empty="nothing was verified yet: ironcore-backup verify start STORE")


@root.command("affected", epilog=example("ironcore-backup verify affected ibs-primary --output json"))
def affected(
    store: StoreArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List every snapshot that refers to a chunk known to be damaged or missing. Exit status 4 when there are any."""

    async def work() -> Damage:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/datastores/{store}/damage", Damage)

    found = run(work, output)
    if output is Output.JSON:
        print_json(found)
    else:
        print_rows(found.chunks, _DAMAGE, output, empty=f"no chunk of datastore {store} is known to be damaged")
        for name in found.snapshots:
            say(harmless(f"snapshot affected: {name}"))
    end(ExitStatus.WARNING if found.bad_chunks else ExitStatus.OK)


schedules = schedule.commands("verify", "datastores are verified")
root.add_typer(schedules)


@schedules.command(
    "set",
    epilog=example(
        "ironcore-backup verify schedule set ibs-primary 'Sun 04:30'",
        "ironcore-backup verify schedule set ibs-primary daily --namespace prod --io-limit 100MiB/s",
    ),
)
def schedule_set(
    store: StoreArgument,
    expr: schedule.ExprArgument,
    namespace: schedule.NamespaceOption = "",
    verify_window_days: Annotated[
        int,
        typer.Option(help="Chunks checked in so many days, and not touched since, are not read again. 0 reads all."),
    ] = limits.VERIFY_WINDOW_DAYS,
    max_concurrent_snapshots: Annotated[int, typer.Option(help="Snapshots verified side by side.")] = 1,
    io_limit: schedule.IoLimitOption = "",
    notification_mode: Annotated[NotificationMode, typer.Option(help="When to report.")] = NotificationMode.ON_FAILURE,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Verify a datastore, or a namespace of it, by itself at these times."""
    body = ScheduleSet(
        kind="verify",
        when=expr,
        namespace=namespace,
        verify_window_days=verify_window_days,
        max_concurrent_snapshots=max_concurrent_snapshots,
        io_limit=parse_rate(io_limit) if io_limit else 0,
        notification_mode=notification_mode.value,
    )
    schedule.put(store, body, server, state_dir, output)
