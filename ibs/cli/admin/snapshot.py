"""`ironcore-backup snapshot …`: the administrator's view of a datastore's snapshots."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.columns import SNAPSHOT_COLUMNS
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Output, OutputOption, print_rows
from ibs.wire.datastore import SnapshotView

root = app("snapshot", "Snapshots in a datastore.")


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
