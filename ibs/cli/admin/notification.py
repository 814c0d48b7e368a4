"""`ironcore-backup notification …`: the inbox, the history of messages, groups and rules."""

from __future__ import annotations

import re
import shlex
from typing import Annotated

import typer

from ibs.cli.admin import notification_target
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_done, print_json, print_rows, say, state_text
from ibs.wire.notification import GroupSpec, HistoryView, RuleSpec
from ibs.wire.system import InboxView

root = app("notification", "Notifications: what the server has to tell, and whom.")
groups = app("group", "Groups of targets.")
rules = app("rule", "Rules: which events go to which targets.")
history = app("history", "Messages that were sent, wait, or failed.")
root.add_typer(notification_target.root)
root.add_typer(groups)
root.add_typer(rules)
root.add_typer(history)

Words = list[str] | None
_VARIABLE = re.compile(r"\$(IBS_[A-Z0-9_]+)")
_INBOX = (
    Column("TIME", lambda row: row.time),
    Column("SEVERITY", lambda row: row.severity),
    Column("SOURCE", lambda row: row.source),
    Column("TEXT", lambda row: row.text),
)
_GROUPS = (Column("GROUP", lambda row: row.name), Column("TARGETS", lambda row: ", ".join(row.targets)))
_RULES = (
    Column("RULE", lambda row: row.name),
    Column("SEVERITY", lambda row: row.severity),
    Column("SOURCES", lambda row: ", ".join(row.sources) or "all"),
    Column("KIND", lambda row: row.kind or "all"),
    Column("DATASTORE", lambda row: row.datastore or "all"),
    Column("NAMESPACE", lambda row: row.namespace or "all"),
    Column("JOB", lambda row: row.job or "all"),
    Column("HOST", lambda row: row.host or "all"),
    Column("WHEN", lambda row: f"{', '.join(row.windows)} {row.time_zone}" if row.windows else "always"),
    Column("TARGETS", lambda row: ", ".join([*row.targets, *(f"group {name}" for name in row.groups)])),
)
_HISTORY = (
    Column("ID", lambda row: str(row.id), right=True),
    Column("TIME", lambda row: row.time),
    Column("TARGET", lambda row: row.target),
    Column("STATE", lambda row: state_text(row.state)),
    Column("ATTEMPTS", lambda row: str(row.attempts), right=True),
    Column("TEXT", lambda row: row.text),
    Column("ERROR", lambda row: row.error),
)


@root.command("inbox", epilog=example("ironcore-backup notification inbox"))
def inbox(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 50,
    severity: Annotated[str, typer.Option(help="This or worse: notice, warning, error, critical.")] = "",
    source: Annotated[str, typer.Option(help="Only from backup, datastore, system and so on.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what happened: warnings, failures, changes of state."""
    words = {"severity": severity, "source": source}
    params = {"limit": limit} | {name: word for name, word in words.items() if word}

    async def work() -> list[InboxView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/notifications/inbox", list[InboxView], params=params)

    print_rows(run(work, output), _INBOX, output, empty="the inbox is empty")


@groups.command("list", epilog=example("ironcore-backup notification group list"))
def group_list(
    server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT
) -> None:
    """List groups."""

    async def work() -> list[GroupSpec]:
        async with administrator(server, state_dir) as api:
            return await api.get("/notifications/groups", list[GroupSpec])

    print_rows(run(work, output), _GROUPS, output, empty="no groups")


@groups.command("set", epilog=example("ironcore-backup notification group set oncall --target ops-smtp"))
def group_set(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the group.")],
    target: Annotated[Words, typer.Option(help="A member; repeatable.")] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a group, or replace its members."""

    async def work() -> GroupSpec:
        async with administrator(server, state_dir) as api:
            body = GroupSpec(name=name, targets=target or [])
            return await api.post("/notifications/groups", GroupSpec, body, repeat=True)

    run(work, output)
    print_done(f"group {name} is set", output, group=name)


@groups.command("remove", epilog=example("ironcore-backup notification group remove oncall"))
def group_remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the group.")],
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a group; its targets stay."""
    _remove("groups", name, server, state_dir, output)


@rules.command("list", epilog=example("ironcore-backup notification rule list"))
def rule_list(
    server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT
) -> None:
    """List rules; without any, warnings and worse go to every target."""

    async def work() -> list[RuleSpec]:
        async with administrator(server, state_dir) as api:
            return await api.get("/notifications/rules", list[RuleSpec])

    print_rows(run(work, output), _RULES, output, empty="no rules: warnings and worse go to every target")


@rules.command(
    "set", epilog=example("ironcore-backup notification rule set disks --source datastore --target ops-smtp")
)
def rule_set(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the rule.")],
    target: Annotated[Words, typer.Option(help="Where to; repeatable.")] = None,
    group: Annotated[Words, typer.Option(help="To all of this group; repeatable.")] = None,
    source: Annotated[Words, typer.Option(help="backup, datastore, system and so on; repeatable.")] = None,
    severity: Annotated[str, typer.Option(help="This or worse: info, notice, warning, error, critical.")] = "warning",
    kind: Annotated[str, typer.Option(help="Kinds of events, such as 'datastore.*'.")] = "",
    datastore: Annotated[str, typer.Option(help="Only of this datastore.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "--ns", help="Only of this namespace.")] = "",
    job: Annotated[str, typer.Option(help="Only of runs of this job.")] = "",
    host: Annotated[str, typer.Option(help="Only of this host.")] = "",
    window: Annotated[Words, typer.Option(help="Only what happens then, such as 22:00-06:00; repeatable.")] = None,
    time_zone: Annotated[str, typer.Option(help="IANA zone of --window.")] = "UTC",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make or replace a rule: events that match go to its targets."""
    rule = RuleSpec(
        name=name,
        sources=source or [],
        severity=severity,
        kind=kind,
        datastore=datastore,
        namespace=namespace,
        job=job,
        host=host,
        targets=target or [],
        groups=group or [],
        windows=window or [],
        time_zone=time_zone,
    )

    async def work() -> RuleSpec:
        async with administrator(server, state_dir) as api:
            return await api.post("/notifications/rules", RuleSpec, rule, repeat=True)

    run(work, output)
    print_done(f"rule {name} is set", output, rule=name)


@rules.command("remove", epilog=example("ironcore-backup notification rule remove disks"))
def rule_remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the rule.")],
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a rule."""
    _remove("rules", name, server, state_dir, output)


@history.command("list", epilog=example("ironcore-backup notification history list --target ops-smtp"))
def history_list(
    target: Annotated[str, typer.Option(help="Only of this target.")] = "",
    state: Annotated[str, typer.Option(help="Only what is waiting, sent, failed or dropped.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 50,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List messages, newest first."""
    words = {"target": target, "state": state}
    params = {"limit": limit} | {name: word for name, word in words.items() if word}

    async def work() -> list[HistoryView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/notifications/history", list[HistoryView], params=params)

    print_rows(run(work, output), _HISTORY, output, empty="no messages yet")


@history.command("show", epilog=example("ironcore-backup notification history show 17"))
def history_show(
    number: Annotated[int, typer.Argument(metavar="ID", min=1, help="Number of the message, from the list.")],
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what was sent, as a curl line that sends it again; variables stand for tokens and extra headers."""

    async def work() -> HistoryView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/notifications/history/{number}", HistoryView)

    shown = run(work, output)
    if output is Output.JSON:
        print_json(shown)
        return
    say(f"{shown.id} to {shown.target}: {shown.state}, {shown.attempts} attempts {shown.error}".rstrip())
    say(shown.command or shown.payload or "what was sent is not kept (any more), or nothing was sent yet")
    if shown.payload_chars > len(shown.payload):
        say(f"the message had {shown.payload_chars} characters, of which the first {len(shown.payload)} are kept")
    variables = sorted(set(_VARIABLE.findall(shown.command.removesuffix(shlex.quote(shown.payload)))))
    if variables:
        say(f"set before: {', '.join(variables)}")


def _remove(kind: str, name: str, server: str | None, state_dir: object, output: Output) -> None:
    async def work() -> None:
        async with administrator(server, state_dir) as api:  # type: ignore[arg-type]
            await api.delete(f"/notifications/{kind}/{name}")

    run(work, output)
    print_done(f"{kind[:-1]} {name} is removed", output, name=name)
