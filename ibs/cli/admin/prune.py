"""`ironcore-backup prune …`: what retention removes, looked at first, then done."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.admin import schedule
from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import Output, OutputOption
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
from ibs.errors import ExitStatus
from ibs.wire.common import TaskStarted
from ibs.wire.lifecycle import PrunePlanView, PruneRequest

root = app("prune", "Pruning: what retention removes. It goes to the bin and can be undone for its grace.")

NamespaceOption = Annotated[str, typer.Option("--namespace", "--ns", help="Only this namespace and those below it.")]
GroupOption = Annotated[str, typer.Option(help="Only this group of the namespace, such as host/web01.")]


@root.command(
    "simulate",
    epilog=example(
        "ironcore-backup prune simulate ibs-primary",
        "ironcore-backup prune simulate ibs-primary --keep-daily 7 --calendar",
    ),
)
def simulate(
    store: StoreArgument,
    namespace: NamespaceOption = "",
    group: GroupOption = "",
    keep_last: KeepLast = 0,
    keep_hourly: KeepHourly = 0,
    keep_daily: KeepDaily = 0,
    keep_weekly: KeepWeekly = 0,
    keep_monthly: KeepMonthly = 0,
    keep_yearly: KeepYearly = 0,
    timezone: TimeZone = "UTC",
    calendar: CalendarOption = False,
    count_bytes: Annotated[
        bool, typer.Option("--bytes/--no-bytes", help="Count the bytes that would be freed; reads every index.")
    ] = True,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show each snapshot with keep or remove and the rule, by the retention set or by rules given here.

    Changes nothing. Exit status 4 when a group would be left alone.
    """

    async def work() -> PrunePlanView:
        values = (keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly)
        policy = policy_of(values, timezone, required=False)
        body = PruneRequest(namespace=namespace, group=group, policy=policy, count_bytes=count_bytes)
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/prune/simulate", PrunePlanView, body)

    plan = run(work, output)
    print_plan(plan, output, calendar=calendar)
    end(ExitStatus.WARNING if plan.stopped else ExitStatus.OK)


@root.command("run", epilog=example("ironcore-backup prune run ibs-primary --namespace a/b"))
def run_(
    store: StoreArgument,
    namespace: NamespaceOption = "",
    group: GroupOption = "",
    keep_last: KeepLast = 0,
    keep_hourly: KeepHourly = 0,
    keep_daily: KeepDaily = 0,
    keep_weekly: KeepWeekly = 0,
    keep_monthly: KeepMonthly = 0,
    keep_yearly: KeepYearly = 0,
    timezone: TimeZone = "UTC",
    override: Annotated[
        bool,
        typer.Option("--override", help="Also where more than half of a group, or all of its usual size, would go."),
    ] = False,
    detach: Annotated[bool, typer.Option(help="Print the UPID and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Prune now, by the retention set or by rules given here. What goes is in the bin: ironcore-backup bin list."""

    async def work() -> int:
        values = (keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly)
        policy = policy_of(values, timezone, required=False)
        body = PruneRequest(namespace=namespace, group=group, policy=policy, override=override)
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/datastores/{store}/prune", TaskStarted, body)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


_schedules = schedule.commands("prune", "what retention wants is pruned")
schedule.add_plain_set(_schedules, "prune", rate=False)
root.add_typer(_schedules)
