"""`ironcore-backup bin …`: forgotten and pruned snapshots, until their grace is over."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.columns import BIN_COLUMNS
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Output, OutputOption, print_json, print_rows, print_warning, say
from ibs.errors import UsageError
from ibs.wire.lifecycle import BinEmptied, BinEmpty, BinUndo, BinView, SnapshotRef

root = app("bin", "The recycle bin: what was forgotten or pruned, for 7 days.")

EntryArgument = Annotated[
    str, typer.Argument(metavar="SNAPSHOT", help="A snapshot as `bin list` shows it, or the name of its entry.")
]


@root.command("list", epilog=example("ironcore-backup bin list ibs-primary"))
def list_(
    store: StoreArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List what is in the bin, who put it there, and when it goes for good."""

    async def work() -> list[BinView]:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/datastores/{store}/bin", list[BinView])

    rows = run(work, output)
    print_rows(rows, BIN_COLUMNS, output, empty="the bin is empty")
    waits = next((row.waits for row in rows if row.waits), "")
    if waits and output is Output.TEXT:
        print_warning(f"nothing goes for good at present: {waits}")


@root.command("undo", epilog=example("ironcore-backup bin undo ibs-primary host/web01/2026-11-22T19:00:00Z"))
def undo(
    store: StoreArgument,
    snapshot: EntryArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a snapshot out of the bin, back to its place."""

    async def work() -> SnapshotRef:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/bin/undo", SnapshotRef, BinUndo(entry=snapshot))

    found = run(work, output)
    if output is Output.JSON:
        print_json(found)
    say(f"snapshot {found.snapshot} is back", output)


@root.command("empty", epilog=example("ironcore-backup bin empty ibs-primary --all"))
def empty(
    store: StoreArgument,
    snapshot: Annotated[str, typer.Argument(metavar="[SNAPSHOT]", help="Only this one.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Everything in the bin.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove snapshots from the bin for good, before their time. Their space is free after: gc start STORE."""

    async def work() -> BinEmptied:
        if bool(snapshot) == everything:
            raise UsageError("what is to go was not said", hint="name one snapshot, or give --all")
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/bin/empty", BinEmptied, BinEmpty(entry=snapshot))

    gone = run(work, output)
    if output is Output.JSON:
        print_json(gone)
    say(f"{len(gone.removed)} snapshots were removed for good; free their space: gc start {store}", output)
