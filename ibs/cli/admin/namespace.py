"""`ironcore-backup namespace …` and `ironcore-backup group …`: the order in a datastore, and whose a group is."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_json, print_rows, say
from ibs.units import format_count
from ibs.wire.datastore import GroupView
from ibs.wire.lifecycle import (
    GroupMove,
    GroupMoved,
    GroupOwnerChanged,
    GroupOwnerSet,
    NamespaceCreate,
    NamespaceRemove,
    NamespaceRemoved,
    NamespaceView,
)

root = app("namespace", "Namespaces: folders of a datastore, with rights and retention of their own.")
groups = app("group", "Groups: all snapshots of one host, machine or container.")

NamespaceArgument = Annotated[str, typer.Argument(metavar="NAMESPACE", help="Such as a/b.")]


def _indented(row: NamespaceView) -> str:
    depth = row.namespace.count("/") + 1
    return "  " * depth + row.namespace.rpartition("/")[2] if row.namespace else "(root)"


_TREE = (
    Column("NAMESPACE", _indented),
    Column("GROUPS", lambda row: format_count(row.groups), right=True),
    Column("SNAPSHOTS", lambda row: format_count(row.snapshots), right=True),
    Column("WRITTEN", lambda row: row.namespace),
)
_GROUPS = (
    Column("GROUP", lambda row: row.group),
    Column("OWNER", lambda row: row.owner or "unknown"),
    Column("SNAPSHOTS", lambda row: format_count(row.snapshots), right=True),
    Column("NEWEST", lambda row: row.newest),
)


@root.command("list", epilog=example("ironcore-backup namespace list ibs-primary"))
def list_(
    store: StoreArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the tree of namespaces with what is directly in each."""

    async def work() -> list[NamespaceView]:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/datastores/{store}/namespaces", list[NamespaceView])

    rows = sorted(run(work, output), key=lambda row: row.namespace.split("/") if row.namespace else [])
    print_rows(rows, _TREE, output, empty="no namespaces")


@root.command("create", epilog=example("ironcore-backup namespace create ibs-primary a/b"))
def create(
    store: StoreArgument,
    namespace: NamespaceArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a namespace, and those above it."""

    async def work() -> NamespaceView:
        async with administrator(server, state_dir) as api:
            body = NamespaceCreate(namespace=namespace)
            return await api.post(f"/datastores/{store}/namespaces", NamespaceView, body)

    made = run(work, output)
    if output is Output.JSON:
        print_json(made)
    say(f"namespace {made.namespace} is made", output)


@root.command("delete", epilog=example("ironcore-backup namespace delete ibs-primary a/b --recursive"))
def delete(
    store: StoreArgument,
    namespace: NamespaceArgument,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="With all in it; its snapshots go to the bin first.")
    ] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove an empty namespace. What goes with --recursive can be undone: ironcore-backup bin list."""

    async def work() -> NamespaceRemoved:
        async with administrator(server, state_dir) as api:
            body = NamespaceRemove(namespace=namespace, recursive=recursive)
            return await api.post(f"/datastores/{store}/namespaces/remove", NamespaceRemoved, body)

    gone = run(work, output)
    if output is Output.JSON:
        print_json(gone)
    say(f"{len(gone.removed)} namespaces are gone, {len(gone.to_bin)} snapshots are in the bin", output)


@groups.command("list", epilog=example("ironcore-backup group list ibs-primary --namespace a/b"))
def group_list(
    store: StoreArgument,
    namespace: Annotated[str, typer.Option("--namespace", "--ns", help="Namespace, such as a/b.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the groups of a namespace and whose they are."""

    async def work() -> list[GroupView]:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/datastores/{store}/groups", list[GroupView], params={"namespace": namespace})

    print_rows(run(work, output), _GROUPS, output, empty="no groups")


@groups.command("chown", epilog=example("ironcore-backup group chown ibs-primary ns:a/b/host/web01 backup@ibs"))
def chown(
    store: StoreArgument,
    group: Annotated[str, typer.Argument(metavar="GROUP", help="Such as host/web01 or ns:a/b/host/web01.")],
    owner: Annotated[str, typer.Argument(metavar="AUTH-ID", help="Such as backup@ibs or backup@ibs!web01.")],
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Give a group to another identity; also repairs a group whose owner's record is lost."""

    async def work() -> GroupOwnerChanged:
        async with administrator(server, state_dir) as api:
            body = GroupOwnerSet(group=group, owner=owner)
            return await api.post(f"/datastores/{store}/groups/owner", GroupOwnerChanged, body)

    done = run(work, output)
    if output is Output.JSON:
        print_json(done)
    say(f"group {done.group} belongs to {done.owner} now; it was {done.before or 'without an owner'}", output)


@groups.command("move", epilog=example("ironcore-backup group move ibs-primary host/web01 a/b"))
def move(
    store: StoreArgument,
    group: Annotated[str, typer.Argument(metavar="GROUP", help="Such as host/web01 or ns:a/b/host/web01.")],
    namespace: Annotated[str, typer.Argument(metavar="NAMESPACE", help='Where it is to go; "" for the root.')],
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Move a group to another namespace. Its snapshots are issued anew there, the old ones go to the bin.

    Refused when a client has signed a snapshot, as every encrypted one is: its name is part of what was signed.
    """

    async def work() -> GroupMoved:
        async with administrator(server, state_dir) as api:
            body = GroupMove(group=group, namespace=namespace)
            return await api.post(f"/datastores/{store}/groups/move", GroupMoved, body)

    done = run(work, output)
    if output is Output.JSON:
        print_json(done)
    say(f"{len(done.snapshots)} snapshots were moved; back up with --ns {namespace!r} from now on", output)
