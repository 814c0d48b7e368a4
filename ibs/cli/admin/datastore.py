"""`ironcore-backup datastore …`."""

from __future__ import annotations

from enum import StrEnum
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
    print_warning,
    say,
    state_text,
)
from ibs.errors import ExitStatus
from ibs.units import format_bytes, format_count
from ibs.wire.common import TaskStarted
from ibs.wire.datastore import (
    DatastoreAdopt,
    DatastoreCreate,
    DatastoreStats,
    DatastoreView,
    MaintenanceRequest,
    ProbeResult,
    QuarantineRequest,
    ReleaseRequest,
    UsageRow,
)

root = app("datastore", "Datastores: where backups are kept.")

StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="Name of the datastore.")]

_LIST = (
    Column("NAME", lambda row: row.name),
    Column("STATUS", lambda row: state_text(row.status)),
    Column("SNAPSHOTS", lambda row: format_count(row.snapshots), right=True),
    Column("FREE", lambda row: format_bytes(row.bytes_free) if row.bytes_total else "", right=True),
    Column("TOTAL", lambda row: format_bytes(row.bytes_total) if row.bytes_total else "", right=True),
    Column("PATH", lambda row: row.path),
    Column("REASON", lambda row: row.reason),
)


@root.command("create", epilog=example("ironcore-backup datastore create ibs-primary --path /mnt/backup/ibs-primary"))
def create(
    store: StoreArgument,
    path: Annotated[
        Path, typer.Option(help="An empty or new folder on the server. Never shared with another datastore.")
    ],
    comment: Annotated[str, typer.Option(help="A note for people.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a datastore in an empty folder on the server."""
    place = str(path.absolute() if server is None else path)

    async def work() -> DatastoreView:
        async with administrator(server, state_dir) as api:
            return await api.post(
                "/datastores", DatastoreView, DatastoreCreate(name=store, path=place, comment=comment)
            )

    made = run(work, output)
    if output is Output.JSON:
        print_json(made)
    say(f"datastore {made.name} is {made.status} at {made.path}", output)
    for warning in made.warnings:
        print_warning(warning)


@root.command("list", epilog=example("ironcore-backup datastore list --output json"))
def list_(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """List the datastores and whether each can be used."""

    async def work() -> list[DatastoreView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/datastores", list[DatastoreView])

    print_rows(
        run(work, output),
        _LIST,
        output,
        empty="no datastores; make one: ironcore-backup datastore create NAME --path DIR",
    )


@root.command("probe", epilog=example("ironcore-backup datastore probe ibs-primary"))
def probe(
    store: StoreArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Look at a datastore again and say exactly what is wrong, or bring it back online.

    Exit status 6 when it is offline or read-only, 4 when it is quarantined.
    """

    async def work() -> ProbeResult:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/probe", ProbeResult)

    found = run(work, output)
    if output is Output.JSON:
        print_json(found)
    else:
        reason = harmless(f" ({found.reason})") if found.reason else ""
        say(Text.assemble(f"datastore {found.name}: ", state_text(found.status), reason))
        for check in found.checks:
            mark = ("ok  ", "green") if check.ok else ("FAIL", "red")
            say(Text.assemble("  ", mark, harmless(f"  {check.check}: {check.detail}")))
    end({"online": ExitStatus.OK, "quarantined": ExitStatus.WARNING}.get(found.status, ExitStatus.UNAVAILABLE))


class By(StrEnum):
    """What figures are kept by."""

    GROUP = "group"
    NAMESPACE = "namespace"


_USAGE = (
    Column("NAME", lambda row: row.name),
    Column("SNAPSHOTS", lambda row: format_count(row.snapshots), right=True),
    Column("BEFORE SAVING", lambda row: format_bytes(row.plain_bytes), right=True),
    Column("STORED", lambda row: format_bytes(row.stored_bytes), right=True),
    Column("ITS OWN", lambda row: format_bytes(row.unique_bytes), right=True),
    Column("SHARED", lambda row: format_bytes(row.shared_bytes), right=True),
)


def _usage(store: str, by: By, server: str | None, state_dir: Path | None, output: Output) -> None:
    async def work() -> list[UsageRow]:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/datastores/{store}/usage", list[UsageRow], params={"by": by.value})

    print_rows(run(work, output), _USAGE, output, empty="there are no snapshots")


def _growth(found: DatastoreStats) -> str:
    if not found.growth_bytes_per_day:
        return "free space does not shrink, or too few days are known"
    ends = f", used up on {found.fills_on}" if found.fills_on else ""
    return f"{format_bytes(found.growth_bytes_per_day)} a day{ends}"


@root.command("stats", epilog=example("ironcore-backup datastore stats ibs-primary"))
def stats(
    store: StoreArgument,
    by: Annotated[
        By | None, typer.Option(help="What each group or namespace takes, alone and shared; reads every index.")
    ] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show space, inodes, chunks and what deduplication and compression save."""

    if by is not None:
        _usage(store, by, server, state_dir, output)
        return

    async def work() -> DatastoreStats:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/datastores/{store}/stats", DatastoreStats)

    found = run(work, output)
    facts: list[tuple[str, str | Text]] = [
        ("Datastore", Text.assemble(f"{found.name}  ", state_text(found.status))),
        ("Bytes", f"{format_bytes(found.bytes_free)} free of {format_bytes(found.bytes_total)}"),
        ("Inodes", f"{format_count(found.inodes_free)} free of {format_count(found.inodes_total)}"),
        *_quota(found),
        ("Chunks", f"{format_count(found.chunks)} in {format_bytes(found.chunk_bytes)}, {found.bad_chunks} bad"),
        ("In progress", f"{found.received_chunks} chunks of running sessions"),
        ("Snapshots", f"{found.snapshots} in {found.groups} groups, {format_bytes(found.plain_bytes)} before saving"),
        ("Saving", f"{found.dedup_ratio:.2f} to 1 by deduplication and compression"),
        ("Reclaimable", _reclaimable(found)),
        ("Growth", _growth(found)),
        ("Sessions", f"{found.open_sessions} open, {found.interrupted_sessions} interrupted"),
    ]
    print_facts(found, facts, output)


def _reclaimable(found: DatastoreStats) -> str:
    parts = [f"{format_bytes(found.trash_bytes)} in trash ({format_count(found.trash_chunks)} chunks"]
    parts[0] += f", {format_bytes(found.trash_due_bytes)} past the grace)" if found.trash_due_chunks else ")"
    if found.unreferenced_bytes is None:
        parts.append("what else is unreferenced is not known yet: gc start --dry-run")
    else:
        chunks = format_count(found.unreferenced_chunks or 0)
        parts.append(
            f"{format_bytes(found.unreferenced_bytes)} unreferenced ({chunks} chunks, as of {found.unreferenced_as_of})"
        )
    return f"{format_bytes(found.reclaimable_bytes)}: {'; '.join(parts)}"


def _quota(found: DatastoreStats) -> list[tuple[str, str]]:
    left = []
    if found.quota_bytes_free is not None:
        left.append(f"{format_bytes(found.quota_bytes_free)} free of {format_bytes(found.quota_bytes_total or 0)}")
    if found.quota_inodes_free is not None:
        inodes = format_count(found.quota_inodes_total or 0)
        left.append(f"{format_count(found.quota_inodes_free)} free of {inodes} inodes")
    return [("Quota", f"{', '.join(left)} ({found.quota})")] if left else []


@root.command("cleanup", epilog=example("ironcore-backup datastore cleanup ibs-primary"))
def cleanup(
    store: StoreArgument,
    detach: Annotated[bool, typer.Option(help="Print the UPID and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Discard what interrupted backups left behind, now instead of after a day. They can then not be resumed."""

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/datastores/{store}/cleanup", TaskStarted)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.command(
    "quarantine", epilog=example('ironcore-backup datastore quarantine ibs-primary --reason "corrupt chunks"')
)
def quarantine(
    store: StoreArgument,
    reason: Annotated[str, typer.Option(help="Why, for whoever meets the quarantine.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Stop new backups, pruning and garbage collection until the cause of damage is known.

    Restores, verification and repair go on. Running backups are interrupted and can be resumed after the release.
    """

    async def work() -> DatastoreView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/quarantine", DatastoreView, QuarantineRequest(reason=reason))

    _print_held(run(work, output), output)


@root.command("release", epilog=example('ironcore-backup datastore release ibs-primary --cause "bad cable, replaced"'))
def release(
    store: StoreArgument,
    cause: Annotated[str, typer.Option(help="What had gone wrong, and what was done about it. Kept in the datastore.")],
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """End a quarantine. The cause must be stated."""

    async def work() -> DatastoreView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/release", DatastoreView, ReleaseRequest(cause=cause))

    _print_held(run(work, output), output)


def _print_held(view: DatastoreView, output: Output) -> None:
    if output is Output.JSON:
        print_json(view)
    say(harmless(f"datastore {view.name} is {view.status}" + (f": {view.reason}" if view.reason else "")), output)
    for warning in view.warnings:
        print_warning(warning)


class MaintenanceMode(StrEnum):
    """What a datastore is held to while people work on it."""

    READ_ONLY = "read-only"
    OFFLINE = "offline"
    OFF = "off"


@root.command("maintenance", epilog=example("ironcore-backup datastore maintenance ibs-primary offline --drain 600"))
def maintenance(
    store: StoreArgument,
    mode: Annotated[MaintenanceMode, typer.Argument(help="What it is held to; off ends it.")],
    reason: Annotated[str, typer.Option(help="Why, for whoever meets it.")] = "",
    drain: Annotated[
        int | None,
        typer.Option(help="Seconds that work under way may still take before it is interrupted; 300 when not given."),
    ] = None,
    detach: Annotated[bool, typer.Option(help="Print the UPID and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a datastore read-only, or take it offline so that its file system can be unmounted; `off` ends that.

    Nothing new begins from the moment this is called; what is under way is waited for.
    """
    body = MaintenanceRequest(mode=mode.value, reason=reason, drain_seconds=drain)

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/datastores/{store}/maintenance", TaskStarted, body)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.command(
    "adopt", epilog=example("ironcore-backup datastore adopt /mnt/backup/ibs-primary --name ibs-primary --takeover")
)
def adopt(
    path: Annotated[Path, typer.Argument(help="Folder of an existing datastore, on the server.")],
    name: Annotated[str, typer.Option(help="Its name on this server.")],
    takeover: Annotated[
        bool, typer.Option(help="Although it belongs to another server. If that one still runs, it stops writing.")
    ] = False,
    comment: Annotated[str, typer.Option(help="A note for people.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Attach an existing datastore with all that is in it: after the loss of its server, or moved from another."""
    place = str(path.absolute() if server is None else path)
    body = DatastoreAdopt(name=name, path=place, comment=comment, takeover=takeover)

    async def work() -> DatastoreView:
        async with administrator(server, state_dir) as api:
            return await api.post("/datastores/adopt", DatastoreView, body)

    _print_held(run(work, output), output)


@root.command("reindex", epilog=example("ironcore-backup datastore reindex ibs-primary"))
def reindex(
    store: StoreArgument,
    detach: Annotated[bool, typer.Option(help="Print the UPID and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Rebuild the chunk index and what is known of snapshots from the store alone. Backups and restores go on."""

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/datastores/{store}/reindex", TaskStarted)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.command("remove", epilog=example("ironcore-backup datastore remove ibs-old"))
def remove(
    store: StoreArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Forget a datastore. Its data stays where it is, untouched."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/datastores/{store}")

    run(work, output)
    print_done(f"datastore {store} is no longer configured; its data was not touched", output, name=store, removed=True)
