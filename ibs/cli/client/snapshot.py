"""`ironcore-backup-client snapshot …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ibs.cli.client import keyring, lifecycle
from ibs.cli.client.connection import (
    ArchiveArgument,
    NamespaceOption,
    RepositoryOption,
    SnapshotArgument,
    connection,
    snapshot_name,
)
from ibs.cli.client.entries import ENTRY_COLUMNS, entry_row
from ibs.cli.columns import SNAPSHOT_COLUMNS, snapshot_facts
from ibs.cli.common import app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_facts, print_rows
from ibs.client.restore.clientlog import read_log
from ibs.client.restore.view import archive_path, list_entries, open_tree
from ibs.client.transport import HttpRestoreTransport
from ibs.core.names import Group
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.wire.datastore import SnapshotView
from ibs.wire.session import LogLine

_LOG_COLUMNS = (Column("LEVEL", lambda row: row.level), Column("TEXT", lambda row: row.text))
root = app("snapshot", "Snapshots: what was backed up, and what is in it.")


@root.command("list", epilog=example("ironcore-backup-client snapshot list host/web01"))
def list_(
    group: Annotated[str, typer.Argument(metavar="[GROUP]", help="Such as host/web01; all when left out.")] = "",
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List snapshots, oldest first."""

    async def work() -> list[SnapshotView]:
        params = {"namespace": namespace, "group": str(Group.parse(group)) if group else ""}
        async with connection(repository) as found:
            return await found.api.get(f"/datastores/{found.store}/snapshots", list[SnapshotView], params=params)

    print_rows(run(work, output), SNAPSHOT_COLUMNS, output, empty="no snapshots")


@root.command("show", epilog=example("ironcore-backup-client snapshot show host/web01"))
def show(
    snapshot: SnapshotArgument,
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one snapshot: archives, sizes, owner, signature, last verification."""

    async def work() -> SnapshotView:
        params = {"name": str(snapshot_name(snapshot, namespace))}
        async with connection(repository) as found:
            return await found.api.get(f"/datastores/{found.store}/snapshot", SnapshotView, params=params)

    found = run(work, output)
    print_facts(found, snapshot_facts(found), output)


@root.command("files", epilog=example("ironcore-backup-client snapshot files host/web01 etc.tree nginx"))
def files(
    snapshot: SnapshotArgument,
    archive: ArchiveArgument,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="A folder or file in the archive.")] = "",
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Everything below too.")] = False,
    keyfile: keyring.KeyfileOption = None,
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List what is in an archive."""

    async def work() -> list[dict[str, Any]]:
        name, keys = str(snapshot_name(snapshot, namespace)), keyring.reading_keys(keyfile)
        async with connection(repository) as found, HttpRestoreTransport(found.api) as transport:
            pool, clock = ThreadPool(), SystemClock()
            view = open_tree(
                transport, store=found.store, snapshot=name, archive=archive, pool=pool, clock=clock, keys=keys
            )
            async with view as tree:
                return [entry_row(entry) async for entry in list_entries(tree, archive_path(path), recursive=recursive)]

    print_rows(run(work, output), ENTRY_COLUMNS, output, empty="the folder is empty")


@root.command("log", epilog=example("ironcore-backup-client snapshot log host/web01"))
def log(
    snapshot: SnapshotArgument,
    keyfile: keyring.KeyfileOption = None,
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what the backup said on its host; of an encrypted one the server's log has no names."""

    async def work() -> list[LogLine]:
        name, keys = str(snapshot_name(snapshot, namespace)), keyring.reading_keys(keyfile)
        async with connection(repository) as found, HttpRestoreTransport(found.api) as transport:
            return await read_log(transport, store=found.store, snapshot=name, pool=ThreadPool(), keys=keys)

    print_rows(run(work, output), _LOG_COLUMNS, output, empty="the backup had nothing to say")


lifecycle.add_to(root)
