"""`ironcore-backup snapshot …`: the administrator's view of a datastore's snapshots."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_rows, state_text
from ibs.units import format_bytes
from ibs.wire.datastore import SnapshotView

root = app("snapshot", "Snapshots in a datastore.")

SNAPSHOT_COLUMNS = (
    Column("SNAPSHOT", lambda row: row.snapshot),
    Column("SIZE", lambda row: format_bytes(row.plain_bytes), right=True),
    Column("ARCHIVES", lambda row: " ".join(archive.name for archive in row.archives)),
    Column("WARNINGS", lambda row: str(row.warnings or ""), right=True),
    Column("VERIFIED", lambda row: state_text(row.verify) if row.verify else "never"),
    Column("OWNER", lambda row: row.owner),
)


@root.command("list", epilog=example("ironcore-backup snapshot list ibs-primary"))
def list_(
    store: StoreArgument,
    group: Annotated[str, typer.Option(help="Only this group, such as host/web01.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "--ns", help="Namespace, such as a/b.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the snapshots of a datastore."""
    params = {"namespace": namespace, "group": group}

    async def work() -> list[SnapshotView]:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/datastores/{store}/snapshots", list[SnapshotView], params=params)

    print_rows(run(work, output), SNAPSHOT_COLUMNS, output, empty="no snapshots")


@root.callback()
def _snapshot() -> None:
    """Keeps `list` a subcommand although it is the only one."""
