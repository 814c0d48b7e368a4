"""`ironcore-backup sync …`: copies between servers, once or by jobs that come back."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import Column, Output, OutputOption, print_done, print_facts, print_rows, state_text
from ibs.core import limits
from ibs.core.retention import Policy
from ibs.errors import UsageError
from ibs.units import format_bytes, format_rate, parse_duration, parse_rate
from ibs.wire.common import TaskStarted
from ibs.wire.sync import PullStart, SyncCreate, SyncJobView, SyncRun, SyncSpec, SyncStatus, SyncUpdate

root = app("sync", "Copies between servers: snapshots as they are, with their signatures, encrypted or not.")

Words = list[str] | None
NameOption = Annotated[str, typer.Option("--name", help="The sync job, as `sync list` shows it.")]
Namespace = Annotated[str, typer.Option("--namespace", "--ns", help="The namespace, the same on both sides.")]
Depth = Annotated[int | None, typer.Option(min=0, help="So many levels of namespaces below it, too.")]
Groups = Annotated[Words, typer.Option("--group", help="Only these, such as 'host/web*'; repeatable.")]
Types = Annotated[Words, typer.Option("--backup-type", help="Only these: host, vm, ct; repeatable.")]
Newest = Annotated[int | None, typer.Option(min=1, help="Only so many of each group, the newest.")]
MaxAge = Annotated[str, typer.Option(help="Only younger ones, such as 30d.")]
Bandwidth = Annotated[str | None, typer.Option(metavar="RATE", help="At most this much, such as 10MiB/s.")]
Vanished = Annotated[
    bool | None,
    typer.Option(
        "--remove-vanished/--keep-vanished",
        help="What sync brought and the source has no more goes to the bin; by default it stays.",
    ),
]
Again = Annotated[
    bool | None,
    typer.Option("--again/--not-again", help="Bring also what was forgotten here and is still in the bin."),
]
Resync = Annotated[
    bool | None,
    typer.Option("--resync/--no-resync", help="Mend what verification found damaged here from there."),
]
Keep = Annotated[
    Words,
    typer.Option(
        metavar="RULE=N", help="Only what such a retention keeps: weekly=4, weekly=* for every week; repeatable."
    ),
]
TrustSigner = Annotated[
    Words,
    typer.Option(metavar="KEY", help="Take what this lost server signed; its key is in `remote show`. Repeatable."),
]
Schedule = Annotated[str | None, typer.Option(help="Calendar expression: daily, 'Sun 04:30'; \"\" for by hand only.")]
Zone = Annotated[str | None, typer.Option("--time-zone", help="IANA zone of the schedule, UTC by default.")]
Comment = Annotated[str | None, typer.Option(help="For people.")]
Detach = Annotated[bool, typer.Option("--detach", help="Print the UPID and return.")]

_JOBS = (
    Column("JOB", lambda row: row.name),
    Column("ENABLED", lambda row: "yes" if row.enabled else "no"),
    Column("FROM", lambda row: f"{row.spec.remote}:{row.spec.source}"),
    Column("DATASTORE", lambda row: row.spec.store),
    Column("NAMESPACE", lambda row: row.spec.namespace),
    Column("SCHEDULE", lambda row: row.spec.schedule or "by hand"),
    Column("NEXT", lambda row: row.next or "never"),
    Column("LAST", lambda row: row.last or "not yet"),
    Column("STATE", lambda row: state_text(row.state)),
    Column("COMMENT", lambda row: row.trouble or row.spec.comment),
)


@root.command(
    "pull", epilog=example("ironcore-backup sync pull --remote site-b --source replica --store main --group 'host/*'")
)
def pull(
    remote: Annotated[str, typer.Option(help="The remote, as `remote list` shows it.")],
    source: Annotated[str, typer.Option(help="The datastore there.")],
    store: Annotated[str, typer.Option(help="The datastore here.")],
    namespace: Namespace = "",
    depth: Depth = None,
    group: Groups = None,
    backup_type: Types = None,
    newest: Newest = None,
    keep: Keep = None,
    max_age: MaxAge = "",
    bandwidth: Bandwidth = None,
    remove_vanished: Vanished = None,
    again: Again = None,
    resync: Resync = None,
    trust_signer: TrustSigner = None,
    detach: Detach = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Bring what a remote's datastore has and this one has not; again at any time, only what is missing is fetched."""
    options = dict(locals())

    async def work() -> int:
        body = PullStart(**_given(options, PullStart))
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/datastores/{store}/pull", TaskStarted, body)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.command(
    "create",
    epilog=example(
        "ironcore-backup sync create --name nightly --remote site-b --source replica --store main --schedule 02:30"
    ),
)
def create(
    name: Annotated[str, typer.Option("--name", help="What the job is to be called.")],
    remote: Annotated[str, typer.Option(help="The remote, as `remote list` shows it.")],
    source: Annotated[str, typer.Option(help="The datastore there.")],
    store: Annotated[str, typer.Option(help="The datastore here.")],
    namespace: Namespace = "",
    depth: Depth = None,
    group: Groups = None,
    backup_type: Types = None,
    newest: Newest = None,
    keep: Keep = None,
    max_age: MaxAge = "",
    schedule: Schedule = None,
    time_zone: Zone = None,
    bandwidth: Bandwidth = None,
    remove_vanished: Vanished = None,
    again: Again = None,
    resync: Resync = None,
    trust_signer: TrustSigner = None,
    comment: Comment = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Do not run it by itself yet.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a job that brings what a remote's datastore has and this one has not."""
    options = dict(locals())

    async def work() -> SyncJobView:
        body = SyncCreate(name=name, spec=SyncSpec(**_given(options, SyncSpec)), enabled=not disabled)
        async with administrator(server, state_dir) as api:
            return await api.post("/sync-jobs", SyncJobView, body)

    _print(run(work, output), output)


@root.command("update", epilog=example("ironcore-backup sync update --name nightly --schedule 'Mon..Fri 02:00'"))
def update(
    name: NameOption,
    remote: Annotated[str | None, typer.Option(help="The remote, as `remote list` shows it.")] = None,
    source: Annotated[str | None, typer.Option(help="The datastore there.")] = None,
    store: Annotated[str | None, typer.Option(help="The datastore here.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "--ns", help="The namespace.")] = None,
    depth: Depth = None,
    group: Groups = None,
    backup_type: Types = None,
    newest: Newest = None,
    keep: Keep = None,
    max_age: MaxAge = "",
    schedule: Schedule = None,
    time_zone: Zone = None,
    bandwidth: Bandwidth = None,
    remove_vanished: Vanished = None,
    again: Again = None,
    resync: Resync = None,
    trust_signer: TrustSigner = None,
    comment: Comment = None,
    clear: Annotated[
        Words, typer.Option(help="Back to nothing: group, backup-type, newest, max-age, bandwidth; repeatable.")
    ] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Run it by itself, or not.")] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Change what is named; lists are replaced. A run that is under way goes on as it began."""
    options = dict(locals())

    async def work() -> SyncJobView:
        changes = _given(options, SyncSpec) | _cleared(clear or [])
        async with administrator(server, state_dir) as api:
            before = (await api.get(f"/sync-jobs/{name}", SyncJobView)).spec
            spec = msgspec.structs.replace(before, **changes) if changes else None
            return await api.post(f"/sync-jobs/{name}", SyncJobView, SyncUpdate(spec=spec, enabled=enabled))

    _print(run(work, output), output)


@root.command("list", epilog=example("ironcore-backup sync list"))
def list_(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """List the sync jobs: from where, next and last run, and how it ended."""

    async def work() -> list[SyncJobView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/sync-jobs", list[SyncJobView])

    print_rows(run(work, output), _JOBS, output, empty="no sync jobs: ironcore-backup sync create --name NAME …")


@root.command("show", epilog=example("ironcore-backup sync show --name nightly"))
def show(
    name: NameOption,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one sync job."""

    async def work() -> SyncJobView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/sync-jobs/{name}", SyncJobView)

    _print(run(work, output), output)


@root.command("run", epilog=example("ironcore-backup sync run --name nightly"))
def start(
    name: NameOption,
    accept_vanished: Annotated[
        bool, typer.Option("--accept-vanished", help="Remove what vanished, though it is most of what came from there.")
    ] = False,
    detach: Detach = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a sync job now, enabled or not; what was interrupted goes on where it was."""

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/sync-jobs/{name}/run", TaskStarted, SyncRun(accept_vanished=accept_vanished))
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.command("repair", epilog=example("ironcore-backup sync repair --name nightly"))
def repair(
    name: NameOption,
    detach: Detach = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Compare both sides completely; fetch what is damaged or missing here, and set the chunk index right."""

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/sync-jobs/{name}/repair", TaskStarted)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.command("status", epilog=example("ironcore-backup sync status --name nightly"))
def status(
    name: NameOption,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show how its run goes, or how the last one went: bytes, rate, free space on both sides, the last error."""

    async def work() -> SyncStatus:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/sync-jobs/{name}/status", SyncStatus)

    found = run(work, output)
    facts: list[tuple[str, str | Text]] = [
        ("Job", found.name),
        ("State", state_text(found.state or "never ran")),
        ("Task", found.upid or "-"),
        ("Began", found.started or "-"),
        ("Ended", found.ended or "-"),
        ("Fetched", f"{found.chunks} chunks, {format_bytes(found.bytes)}"),
        ("Rate", format_rate(found.rate)),
        ("Free here", _size(found.free_bytes_here, "the datastore cannot tell")),
        ("Free at remote", _size(found.free_bytes_remote, found.remote_trouble)),
        ("Message", found.message or "-"),
        ("Warnings", str(found.warnings)),
        ("Last error", found.last_error or "-"),
        ("Next", found.next or "by hand"),
    ]
    print_facts(found, facts, output)


@root.command("remove", epilog=example("ironcore-backup sync remove --name nightly"))
def remove(
    name: NameOption,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a sync job; what it brought stays."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/sync-jobs/{name}")

    run(work, output)
    print_done(f"sync job {name} is removed", output, job=name)


_FIELDS = {
    "group": "groups",
    "backup_type": "types",
    "max_age": "max_age_seconds",
    "trust_signer": "trust_signers",
}
"""Options whose field has another name."""
_CLEARED: dict[str, Any] = {
    "group": [],
    "backup_type": [],
    "newest": None,
    "keep": Policy(),
    "max_age": None,
    "bandwidth": 0,
    "trust_signer": [],
}


def _given(options: dict[str, Any], kind: type[PullStart]) -> dict[str, Any]:
    """Fields that the options name; what was not given is left out. Raises UsageError."""
    given = {_FIELDS.get(name, name): value for name, value in options.items() if value is not None}
    if given.get("max_age_seconds"):
        given["max_age_seconds"] = parse_duration(given["max_age_seconds"])
    else:
        given.pop("max_age_seconds", None)
    if given.get("bandwidth"):
        given["bandwidth"] = parse_rate(given["bandwidth"])
    if "keep" in given:
        given["keep"] = _policy(given["keep"])
    return {name: value for name, value in given.items() if name in kind.__struct_fields__}


def _policy(rules: list[str]) -> Policy:
    """Raises UsageError."""
    counts = {}
    for text in rules:
        rule, equals, count = text.partition("=")
        field = f"keep_{rule.removeprefix('keep-')}"
        if not equals or field not in Policy.__struct_fields__ or not (count == "*" or count.isdecimal()):
            raise UsageError(
                f"rule {text[:64]!r} is not valid",
                hint="write it like last=3, daily=7, weekly=4, monthly=*, yearly=*",
            )
        counts[field] = limits.RETENTION_KEEP_MAX if count == "*" else int(count)
    return msgspec.structs.replace(Policy(), **counts).checked()


def _cleared(names: list[str]) -> dict[str, Any]:
    cleared = {}
    for name in names:
        known = name.replace("-", "_")
        if known not in _CLEARED:
            raise UsageError(
                f"{name[:64]!r} cannot be cleared",
                hint=f"known are: {', '.join(one.replace('_', '-') for one in _CLEARED)}",
            )
        cleared[_FIELDS.get(known, known)] = _CLEARED[known]
    return cleared


def _size(count: int | None, why: str) -> str:
    return f"unknown: {why}" if count is None else format_bytes(count)


def _print(row: SyncJobView, output: Output) -> None:
    spec = row.spec
    age = f"{spec.max_age_seconds:.0f} s" if spec.max_age_seconds else ""
    facts: list[tuple[str, str | Text]] = [
        ("Job", row.name),
        ("Enabled", "yes" if row.enabled else "no"),
        ("From", f"{spec.remote}:{spec.source}"),
        ("Datastore", spec.store),
        ("Namespace", spec.namespace or "-"),
        ("Groups", ", ".join(spec.groups) or "all"),
        ("Types", ", ".join(spec.types) or "all"),
        ("Newest", str(spec.newest) if spec.newest else "all"),
        ("Max age", age or "any"),
        ("Bandwidth", f"at most {format_rate(spec.bandwidth)}" if spec.bandwidth else "no limit"),
        ("Vanished", "to the bin" if spec.remove_vanished else "stay"),
        ("Binned", "brought again" if spec.again else "stay in the bin"),
        ("Schedule", f"{spec.schedule} {spec.time_zone}" if spec.schedule else "by hand"),
        ("Next", row.next or "never"),
        ("Last", row.last or "not yet"),
        ("State", state_text(row.state or "-")),
        ("Task", row.upid or "-"),
        ("Changed", f"{row.changed} by {row.changed_by}"),
        ("Trouble", row.trouble or "-"),
        ("Comment", spec.comment or "-"),
    ]
    print_facts(row, facts, output)
