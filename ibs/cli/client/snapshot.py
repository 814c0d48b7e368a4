"""`ironcore-backup-client snapshot …`."""

from __future__ import annotations

import os
from typing import Annotated, Any

import trio
import typer

from ibs.cli.admin.snapshot import SNAPSHOT_COLUMNS
from ibs.cli.client.connection import ArchiveArgument, NamespaceOption, RepositoryOption, SnapshotArgument
from ibs.cli.client.connection import connection, snapshot_name
from ibs.cli.common import app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_facts, print_rows, state_text
from ibs.core.names import Group
from ibs.units import format_bytes, format_count
from ibs.wire.datastore import SnapshotView

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
    facts = [
        ("Snapshot", found.snapshot),
        ("Owner", found.owner),
        ("Size", format_bytes(found.plain_bytes)),
        ("Warnings", str(found.warnings)),
        ("Signed by", found.signed_by),
        ("Verified", state_text(found.verify) if found.verify else "never"),
        ("Protected", "yes" if found.protected else "no"),
    ]
    for archive in found.archives:
        key = f", key {archive.key_fingerprint[:23]}" if archive.key_fingerprint else ""
        size = f"{format_bytes(archive.plain_bytes)} in {format_count(archive.chunks)} chunks{key}"
        facts.append((f"  {archive.name}", size))
    print_facts(found, facts, output)
