"""`ironcore-backup role …`, `usergroup …` and `access explain`: what rules are made of, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_done, print_json, print_rows, say
from ibs.wire.access import Explained, RoleSet, RoleView, UserGroupSet, UserGroupView

roles = app("role", "Roles: named sets of privileges, built in or of one's own, that rules give on paths.")
usergroups = app("usergroup", "Groups of users: a rule for @NAME holds for all of its members.")
root = app("access", "Who may do what, and why.")

RoleArgument = Annotated[str, typer.Argument(metavar="ROLE", help="The name of a role, as `role list` prints it.")]
PrivilegesArgument = Annotated[
    list[str], typer.Argument(metavar="PRIVILEGE…", help="Such as Datastore.Read; `role list` shows all.")
]
GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name, with or without the @.")]
CommentOption = Annotated[str, typer.Option(help="A note for people.")]

_ROLES = (
    Column("ROLE", lambda row: row.name),
    Column("BUILT IN", lambda row: "yes" if row.built_in else "no"),
    Column("PRIVILEGES", lambda row: " ".join(row.privileges) or "none"),
    Column("COMMENT", lambda row: row.comment),
)
_GROUPS = (
    Column("GROUP", lambda row: f"@{row.name}"),
    Column("MEMBERS", lambda row: " ".join(row.members) or "none"),
    Column("COMMENT", lambda row: row.comment),
)
_RULES = (
    Column("OF", lambda row: row.of),
    Column("PATH", lambda row: row.path),
    Column("ROLE", lambda row: row.role),
    Column("GIVEN TO", lambda row: row.auth_id),
    Column("INHERITED", lambda row: "yes" if row.inherited else "no"),
    Column("WHAT IT DOES HERE", lambda row: row.fate),
)
_RIGHTS = (
    Column("PRIVILEGE", lambda row: row.privilege),
    Column("ALLOWED", lambda row: "yes" if row.allowed else "no"),
    Column("BECAUSE", lambda row: row.reason),
)


@roles.command("list", epilog=example("ironcore-backup role list"))
def role_list(
    server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT
) -> None:
    """List the roles and what each allows."""

    async def work() -> list[RoleView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/access/roles", list[RoleView])

    print_rows(run(work, output), _ROLES, output, empty="no roles")


@roles.command("create", epilog=example("ironcore-backup role create Checker Datastore.Audit Datastore.Verify"))
def role_create(
    name: RoleArgument,
    privileges: PrivilegesArgument,
    comment: CommentOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a role of your own."""
    _put_role("/access/roles", RoleSet(name=name, privileges=privileges, comment=comment), server, state_dir, output)


@roles.command("update", epilog=example("ironcore-backup role update Checker Datastore.Verify"))
def role_update(
    name: RoleArgument,
    privileges: PrivilegesArgument,
    comment: CommentOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say anew what a role of your own allows; it holds at once wherever the role is given."""
    body = RoleSet(name=name, privileges=privileges, comment=comment)
    _put_role(f"/access/roles/{name}", body, server, state_dir, output)


def _put_role(path: str, body: RoleSet, server: str | None, state_dir: Path | None, output: Output) -> None:
    async def work() -> RoleView:
        async with administrator(server, state_dir) as api:
            return await api.post(path, RoleView, body)

    made = run(work, output)
    if output is Output.JSON:
        print_json(made)
    say(f"role {made.name} allows {' '.join(made.privileges)}", output)


@roles.command("remove", epilog=example("ironcore-backup role remove Checker"))
def role_remove(
    name: RoleArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a role of your own that nobody has any more."""
    _remove(f"/access/roles/{name}", f"role {name} removed", name, server, state_dir, output)


@usergroups.command("list", epilog=example("ironcore-backup usergroup list"))
def usergroup_list(
    server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT
) -> None:
    """List the groups of users and who is in them."""

    async def work() -> list[UserGroupView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/access/groups", list[UserGroupView])

    print_rows(run(work, output), _GROUPS, output, empty="no groups of users")


@usergroups.command("create", epilog=example("ironcore-backup usergroup create ops anna@ibs otto@ibs"))
def usergroup_create(
    name: GroupArgument,
    members: Annotated[
        list[str] | None, typer.Argument(metavar="[USER…]", help="Its members, as user@realm; may be none.")
    ] = None,
    comment: CommentOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a group of users without any rights."""
    body = UserGroupSet(name=name.removeprefix("@"), members=members or [], comment=comment)

    async def work() -> UserGroupView:
        async with administrator(server, state_dir) as api:
            return await api.post("/access/groups", UserGroupView, body)

    made = run(work, output)
    if output is Output.JSON:
        print_json(made)
    say(f"group @{made.name} has {_members(made)}: ironcore-backup acl grant PATH ROLE @{made.name}", output)


@usergroups.command("update", epilog=example("ironcore-backup usergroup update ops --add otto@ibs --remove anna@ibs"))
def usergroup_update(
    name: GroupArgument,
    add: Annotated[list[str] | None, typer.Option(help="A user that joins; may be repeated.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A user that leaves; may be repeated.")] = None,
    comment: Annotated[str | None, typer.Option(help="A note for people; the old one stays without it.")] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let users join a group or leave it."""
    bare = name.removeprefix("@")

    async def work() -> UserGroupView:
        async with administrator(server, state_dir) as api:
            groups = {group.name: group for group in await api.get("/access/groups", list[UserGroupView])}
            known = groups.get(bare, UserGroupView(name=bare, members=[]))
            members = sorted((set(known.members) | set(add or [])) - set(remove or []))
            body = UserGroupSet(name=bare, members=members, comment=known.comment if comment is None else comment)
            return await api.post(f"/access/groups/{bare}", UserGroupView, body)

    made = run(work, output)
    if output is Output.JSON:
        print_json(made)
    say(f"group @{made.name} has {_members(made)}", output)


@usergroups.command("remove", epilog=example("ironcore-backup usergroup remove ops"))
def usergroup_remove(
    name: GroupArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a group with its rules; its users stay."""
    bare = name.removeprefix("@")
    _remove(f"/access/groups/{bare}", f"group @{bare} removed", bare, server, state_dir, output)


def _members(group: UserGroupView) -> str:
    return " ".join(group.members) or "no members"


def _remove(path: str, text: str, name: str, server: str | None, state_dir: Path | None, output: Output) -> None:
    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(path)

    run(work, output)
    print_done(text, output, name=name, removed=True)


@root.command(
    "explain",
    epilog=example("ironcore-backup access explain 'backup@ibs!web01' /datastore/ibs-primary Datastore.Prune"),
)
def access_explain(
    auth_id: Annotated[str, typer.Argument(metavar="AUTH-ID", help="user@realm or user@realm!token.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Such as /datastore/STORE/NAMESPACE or /system.")],
    privilege: Annotated[
        str, typer.Argument(metavar="[PRIVILEGE]", help="Only this one, such as Datastore.Prune; all without it.")
    ] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say what an identity may do on a path, and which rule decides that."""
    params = {"auth_id": auth_id, "path": path, "privilege": privilege}

    async def work() -> Explained:
        async with administrator(server, state_dir) as api:
            return await api.get("/access/explain", Explained, params=params)

    found = run(work, output)
    if output is Output.JSON:
        print_json(found)
        return
    if found.kept_out:
        say(f"{found.auth_id} is kept out altogether: {found.kept_out}", output)
    if found.groups:
        say(f"its user is in {', '.join(found.groups)}", output)
    if found.rules:
        print_rows(found.rules, _RULES, output, empty="")
        say("", output)
    else:
        say(f"no rule for {found.auth_id} bears on {found.path}", output)
    print_rows(found.rights, _RIGHTS, output, empty="")
    for right in found.rights if privilege else []:
        if not right.allowed:
            say(f"\nthe least role that allows it is {right.role_wanted}:", output)
            for holder in right.grant_to:
                say(f"  ironcore-backup acl grant {found.path} {right.role_wanted} {holder}", output)
