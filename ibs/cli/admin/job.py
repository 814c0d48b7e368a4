"""`ironcore-backup job …`: backups that the server makes by itself, of itself and of hosts."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from ibs.cli.admin.backup import source_of
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import (
    Column,
    Output,
    OutputOption,
    print_done,
    print_facts,
    print_json,
    print_rows,
    say,
    state_text,
)
from ibs.cli.policies import KeepDaily, KeepHourly, KeepLast, KeepMonthly, KeepWeekly, KeepYearly, policy_of
from ibs.errors import UsageError
from ibs.units import format_duration, format_rate, parse_duration, parse_rate
from ibs.wire.jobs import CalendarRow, JobCreate, JobSpec, JobStarted, JobUpdate, JobView

root = app("job", "Jobs: what is backed up where and when, without anybody asking.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The job, as `job list` shows it.")]
Words = list[str] | None
Paths = Annotated[Words, typer.Option("--path", help="PATH or ARCHIVE:PATH on each host; repeatable.")]
Hosts = Annotated[Words, typer.Option("--host", help="A host by name; repeatable. None of these three: the server.")]
Tags = Annotated[Words, typer.Option("--tag", help="All hosts with this tag; repeatable.")]
Projects = Annotated[Words, typer.Option("--project", help="All hosts of this project; repeatable.")]
Include = Annotated[Words, typer.Option("--include-host", help="Of those, only what matches (web*); repeatable.")]
LeaveOut = Annotated[Words, typer.Option("--exclude-host", help="Of those, not what matches; repeatable.")]
Exclude = Annotated[Words, typer.Option("--exclude", help="gitignore pattern to leave out; repeatable.")]
Window = Annotated[Words, typer.Option("--window", help="Tasks begin only then, such as 22:00-06:00; repeatable.")]
Schedule = Annotated[str | None, typer.Option(help="Calendar expression: daily, 'Sun 04:30'; \"\" for by hand only.")]
Zone = Annotated[str | None, typer.Option("--time-zone", help="IANA zone of schedule and window, UTC by default.")]
Delay = Annotated[str | None, typer.Option("--random-delay", help="Spread runs over this, such as 30m.")]
CatchUp = Annotated[bool | None, typer.Option("--catch-up/--no-catch-up", help="Make up for a missed run (default).")]
Retries = Annotated[int | None, typer.Option(min=0, max=10, help="Times a failed task is tried again, ever later.")]
Bandwidth = Annotated[
    str | None, typer.Option(metavar="RATE", help="Each task sends at most this much, such as 10MiB/s.")
]
Comment = Annotated[str | None, typer.Option(help="For people.")]
Namespace = Annotated[str | None, typer.Option("--namespace", "--ns", help="Namespace, such as a/b.")]
BackupId = Annotated[str | None, typer.Option(help="Id of the group; each host's name by default.")]
BackupType = Annotated[str | None, typer.Option(help="host, vm or ct.")]
Group = Annotated[str | None, typer.Option("--notification-group", help="Who is told how it went.")]
PreHook = Annotated[str | None, typer.Option(help="Hook that the host itself keeps, run before; by its name.")]
PostHook = Annotated[str | None, typer.Option(help="Hook of the host, run after, however it ended.")]


def _states(row: JobView) -> str:
    """How many hosts ended how: `2 OK, 1 FAILED`."""
    states = list(row.last_states.values())
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


_JOBS = (
    Column("JOB", lambda row: row.name),
    Column("ENABLED", lambda row: "yes" if row.enabled else "no"),
    Column("DATASTORE", lambda row: row.spec.store),
    Column(
        "HOSTS", lambda row: ",".join(row.comes_to[:3]) + (f" +{len(row.comes_to) - 3}" if row.comes_to[3:] else "")
    ),
    Column("SCHEDULE", lambda row: row.spec.schedule or "by hand"),
    Column("NEXT", lambda row: row.next or "never"),
    Column("LAST", lambda row: row.last or "not yet"),
    Column("STATES", _states),
    Column("COMMENT", lambda row: row.trouble or row.spec.comment),
)
_CALENDAR = (
    Column("TIME", lambda row: row.time),
    Column("JOB", lambda row: row.job),
    Column("HOST", lambda row: row.host),
    Column("STATE", lambda row: state_text(row.state)),
    Column("MESSAGE", lambda row: row.message),
    Column("UPID", lambda row: row.upid),
)


def _changes(options: dict[str, Any]) -> dict[str, Any]:
    """Fields of the job that the options name; what was not given is left out. Raises UsageError."""
    keep = [options.get(f"keep_{rule}") or 0 for rule in ("last", "hourly", "daily", "weekly", "monthly", "yearly")]
    given = {name: value for name, value in options.items() if name in JobSpec.__struct_fields__ and value is not None}
    if given.get("random_delay") is not None:
        given["random_delay"] = int(parse_duration(given["random_delay"]))
    if options.get("bandwidth"):
        given["bandwidth"] = parse_rate(options["bandwidth"])
    if options.get("path"):
        given["sources"] = [source_of(item) for item in options["path"]]
    retention = policy_of(keep, options.get("time_zone") or "UTC", required=False)
    return given | ({"retention": retention} if retention is not None else {})


@root.command(
    "create", epilog=example("ironcore-backup job create nightly --store s1 --tag web --path /etc --schedule daily")
)
def create(
    name: NameArgument,
    store: Annotated[str, typer.Option(help="Datastore to back up into.")],
    path: Paths = None,
    hosts: Hosts = None,
    tags: Tags = None,
    projects: Projects = None,
    include: Include = None,
    leave_out: LeaveOut = None,
    exclude: Exclude = None,
    schedule: Schedule = None,
    time_zone: Zone = None,
    random_delay: Delay = None,
    catch_up: CatchUp = None,
    window: Window = None,
    retries: Retries = None,
    bandwidth: Bandwidth = None,
    namespace: Namespace = None,
    backup_id: BackupId = None,
    backup_type: BackupType = None,
    keep_last: KeepLast = 0,
    keep_hourly: KeepHourly = 0,
    keep_daily: KeepDaily = 0,
    keep_weekly: KeepWeekly = 0,
    keep_monthly: KeepMonthly = 0,
    keep_yearly: KeepYearly = 0,
    notification_group: Group = None,
    pre_hook: PreHook = None,
    post_hook: PostHook = None,
    comment: Comment = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Do not run it by itself yet.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a job. Its retention (--keep-…) prunes only the groups that it writes."""
    options = dict(locals())

    async def work() -> JobView:
        spec = JobSpec(**({"sources": []} | _changes(options)))
        async with administrator(server, state_dir) as api:
            return await api.post("/jobs", JobView, JobCreate(name=name, spec=spec, enabled=not disabled))

    _print(run(work, output), output)


@root.command("update", epilog=example("ironcore-backup job update nightly --schedule 'Mon..Fri 02:00'"))
def update(
    name: NameArgument,
    store: Annotated[str | None, typer.Option(help="Datastore to back up into.")] = None,
    path: Paths = None,
    hosts: Hosts = None,
    tags: Tags = None,
    projects: Projects = None,
    include: Include = None,
    leave_out: LeaveOut = None,
    exclude: Exclude = None,
    schedule: Schedule = None,
    time_zone: Zone = None,
    random_delay: Delay = None,
    catch_up: CatchUp = None,
    window: Window = None,
    retries: Retries = None,
    bandwidth: Bandwidth = None,
    namespace: Namespace = None,
    backup_id: BackupId = None,
    backup_type: BackupType = None,
    keep_last: KeepLast = 0,
    keep_hourly: KeepHourly = 0,
    keep_daily: KeepDaily = 0,
    keep_weekly: KeepWeekly = 0,
    keep_monthly: KeepMonthly = 0,
    keep_yearly: KeepYearly = 0,
    notification_group: Group = None,
    pre_hook: PreHook = None,
    post_hook: PostHook = None,
    comment: Comment = None,
    clear: Annotated[
        Words, typer.Option(help="Back to nothing: hosts, tags, window, exclude, retention, …; repeatable.")
    ] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Change what is named; lists are replaced. Tasks that are queued already stay as they are."""
    options = dict(locals())

    async def work() -> JobView:
        changes = _changes(options) | _cleared(clear or [])
        async with administrator(server, state_dir) as api:
            before = (await api.get(f"/jobs/{name}", JobView)).spec
            return await api.post(f"/jobs/{name}", JobView, JobUpdate(spec=msgspec.structs.replace(before, **changes)))

    _print(run(work, output), output)


def _cleared(names: list[str]) -> dict[str, Any]:
    known: dict[str, Any] = {
        field.name: field.default_factory() if field.default is msgspec.NODEFAULT else field.default
        for field in msgspec.structs.fields(JobSpec)
        if not field.required
    }
    for name in names:
        if name.replace("-", "_") not in known:
            raise UsageError(f"{name[:64]!r} cannot be cleared", hint=f"known are: {', '.join(known)}")
    return {name.replace("-", "_"): known[name.replace("-", "_")] for name in names}


@root.command("list", epilog=example("ironcore-backup job list"))
def list_(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """List the jobs: hosts, next and last run, and how the last tasks ended."""

    async def work() -> list[JobView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/jobs", list[JobView])

    print_rows(run(work, output), _JOBS, output, empty="no jobs: ironcore-backup job create NAME …")


@root.command("show", epilog=example("ironcore-backup job show nightly"))
def show(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one job."""

    async def work() -> JobView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/jobs/{name}", JobView)

    _print(run(work, output), output)


@root.command("run", epilog=example("ironcore-backup job run nightly --detach"))
def run_(
    name: NameArgument,
    detach: Annotated[bool, typer.Option(help="Print the UPIDs and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a job now, enabled or not: one task a host. Exits with the worst status of its tasks."""

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            upids = (await api.post(f"/jobs/{name}/run", JobStarted)).upids
            if len(upids) == 1 or not detach:
                statuses = [await follow_task(api, upid, output, detach=detach) for upid in upids]
                return 1 if 1 in statuses else max(statuses)
        if output is Output.JSON:
            print_json({"upids": upids})
        for upid in upids:
            say(upid, output)
        return 0

    end(run(work, output))


def _switch(name: str, server: ServerOption, state_dir: StateDirOption, output: Output, *, enabled: bool) -> None:
    async def work() -> JobView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/jobs/{name}", JobView, JobUpdate(enabled=enabled))

    view = run(work, output)
    if output is Output.JSON:
        print_json(view)
    say(f"job {name} is {'enabled, its next run is ' + (view.next or 'never') if enabled else 'disabled'}", output)


@root.command("enable", epilog=example("ironcore-backup job enable nightly"))
def enable(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a job run by itself (again)."""
    _switch(name, server, state_dir, output, enabled=True)


@root.command("disable", epilog=example("ironcore-backup job disable nightly"))
def disable(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a job's times pass; `job run` still works."""
    _switch(name, server, state_dir, output, enabled=False)


@root.command("remove", epilog=example("ironcore-backup job remove nightly"))
def remove(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a job with its retention; its snapshots and queued tasks stay."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/jobs/{name}")

    run(work, output)
    print_done(f"job {name} removed; its snapshots stay", output, name=name, removed=True)


@root.command("calendar", epilog=example("ironcore-backup job calendar --days 3"))
def calendar(
    days: Annotated[int, typer.Option(min=1, max=366, help="So many days back, and so many ahead.")] = 7,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the runs of jobs that were, with their tasks, and those to come."""

    async def work() -> list[CalendarRow]:
        async with administrator(server, state_dir) as api:
            return await api.get("/calendar", list[CalendarRow], params={"days": days})

    print_rows(run(work, output), _CALENDAR, output, empty="no runs of jobs in these days")


def _print(view: JobView, output: Output) -> None:
    spec = view.spec
    keep = msgspec.structs.asdict(spec.retention) if spec.retention is not None else {}
    rules = ", ".join(
        f"{name.replace('_', '-')} {count}" for name, count in keep.items() if name != "timezone" and count
    )
    facts: list[tuple[str, str | Text]] = [
        ("Job", view.name + ("" if view.enabled else " (disabled)")),
        ("Comment", spec.comment),
        ("Sources", " ".join(spec.sources)),
        ("Hosts", ", ".join(view.comes_to) or "none at present"),
        ("Datastore", f"{spec.store}{' namespace ' + spec.namespace if spec.namespace else ''}"),
        ("Schedule", f"{spec.schedule} ({spec.time_zone})" if spec.schedule else "by hand"),
        ("Random delay", f"up to {format_duration(spec.random_delay)}" if spec.random_delay else ""),
        ("Window", ", ".join(spec.window)),
        ("Retries", str(spec.retries or "")),
        ("Bandwidth", f"at most {format_rate(spec.bandwidth)} a task" if spec.bandwidth else ""),
        ("Retention", rules),
        ("Hooks", " ".join(filter(None, (spec.pre_hook, spec.post_hook)))),
        ("Notification group", spec.notification_group),
        ("Next", view.next or "never"),
        ("Last", view.last or "not yet"),
        ("Last states", ", ".join(f"{host} {state}" for host, state in view.last_states.items())),
        ("Trouble", Text(view.trouble, "red")),
        ("Changed", f"{view.changed} by {view.changed_by}"),
    ]
    print_facts(view, [fact for fact in facts if str(fact[1])], output)
