"""`ironcore-backup retention …`: how long snapshots of a datastore, or of a namespace, are kept."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_done, print_json, print_rows, say
from ibs.cli.policies import (
    KeepDaily,
    KeepHourly,
    KeepLast,
    KeepMonthly,
    KeepWeekly,
    KeepYearly,
    TimeZone,
    policy_of,
)
from ibs.errors import UsageError
from ibs.wire.lifecycle import PolicyBody, RetentionSet, RetentionView

root = app("retention", "Retention: how long snapshots are kept. Without one nothing is ever removed.")

NamespaceOption = Annotated[
    str, typer.Option("--namespace", "--ns", help="For this namespace and those below it; else for the datastore.")
]

_COLUMNS = (
    Column("LEVEL", lambda row: row.level),
    Column("KEEPS", lambda row: row.text),
    Column("MORE THAN HALF", lambda row: "allowed" if row.more_than_half else ""),
    Column("SET BY", lambda row: row.by),
    Column("SET", lambda row: row.time),
)


@root.command(
    "set", epilog=example("ironcore-backup retention set ibs-primary --keep-daily 7 --keep-weekly 4 --keep-monthly 12")
)
def set_(
    store: StoreArgument,
    namespace: NamespaceOption = "",
    keep_last: KeepLast = 0,
    keep_hourly: KeepHourly = 0,
    keep_daily: KeepDaily = 0,
    keep_weekly: KeepWeekly = 0,
    keep_monthly: KeepMonthly = 0,
    keep_yearly: KeepYearly = 0,
    timezone: TimeZone = "UTC",
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="Keep everything, whatever is set for the level above.")
    ] = False,
    more_than_half: Annotated[
        bool,
        typer.Option(
            "--allow-more-than-half", help="A run may remove more than half of a group, as with hourly backups."
        ),
    ] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Set a retention; once set, it is applied every day. The union of all rules stays. Look first: prune simulate."""

    async def work() -> RetentionView:
        values = (keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly)
        policy = policy_of(values, timezone, required=not keep_all)
        if keep_all and policy is not None:
            raise UsageError("--keep-all goes with no other rule", hint="leave it out, or the others")
        body = RetentionSet(
            namespace=namespace, policy=policy or PolicyBody(timezone=timezone), more_than_half=more_than_half
        )
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/retention", RetentionView, body)

    made = run(work, output)
    if output is Output.JSON:
        print_json(made)
    say(f"retention for the {made.level}: {made.text}; look: ironcore-backup prune simulate {store}", output)


@root.command("show", epilog=example("ironcore-backup retention show ibs-primary"))
def show(
    store: StoreArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what is set for the datastore and its namespaces. The most specific counts."""

    async def work() -> list[RetentionView]:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/datastores/{store}/retention", list[RetentionView])

    print_rows(run(work, output), _COLUMNS, output, empty="no retention is set: nothing is ever removed")


@root.command("clear", epilog=example("ironcore-backup retention clear ibs-primary --namespace a/b"))
def clear(
    store: StoreArgument,
    namespace: NamespaceOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a retention away: that of the level above counts again."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/datastores/{store}/retention", params={"namespace": namespace})

    run(work, output)
    level = f"namespace {namespace}" if namespace else "datastore"
    print_done(f"the {level} has no retention of its own any more", output, store=store, namespace=namespace)
