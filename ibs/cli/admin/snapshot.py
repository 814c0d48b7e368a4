"""`ironcore-backup snapshot …`: the administrator's view of a datastore's snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.admin import recyclebin
from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.columns import SNAPSHOT_COLUMNS, snapshot_facts
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import Output, OutputOption, print_facts, print_json, print_rows, say
from ibs.core.names import SnapshotName
from ibs.errors import UsageError
from ibs.wire.common import TaskStarted
from ibs.wire.datastore import SnapshotView
from ibs.wire.lifecycle import BinView, SnapshotChange, SnapshotForget
from ibs.wire.sync import PullStart

root = app("snapshot", "Snapshots in a datastore.")

SnapshotArgument = Annotated[
    str, typer.Argument(metavar="SNAPSHOT", help="[ns:a/b/]host/web01/2026-11-22T19:00:00Z; its newest without a time.")
]


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


@root.command("show", epilog=example("ironcore-backup snapshot show ibs-primary host/web01"))
def show(
    store: StoreArgument,
    snapshot: SnapshotArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one snapshot: archives, sizes, owner, signature, verification, notes."""

    async def work() -> SnapshotView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/datastores/{store}/snapshot", SnapshotView, params={"name": snapshot})

    found = run(work, output)
    print_facts(found, snapshot_facts(found), output)


def _change(
    store: str, body: SnapshotChange, done: str, server: str | None, state_dir: Path | None, output: Output
) -> None:
    async def work() -> SnapshotView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/snapshot", SnapshotView, body)

    changed = run(work, output)
    if output is Output.JSON:
        print_json(changed)
    say(f"snapshot {changed.snapshot} {done}", output)


@root.command(
    "restore-from",
    epilog=example("ironcore-backup snapshot restore-from site-b:replica host/web01 --store main"),
)
def restore_from(
    origin: Annotated[str, typer.Argument(metavar="REMOTE:DATASTORE", help="Where it is: a datastore of a remote.")],
    snapshot: SnapshotArgument,
    store: Annotated[str, typer.Option(help="The datastore here that it is brought to.")],
    trust_signer: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Take what this lost server signed; its key is in `remote show` over there."),
    ] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Bring a snapshot of another site here, also one that was made here and is lost, and say how it is restored."""
    remote, colon, source = origin.partition(":")
    if not colon:
        raise UsageError(f"{origin!r} names no datastore of a remote", hint="write it like site-b:replica")

    async def work() -> int:
        namespace = str(SnapshotName.parse(snapshot).namespace)
        body = PullStart(
            remote=remote,
            source=source,
            namespace=namespace,
            snapshot=snapshot,
            trust_signers=list(trust_signer or []),
            again=True,
            resync=True,
        )
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/datastores/{store}/pull", TaskStarted, body)
            code = await follow_task(api, started.upid, output, detach=False)
        if code == 0 and output is Output.TEXT:
            say(f"restore it on any host: ironcore-backup-client restore {snapshot} NAME.tree TARGET")
        return code

    end(run(work, output))


@root.command("notes", epilog=example('ironcore-backup snapshot notes ibs-primary host/web01 "before the upgrade"'))
def notes(
    store: StoreArgument,
    snapshot: SnapshotArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to remember; empty takes the notes away.")],
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Set a snapshot's notes."""
    _change(store, SnapshotChange(snapshot=snapshot, notes=text), "has its notes", server, state_dir, output)


@root.command("protect", epilog=example("ironcore-backup snapshot protect ibs-primary host/web01/2026-11-22T19:00:00Z"))
def protect(
    store: StoreArgument,
    snapshot: SnapshotArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Protect a snapshot: it is neither pruned nor can it be forgotten."""
    _change(store, SnapshotChange(snapshot=snapshot, protected=True), "is protected", server, state_dir, output)


@root.command(
    "unprotect", epilog=example("ironcore-backup snapshot unprotect ibs-primary host/web01/2026-11-22T19:00:00Z")
)
def unprotect(
    store: StoreArgument,
    snapshot: SnapshotArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take the protection of a snapshot away."""
    body = SnapshotChange(snapshot=snapshot, protected=False)
    _change(store, body, "is not protected any more", server, state_dir, output)


@root.command("forget", epilog=example("ironcore-backup snapshot forget ibs-primary host/web01/2026-11-22T19:00:00Z"))
def forget(
    store: StoreArgument,
    snapshot: Annotated[
        str, typer.Argument(metavar="SNAPSHOT", help="With its time, and its namespace if it has one.")
    ],
    why: Annotated[str, typer.Option(help="Why, for those who look into the bin.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Move a snapshot to the bin, for 7 days. Back with: ironcore-backup bin undo."""

    async def work() -> BinView:
        async with administrator(server, state_dir) as api:
            body = SnapshotForget(snapshot=snapshot, why=why)
            return await api.post(f"/datastores/{store}/snapshot/forget", BinView, body)

    gone = run(work, output)
    if output is Output.JSON:
        print_json(gone)
    say(f"snapshot {gone.snapshot} is in the bin until {gone.due}", output)
    say(f"take it back: ironcore-backup bin undo {store} {gone.snapshot}", output)


root.command("undo", epilog=example("ironcore-backup snapshot undo ibs-primary host/web01/2026-11-22T19:00:00Z"))(
    recyclebin.undo
)
