"""`ironcore-backup snapshot lock` and `namespace compliance …`: what nobody can remove before its time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_json, print_rows, say
from ibs.core.names import format_time, parse_time
from ibs.units import format_duration, parse_duration
from ibs.wire.datastore import SnapshotView
from ibs.wire.lifecycle import ComplianceSet, ComplianceView, SnapshotLock

root = app("compliance", "Compliance mode: every snapshot of a namespace stays for a time, whoever wants it gone.")

NamespaceOption = Annotated[
    str, typer.Option("--namespace", "--ns", help="This namespace and those below it; else the whole datastore.")
]
_COLUMNS = (
    Column("NAMESPACE", lambda row: row.namespace or "(the datastore)"),
    Column("LOCKED FOR", lambda row: format_duration(row.seconds) if row.seconds else "new ones are not"),
    Column("OLDER ONES FOR", lambda row: format_duration(row.earlier_seconds) if row.earlier_seconds else ""),
    Column("SET BY", lambda row: row.by),
    Column("SET", lambda row: row.time),
)


def moment(text: str) -> str:
    """A time as RFC 3339: as given, or so long from now. Raises UsageError."""
    if "T" in text:
        return format_time(parse_time(text))
    return format_time(datetime.now(UTC) + timedelta(seconds=parse_duration(text)))


def lock(
    store: StoreArgument,
    snapshot: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="[ns:a/b/]host/web01/2026-11-22T19:00:00Z.")],
    until: Annotated[str, typer.Option(help="Such as 2030-01-01T00:00:00Z, or 365d from now.")],
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Lock a snapshot: until then nobody can remove it, and nobody can take the lock away."""

    async def work() -> SnapshotView:
        body = SnapshotLock(snapshot=snapshot, until=moment(until))
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/snapshot/lock", SnapshotView, body)

    made = run(work, output)
    if output is Output.JSON:
        print_json(made)
    say(f"snapshot {made.snapshot} is locked until {made.locked_until}; nobody can take that back", output)


@root.command("list", epilog=example("ironcore-backup namespace compliance list ibs-primary"))
def list_(
    store: StoreArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the namespaces in compliance mode."""

    async def work() -> list[ComplianceView]:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/datastores/{store}/compliance", list[ComplianceView])

    print_rows(run(work, output), _COLUMNS, output, empty="no namespace is in compliance mode")


@root.command("set", epilog=example("ironcore-backup namespace compliance set ibs-primary --namespace law --for 3650d"))
def set_(
    store: StoreArgument,
    period: Annotated[str, typer.Option("--for", help="So long after it was made each snapshot stays, such as 30d.")],
    namespace: NamespaceOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Lock every snapshot, those that are there and those to come, for a time after it was made."""
    body = ComplianceSet(namespace=namespace, seconds=int(parse_duration(period)))
    found = _put(store, body, server, state_dir, output)
    say(
        f"snapshots are locked for {format_duration(found.seconds)} after they were made; that cannot be undone", output
    )


@root.command("clear", epilog=example("ironcore-backup namespace compliance clear ibs-primary --namespace law"))
def clear(
    store: StoreArgument,
    namespace: NamespaceOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Lock no snapshots that are made from now on; what is locked stays so."""
    found = _put(store, ComplianceSet(namespace=namespace, seconds=0), server, state_dir, output)
    left = f"; what there is stays locked for up to {format_duration(found.earlier_seconds)}"
    say("new snapshots are not locked" + (left if found.earlier_seconds else ""), output)


def _put(store: str, body: ComplianceSet, server: str | None, state_dir: Path | None, output: Output) -> ComplianceView:
    async def work() -> ComplianceView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/compliance", ComplianceView, body)

    found = run(work, output)
    if output is Output.JSON:
        print_json(found)
    return found
