"""`ironcore-backup host …`: hosts that this server backs up through their agents."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
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
from ibs.client.http import ApiClient
from ibs.units import parse_duration
from ibs.wire.hosts import HostInvite, HostInvited, HostUpdate, HostView

root = app("host", "Hosts with an agent: who can be backed up from here, and whether they can be heard.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The host, as `host list` shows it.")]
_LOOPBACK = ("127.", "localhost", "::1", "[::1]")


def _remark(row: HostView) -> str:
    if row.built_in:
        return "this server"
    return f"invited until {row.invited_until}" if row.invited_until else ""


_HOSTS = (
    Column("HOST", lambda row: row.name),
    Column("STATE", lambda row: state_text(row.state)),
    Column("SINCE", lambda row: row.since or "-"),
    Column("LAST CONTACT", lambda row: row.last_contact or "never"),
    Column("VERSION", lambda row: row.version or "-"),
    Column("TASKS", lambda row: str(len(row.running)), right=True),
    Column("PROJECT", lambda row: row.project or "-"),
    Column("TAGS", lambda row: ",".join(row.tags) or "-"),
    Column("REMARK", _remark),
)


@root.command("invite", epilog=example("ironcore-backup host invite web01 --tag web --project shop"))
def invite(
    name: NameArgument,
    valid_for: Annotated[str, typer.Option(help="How long the join token may be used, such as 30m, 1h, 7d.")] = "1h",
    tag: Annotated[list[str] | None, typer.Option(help="A word that jobs can choose hosts by; repeatable.")] = None,
    project: Annotated[str, typer.Option(help="Whom the host belongs to.")] = "",
    again: Annotated[bool, typer.Option(help="Invite a host that has joined already; it gets a new identity.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print a one-time join token for a host, and the command that uses it there."""

    async def work() -> tuple[HostInvited, str]:
        async with administrator(server, state_dir) as api:
            body = HostInvite(
                name=name,
                valid_seconds=int(parse_duration(valid_for)),
                tags=tag or [],
                project=project,
                again=again,
            )
            made = await api.post("/hosts", HostInvited, body)
            return made, _command(api, made)

    made, command = run(work, output)
    if output is Output.JSON:
        print_json({"name": made.name, "token": made.token, "expires": made.expires, "command": command})
    say(f"Join token  {made.token}  (shown only now, for one use until {made.expires})", output)
    say(f"On {made.name}, run the following; it asks for the token, or takes it from IBS_JOIN_TOKEN:", output)
    say(f"  {command}", output)


def _command(api: ApiClient, made: HostInvited) -> str:
    """What to type on the host. The address is the one that this command used, unless that is no way in."""
    host = made.node if api.host.startswith(_LOOPBACK) else api.host
    port = made.port or api.port
    return f"ironcore-backup-client agent join {host}:{port} --name {made.name} --fingerprint {made.fingerprint}"


@root.command("list", epilog=example("ironcore-backup host list"))
def list_(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """List the hosts: who can be heard, since when, and how many tasks they have in hand."""

    async def work() -> list[HostView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/hosts", list[HostView])

    print_rows(run(work, output), _HOSTS, output, empty="no hosts")


@root.command("show", epilog=example("ironcore-backup host show web01"))
def show(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one host."""

    async def work() -> HostView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/hosts/{name}", HostView)

    _print(run(work, output), output)


@root.command("update", epilog=example("ironcore-backup host update web01 --tag web --tag prod"))
def update(
    name: NameArgument,
    tag: Annotated[list[str] | None, typer.Option(help="Replace the tags by these; repeatable.")] = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Remove all tags.")] = False,
    project: Annotated[str | None, typer.Option(help='Whom the host belongs to; "" for nobody.')] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Change tags and project of a host."""
    tags = [] if no_tags else tag or None

    async def work() -> HostView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/hosts/{name}", HostView, HostUpdate(tags=tags, project=project))

    _print(run(work, output), output)


@root.command("remove", epilog=example("ironcore-backup host remove web01"))
def remove(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Forget a host and refuse its agent from now on; its backups stay."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/hosts/{name}")

    run(work, output)
    print_done(f"host {name} removed; its backups stay", output, name=name, removed=True)


def _print(view: HostView, output: Output) -> None:
    facts: list[tuple[str, str | Text]] = [
        ("Host", view.name),
        ("State", state_text(view.state)),
        ("Since", view.since),
        ("Last contact", view.last_contact or "never"),
        ("Joined", view.joined or "never"),
        ("Invited until", view.invited_until),
        ("Agent", " ".join(filter(None, (view.version, view.auth_id)))),
        ("System", view.system),
        ("Address", view.address),
        ("Project", view.project),
        ("Tags", ", ".join(view.tags)),
        ("Tasks", ", ".join(view.running)),
    ]
    print_facts(view, [fact for fact in facts if fact[1]], output)
