"""`ironcore-backup user …`, `token …` and `acl …`: who may do what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import (
    Column,
    Output,
    OutputOption,
    print_done,
    print_facts,
    print_json,
    print_rows,
    print_warning,
    say,
)
from ibs.wire.system import AclEntry, IdentityChange, TokenCreate, TokenCreated, TokenView, UserCreate, UserView

users = app("user", "Users: people and machines, as user@realm.")
tokens = app(
    "token", "API tokens: secrets for machines, as user@realm!name. A token never has more rights than its user."
)
acl = app("acl", "Rights: roles on paths such as / or /datastore/STORE/NAMESPACE. What is not granted is refused.")

AuthIdArgument = Annotated[str, typer.Argument(metavar="AUTH-ID", help="user@realm or user@realm!token.")]
HolderArgument = Annotated[
    str, typer.Argument(metavar="AUTH-ID", help="user@realm, user@realm!token, or @GROUP for a group of users.")
]

_USERS = (
    Column("USER", lambda row: row.auth_id),
    Column("ENABLED", lambda row: "yes" if row.enabled else "no"),
    Column("COMMENT", lambda row: row.comment),
)
_TOKENS = (
    Column("TOKEN", lambda row: row.auth_id),
    Column("ENABLED", lambda row: "yes" if row.enabled else "no"),
    Column("EXPIRES", lambda row: row.expires or "never"),
    Column("LAST USED", lambda row: row.last_used or "never"),
    Column("COMMENT", lambda row: row.comment),
)
_ACL = (
    Column("PATH", lambda row: row.path),
    Column("ROLE", lambda row: row.role),
    Column("AUTH-ID", lambda row: row.auth_id),
    Column("BELOW TOO", lambda row: "yes" if row.propagate else "no"),
)


@users.command("create", epilog=example("ironcore-backup user create backup@ibs"))
def user_create(
    auth_id: AuthIdArgument,
    comment: Annotated[str, typer.Option(help="A note for people.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a user without any rights."""

    async def work() -> UserView:
        async with administrator(server, state_dir) as api:
            return await api.post("/access/users", UserView, UserCreate(auth_id=auth_id, comment=comment))

    made = run(work, output)
    if output is Output.JSON:
        print_json(made)
    say(f"user {made.auth_id} made; it has no rights yet: ironcore-backup acl grant PATH ROLE {made.auth_id}", output)


@users.command("list", epilog=example("ironcore-backup user list"))
def user_list(
    server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT
) -> None:
    """List the users."""

    async def work() -> list[UserView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/access/users", list[UserView])

    print_rows(run(work, output), _USERS, output, empty="no users")


@users.command("disable", epilog=example("ironcore-backup user disable backup@ibs"))
def user_disable(
    auth_id: AuthIdArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Keep a user out, with all its tokens; rights and backups stay."""
    _switch("user", auth_id, False, server, state_dir, output)


@users.command("remove", epilog=example("ironcore-backup user remove backup@ibs"))
def user_remove(
    auth_id: AuthIdArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a user with its tokens and rules; its backups stay."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/access/users/{auth_id}")

    run(work, output)
    print_done(f"user {auth_id} removed", output, auth_id=auth_id, removed=True)


@users.command("enable", epilog=example("ironcore-backup user enable backup@ibs"))
def user_enable(
    auth_id: AuthIdArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a user and its tokens in again."""
    _switch("user", auth_id, True, server, state_dir, output)


@tokens.command("disable", epilog=example("ironcore-backup token disable 'backup@ibs!web01'"))
def token_disable(
    auth_id: AuthIdArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Keep a token out; it can be let in again with the same secret."""
    _switch("token", auth_id, False, server, state_dir, output)


@tokens.command("enable", epilog=example("ironcore-backup token enable 'backup@ibs!web01'"))
def token_enable(
    auth_id: AuthIdArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a token in again."""
    _switch("token", auth_id, True, server, state_dir, output)


def _switch(word: str, auth_id: str, enabled: bool, server: str | None, state_dir: Path | None, output: Output) -> None:
    view: type[UserView | TokenView] = UserView if word == "user" else TokenView

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.post(f"/access/{word}s/{auth_id}", view, IdentityChange(enabled=enabled))

    run(work, output)
    print_done(f"{word} {auth_id} {'enabled' if enabled else 'disabled'}", output, auth_id=auth_id, enabled=enabled)


@tokens.command("create", epilog=example("ironcore-backup token create 'backup@ibs!web01'"))
def token_create(
    auth_id: AuthIdArgument,
    comment: Annotated[str, typer.Option(help="A note for people.")] = "",
    expires: Annotated[str, typer.Option(help="When it ends, such as 2027-01-01T00:00:00Z; never by default.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a token for a user. Its secret is shown once, now."""

    async def work() -> TokenCreated:
        async with administrator(server, state_dir) as api:
            body = TokenCreate(auth_id=auth_id, comment=comment, expires=expires)
            return await api.post("/access/tokens", TokenCreated, body)

    made = run(work, output)
    print_facts(made, [("Token", made.auth_id), ("Secret", f"{made.secret}  (shown only now)")], output)


@tokens.command("list", epilog=example("ironcore-backup token list"))
def token_list(
    server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT
) -> None:
    """List the tokens; never their secrets."""

    async def work() -> list[TokenView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/access/tokens", list[TokenView])

    print_rows(run(work, output), _TOKENS, output, empty="no tokens")


@tokens.command("remove", epilog=example("ironcore-backup token remove 'backup@ibs!web01'"))
def token_remove(
    auth_id: AuthIdArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a token; whoever uses it is refused from now on."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/access/tokens/{auth_id}")

    run(work, output)
    print_done(f"token {auth_id} removed", output, auth_id=auth_id, removed=True)


@acl.command("grant", epilog=example("ironcore-backup acl grant /datastore/ibs-primary Datastore.Backup backup@ibs"))
def acl_grant(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="/, /datastore/STORE, /datastore/STORE/NAMESPACE, /system.")
    ],
    role: Annotated[str, typer.Argument(metavar="ROLE", help="Such as Datastore.Backup; see `role list`.")],
    auth_id: HolderArgument,
    propagate: Annotated[bool, typer.Option(help="Holds below PATH too.")] = True,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Grant a role on a path."""
    entry = AclEntry(path=path, role=role, auth_id=auth_id, propagate=propagate)

    async def work() -> AclEntry:
        async with administrator(server, state_dir) as api:
            return await api.post("/access/acl", AclEntry, entry)

    made = run(work, output)
    if output is Output.JSON:
        print_json(made)
    if made.warning:
        print_warning(made.warning)
    say(f"{made.auth_id} has {made.role} on {made.path}", output)


@acl.command("revoke", epilog=example("ironcore-backup acl revoke /datastore/ibs-primary Datastore.Backup backup@ibs"))
def acl_revoke(
    path: Annotated[str, typer.Argument(metavar="PATH", help="As `acl list` prints it.")],
    role: Annotated[str, typer.Argument(metavar="ROLE", help="As `acl list` prints it.")],
    auth_id: HolderArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a role on a path away."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete("/access/acl", params={"path": path, "role": role, "auth_id": auth_id})

    run(work, output)
    text = f"{auth_id} no longer has {role} on {path}"
    print_done(text, output, path=path, role=role, auth_id=auth_id, revoked=True)


@acl.command("list", epilog=example("ironcore-backup acl list"))
def acl_list(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """List who has which role where."""

    async def work() -> list[AclEntry]:
        async with administrator(server, state_dir) as api:
            return await api.get("/access/acl", list[AclEntry])

    print_rows(run(work, output), _ACL, output, empty="nothing is granted")
