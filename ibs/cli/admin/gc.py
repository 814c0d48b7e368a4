"""`ironcore-backup gc …`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ibs.cli.admin import schedule
from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import Column, Output, OutputOption, print_done, print_rows, say, state_text
from ibs.core import limits
from ibs.units import format_bytes, format_count, format_duration, parse_rate
from ibs.wire.common import TaskStarted
from ibs.wire.gc import GcStart, GcStatus, GcUndo

root = app("gc", "Garbage collection: give back the space of chunks that no snapshot refers to any more.")


class Reclaim(StrEnum):
    """When space comes back."""

    GRACE = "after-grace"
    NOW = "now"


@root.command(
    "start", epilog=example("ironcore-backup gc start ibs-primary", "ironcore-backup gc start ibs-primary --dry-run")
)
def start(
    store: StoreArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    reclaim: Annotated[
        Reclaim, typer.Option(help="Free space now, instead of after a day in trash from which it can be taken back.")
    ] = Reclaim.GRACE,
    empty_bin: Annotated[
        bool, typer.Option("--empty-bin", help="First remove every forgotten snapshot in the bin for good.")
    ] = False,
    allow_share: Annotated[
        int, typer.Option(min=1, max=100, metavar="PERCENT", help="How many of all chunks may go in one run.")
    ] = limits.GC_SHARE_PERCENT,
    accept_missing: Annotated[
        bool, typer.Option("--accept-missing", help="Go on though snapshots refer to chunks that are missing.")
    ] = False,
    io_limit: Annotated[str, typer.Option(metavar="RATE", help="Such as 50MiB/s; empty for no limit.")] = "",
    detach: Annotated[bool, typer.Option("--detach", help="Print the UPID and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Collect garbage while backups and restores go on; say what was freed and what waits until when."""

    async def work() -> int:
        body = GcStart(
            dry_run=dry_run,
            reclaim_now=reclaim is Reclaim.NOW,
            empty_bin=empty_bin,
            accept_missing=accept_missing,
            allow_share=allow_share,
            io_limit=parse_rate(io_limit) if io_limit else 0,
        )
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/datastores/{store}/gc", TaskStarted, body)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.command("undo", epilog=example("ironcore-backup gc undo ibs-primary"))
def undo(
    store: StoreArgument,
    everything: Annotated[
        bool, typer.Option("--all", help="All that is in trash, not only what the last run put there.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Print the UPID and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take chunks back out of the trash."""

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            body = GcUndo(everything=everything)
            started = await api.post(f"/datastores/{store}/gc/undo", TaskStarted, body)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.command("pause", epilog=example("ironcore-backup gc pause ibs-primary"))
def pause(
    store: StoreArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Hold the garbage collection under way; nothing is lost by that."""
    _steer(store, "pause", "paused", server, state_dir, output)


@root.command("resume", epilog=example("ironcore-backup gc resume ibs-primary"))
def resume(
    store: StoreArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a paused garbage collection go on."""
    _steer(store, "resume", "goes on", server, state_dir, output)


def _steer(store: str, verb: str, said: str, server: ServerOption, state_dir: StateDirOption, output: Output) -> None:
    async def work() -> GcStatus:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/gc/{verb}", GcStatus)

    done = run(work, output)
    print_done(f"garbage collection of {store} {said}", output, store=done.store, state=done.state)


def _progress(row: GcStatus) -> str:
    if not row.phase:
        return ""
    of = f" of {format_count(row.total)}" if row.total else ""
    text = f"{row.phase} {format_count(row.done)}{of} {row.unit}".rstrip()
    if row.rate:
        text += f", {row.rate:,.1f}/s"
    if row.eta_seconds is not None:
        text += f", {format_duration(row.eta_seconds)} left"
    return text


_ROWS = (
    Column("DATASTORE", lambda row: row.store),
    Column("STATE", lambda row: state_text(row.state)),
    Column("PROGRESS", _progress),
    Column("LAST RUN", lambda row: row.last.started if row.last else "never"),
    Column("RESULT", lambda row: state_text(row.last.result) if row.last else ""),
    Column("FREED", lambda row: format_bytes(row.last.freed_bytes) if row.last else "", right=True),
    Column("IN TRASH", lambda row: format_bytes(sum(one.bytes for one in row.trash)), right=True),
    Column("UNTIL", lambda row: min((one.until for one in row.trash if one.until), default="")),
    Column("IN BIN", lambda row: f"{format_count(row.bin_snapshots)} snapshots" if row.bin_snapshots else ""),
)


@root.command("status", epilog=example("ironcore-backup gc status", "ironcore-backup gc status ibs-primary"))
def status(
    store: Annotated[str, typer.Argument(metavar="[STORE]", help="Only this datastore.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what runs, what the last run did, and what waits in trash and bin until when."""

    async def work() -> list[GcStatus]:
        async with administrator(server, state_dir) as api:
            return await api.get("/gc/status", list[GcStatus], params={"store": store} if store else None)

    rows = run(work, output)
    print_rows(rows, _ROWS, output, empty="no datastore is online")
    for row in rows:
        for line in _remarks(row):
            say(f"{row.store}: {line}", output)


def _remarks(row: GcStatus) -> list[str]:
    lines = []
    if row.state == "interrupted" and row.running is not None:
        lines.append(f"the run that began {row.running.started} was cut off; nothing is lost, start another")
    if row.last is not None and row.last.text:
        lines.append(f"last run: {row.last.text}")
    if row.waits:
        lines.append(f"nothing leaves trash or bin by itself: {row.waits}")
    return lines


_schedules = schedule.commands("gc", "garbage is collected")
schedule.add_plain_set(_schedules, "gc", rate=True)
root.add_typer(_schedules)
