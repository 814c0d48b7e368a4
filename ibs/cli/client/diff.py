"""`ironcore-backup-client diff`."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from ibs.cli.client import keyring
from ibs.cli.client.connection import (
    ArchiveArgument,
    Connection,
    NamespaceOption,
    RepositoryOption,
    SnapshotArgument,
    connection,
    snapshot_name,
)
from ibs.cli.client.entries import path_facts
from ibs.cli.common import run
from ibs.cli.output import Output, OutputOption, harmless, print_json, print_warning, say
from ibs.client.restore.diff import LiveOptions, diff_folder, diff_snapshots
from ibs.client.restore.view import TreeView, open_tree
from ibs.client.transport import HttpRestoreTransport
from ibs.core.keys import DataKeys
from ibs.errors import UsageError
from ibs.restore.compare import Difference
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool

_MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("M", "yellow")}


def diff(
    snapshot: SnapshotArgument,
    archive: ArchiveArgument,
    other: Annotated[str, typer.Argument(metavar="[SNAPSHOT2]", help="The newer one to compare with.")] = "",
    path: Annotated[str, typer.Option(help="Compare with this live folder instead.")] = "",
    content: Annotated[bool, typer.Option(help="Read every live file, although it seems unchanged.")] = False,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave out of the live folder, as in a backup.")] = None,
    keyfile: keyring.KeyfileOption = None,
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what was added (+), removed (-) or changed (M, and in which respect) from one state to another."""
    live = LiveOptions(excludes=tuple(exclude or ()), content=content)

    async def work() -> None:
        if bool(other) == bool(path):
            raise UsageError("nothing to compare with", hint="name either a second snapshot or --path DIR")
        rows: list[dict[str, Any]] = []
        keys = keyring.reading_keys(keyfile)
        async with AsyncExitStack() as stack:
            found = await stack.enter_async_context(connection(repository))
            old = await _open(stack, found, str(snapshot_name(snapshot, namespace)), archive, keys)
            if other:
                new = await _open(stack, found, str(snapshot_name(other, namespace)), archive, keys)
                differences = diff_snapshots(old, new)
            else:
                differences = diff_folder(old, path, live)
            async for difference in differences:
                if output is Output.JSON:
                    rows.append(_row(difference))
                else:
                    _tell(difference)
        if output is Output.JSON:
            print_json(rows)

    run(work, output)
    for note in live.notes:
        print_warning(note.line)
    sys.stdout.flush()


async def _open(stack: AsyncExitStack, found: Connection, name: str, archive: str, keys: DataKeys | None) -> TreeView:
    transport = await stack.enter_async_context(HttpRestoreTransport(found.api))
    view = open_tree(
        transport, store=found.store, snapshot=name, archive=archive, pool=ThreadPool(), clock=SystemClock(), keys=keys
    )
    return await stack.enter_async_context(view)


def _row(difference: Difference) -> dict[str, Any]:
    entry = difference.new or difference.old
    row: dict[str, Any] = path_facts(difference.path) | {"change": difference.change, "what": list(difference.what)}
    if entry is not None:
        row |= {"kind": entry.kind.name.lower(), "size": entry.size}
    return msgspec.to_builtins(row)  # type: ignore[no-any-return]


def _tell(difference: Difference) -> None:
    what = f"  ({', '.join(difference.what)})" if difference.what else ""
    path = harmless(path_facts(difference.path)["path"]) or "."
    say(Text.assemble(_MARKS[difference.change], f" {path}{what}"))
