"""Client commands about one's own snapshots: notes, protection, forgetting, the bin, pruning.

What the identity may not do the server refuses: a role for backups alone never removes anything.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.client.connection import (
    NamespaceOption,
    RepositoryOption,
    SnapshotArgument,
    connection,
    snapshot_name,
)
from ibs.cli.columns import BIN_COLUMNS
from ibs.cli.common import app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import Output, OutputOption, print_json, print_rows, say
from ibs.cli.policies import (
    CalendarOption,
    KeepDaily,
    KeepHourly,
    KeepLast,
    KeepMonthly,
    KeepWeekly,
    KeepYearly,
    TimeZone,
    policy_of,
    print_plan,
)
from ibs.core.names import Group
from ibs.errors import ExitStatus
from ibs.wire.common import TaskStarted
from ibs.wire.datastore import SnapshotView
from ibs.wire.lifecycle import (
    BinUndo,
    BinView,
    PrunePlanView,
    PruneRequest,
    SnapshotChange,
    SnapshotForget,
    SnapshotRef,
)

bins = app("bin", "The recycle bin: one's own snapshots that were forgotten or pruned.")
prunes = app("prune", "Pruning of one's own groups; the identity needs Datastore.Prune.")

GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="Such as host/web01.")]


def _change(body: SnapshotChange, done: str, repository: str | None, output: Output) -> None:
    async def work() -> SnapshotView:
        async with connection(repository) as found:
            return await found.api.post(f"/datastores/{found.store}/snapshot", SnapshotView, body)

    changed = run(work, output)
    if output is Output.JSON:
        print_json(changed)
    say(f"snapshot {changed.snapshot} {done}", output)


def notes(
    snapshot: SnapshotArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to remember; empty takes the notes away.")],
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Set a snapshot's notes. The server can read them."""
    body = SnapshotChange(snapshot=str(snapshot_name(snapshot, namespace)), notes=text)
    _change(body, "has its notes", repository, output)


def protect(
    snapshot: SnapshotArgument,
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Protect a snapshot: it is neither pruned nor can it be forgotten."""
    body = SnapshotChange(snapshot=str(snapshot_name(snapshot, namespace)), protected=True)
    _change(body, "is protected", repository, output)


def unprotect(
    snapshot: SnapshotArgument,
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take the protection of a snapshot away; the identity needs Datastore.Prune."""
    body = SnapshotChange(snapshot=str(snapshot_name(snapshot, namespace)), protected=False)
    _change(body, "is not protected any more", repository, output)


def forget(
    snapshot: SnapshotArgument,
    why: Annotated[str, typer.Option(help="Why, for those who look into the bin.")] = "",
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Move a snapshot to the bin, for 7 days; the identity needs Datastore.Prune."""

    async def work() -> BinView:
        body = SnapshotForget(snapshot=str(snapshot_name(snapshot, namespace)), why=why)
        async with connection(repository) as found:
            return await found.api.post(f"/datastores/{found.store}/snapshot/forget", BinView, body)

    gone = run(work, output)
    if output is Output.JSON:
        print_json(gone)
    say(f"snapshot {gone.snapshot} is in the bin until {gone.due}", output)


def add_to(snapshots: typer.Typer) -> None:
    """Add the commands that change snapshots to `ironcore-backup-client snapshot`."""
    name = "ironcore-backup-client snapshot"
    time = "host/web01/2026-11-22T19:00:00Z"
    snapshots.command("notes", epilog=example(f'{name} notes host/web01 "before the upgrade"'))(notes)
    snapshots.command("protect", epilog=example(f"{name} protect {time}"))(protect)
    snapshots.command("unprotect", epilog=example(f"{name} unprotect {time}"))(unprotect)
    snapshots.command("forget", epilog=example(f"{name} forget {time}"))(forget)


@bins.command("list", epilog=example("ironcore-backup-client bin list"))
def bin_list(repository: RepositoryOption = None, output: OutputOption = Output.TEXT) -> None:
    """List one's own snapshots in the bin, and when they go for good."""

    async def work() -> list[BinView]:
        async with connection(repository) as found:
            return await found.api.get(f"/datastores/{found.store}/bin", list[BinView])

    print_rows(run(work, output), BIN_COLUMNS, output, empty="the bin is empty")


@bins.command("undo", epilog=example("ironcore-backup-client bin undo host/web01/2026-11-22T19:00:00Z"))
def bin_undo(
    snapshot: SnapshotArgument,
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a snapshot out of the bin, back to its place."""

    async def work() -> SnapshotRef:
        body = BinUndo(entry=str(snapshot_name(snapshot, namespace)))
        async with connection(repository) as found:
            return await found.api.post(f"/datastores/{found.store}/bin/undo", SnapshotRef, body)

    back = run(work, output)
    if output is Output.JSON:
        print_json(back)
    say(f"snapshot {back.snapshot} is back", output)


@prunes.command(
    "simulate", epilog=example("ironcore-backup-client prune simulate host/web01 --keep-daily 7 --calendar")
)
def prune_simulate(
    group: GroupArgument,
    keep_last: KeepLast = 0,
    keep_hourly: KeepHourly = 0,
    keep_daily: KeepDaily = 0,
    keep_weekly: KeepWeekly = 0,
    keep_monthly: KeepMonthly = 0,
    keep_yearly: KeepYearly = 0,
    timezone: TimeZone = "UTC",
    calendar: CalendarOption = False,
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show each snapshot of a group with keep or remove and the rule; without rules, by the server's retention."""

    async def work() -> PrunePlanView:
        values = (keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly)
        policy = policy_of(values, timezone, required=False)
        body = PruneRequest(namespace=namespace, group=str(Group.parse(group)), policy=policy, count_bytes=True)
        async with connection(repository) as found:
            return await found.api.post(f"/datastores/{found.store}/prune/simulate", PrunePlanView, body)

    plan = run(work, output)
    print_plan(plan, output, calendar=calendar)
    end(ExitStatus.WARNING if plan.stopped else ExitStatus.OK)


@prunes.command("run", epilog=example("ironcore-backup-client prune run host/web01 --keep-daily 7 --keep-weekly 4"))
def prune_run(
    group: GroupArgument,
    keep_last: KeepLast = 0,
    keep_hourly: KeepHourly = 0,
    keep_daily: KeepDaily = 0,
    keep_weekly: KeepWeekly = 0,
    keep_monthly: KeepMonthly = 0,
    keep_yearly: KeepYearly = 0,
    timezone: TimeZone = "UTC",
    override: Annotated[
        bool, typer.Option("--override", help="Also when more than half of it, or all of its usual size, would go.")
    ] = False,
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Prune a group of one's own. What goes is in the bin: ironcore-backup-client bin list."""

    async def work() -> int:
        values = (keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly)
        policy = policy_of(values, timezone, required=False)
        body = PruneRequest(namespace=namespace, group=str(Group.parse(group)), policy=policy, override=override)
        async with connection(repository) as found:
            started = await found.api.post(f"/datastores/{found.store}/prune", TaskStarted, body)
            return await follow_task(found.api, started.upid, output, detach=False)

    end(run(work, output))
