"""`ironcore-backup realm …`: directories that decide about passwords of their own users."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, ask_secret, example, run
from ibs.cli.output import Column, Output, OutputOption, print_done, print_facts, print_rows, say
from ibs.core import limits_access
from ibs.errors import UsageError
from ibs.wire.realms import RealmSet, RealmView

root = app("realm", "Realms: directories that decide about the passwords of their own users, `anna@corp`.")


class Kind(StrEnum):
    """What a realm can be."""

    LDAP = "ldap"


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The realm: what follows the @ of its users.")]
Uri = Annotated[str | None, typer.Option(help="ldaps://HOST[:PORT], or ldap://HOST[:PORT] for StartTLS.")]
Template = Annotated[
    str | None, typer.Option("--user-dn", help="The DN of a user, as uid={user},ou=people,dc=corp,dc=example.")
]
Base = Annotated[str | None, typer.Option("--base-dn", help="Instead: look users up below it, by --bind-dn.")]
Attribute = Annotated[str | None, typer.Option("--user-attribute", help="What names a user: uid, sAMAccountName.")]
Filter = Annotated[str | None, typer.Option("--filter", help="Only such entries: (memberOf=cn=backup,dc=corp).")]
BindDn = Annotated[str | None, typer.Option("--bind-dn", help="An account that may search, and no more.")]
BindFile = Annotated[
    Path | None,
    typer.Option("--bind-password-file", help="Its password; else IBS_BIND_PASSWORD, or asked for."),
]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", help="PEM of the authority that vouches for it; else those of the system.")
]

_REALMS = (
    Column("REALM", lambda row: row.name),
    Column("KIND", lambda row: row.kind),
    Column("ADDRESS", lambda row: row.uri),
    Column("USERS", lambda row: row.template or f"{row.attribute} below {row.base}"),
    Column("CA", lambda row: "own" if row.ca else "the system's"),
)


@root.command(
    "create",
    epilog=example(
        "ironcore-backup realm create ldap corp --uri ldaps://ldap.corp --user-dn 'uid={user},ou=people,dc=corp'"
    ),
)
def create(
    kind: Annotated[Kind, typer.Argument(help="What it is: ldap, which is Active Directory, too.")],
    name: NameArgument,
    uri: Uri = None,
    user_dn: Template = None,
    base_dn: Base = None,
    user_attribute: Attribute = None,
    user_filter: Filter = None,
    bind_dn: BindDn = None,
    bind_password_file: BindFile = None,
    ca_file: CaFile = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a directory in. Its users are let in once they are made here: user create anna@NAME."""

    async def work() -> RealmView:
        if not uri:
            raise UsageError(f"an {kind.value} realm needs an address", hint="give --uri ldaps://HOST")
        secret = _secret(bind_password_file)
        if bind_dn and not secret:
            secret = ask_secret(f"Password of {bind_dn}")
        body = RealmSet(
            name=name,
            uri=uri,
            template=user_dn,
            base=base_dn,
            attribute=user_attribute,
            filter=user_filter,
            bind_dn=bind_dn,
            secret=secret or None,
            ca=_text(ca_file),
        )
        async with administrator(server, state_dir) as api:
            return await api.post("/realms", RealmView, body)

    made = run(work, output)
    say(f"Next: ironcore-backup realm test {made.name}; then: user create anna@{made.name}", output)
    print_done(f"realm {made.name} asks {made.uri}", output, realm=made.name)


@root.command("list", epilog=example("ironcore-backup realm list"))
def list_(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """List the realms beside the built-in one."""

    async def work() -> list[RealmView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/realms", list[RealmView])

    print_rows(run(work, output), _REALMS, output, empty="no realms but the built-in one, ibs")


@root.command("show", epilog=example("ironcore-backup realm show corp"))
def show(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one realm; never the password it binds with."""

    async def work() -> RealmView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/realms/{name}", RealmView)

    _print(run(work, output), output)


@root.command("update", epilog=example("ironcore-backup realm update corp --uri ldaps://ldap2.corp.example"))
def update(
    name: NameArgument,
    uri: Uri = None,
    user_dn: Template = None,
    base_dn: Base = None,
    user_attribute: Attribute = None,
    user_filter: Filter = None,
    bind_dn: BindDn = None,
    bind_password_file: BindFile = None,
    ca_file: CaFile = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Change a realm. With another address, account or authority its password is given again."""

    async def work() -> RealmView:
        body = RealmSet(
            name=name,
            uri=uri,
            template=user_dn,
            base=base_dn,
            attribute=user_attribute,
            filter=user_filter,
            bind_dn=bind_dn,
            secret=_secret(bind_password_file) or None,
            ca=_text(ca_file),
        )
        async with administrator(server, state_dir) as api:
            return await api.post(f"/realms/{name}", RealmView, body, repeat=True)

    _print(run(work, output), output)


@root.command("test", epilog=example("ironcore-backup realm test corp"))
def probe(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Reach a realm's directory over proven TLS, and log in there with the bind DN if there is one."""

    async def work() -> RealmView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/realms/{name}/test", RealmView)

    found = run(work, output)
    print_done(f"realm {found.name} answers at {found.uri}", output, realm=found.name)


@root.command("remove", epilog=example("ironcore-backup realm remove corp"))
def remove(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Forget a realm that has no users here any more, and its password."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/realms/{name}")

    run(work, output)
    print_done(f"realm {name} is forgotten", output, realm=name)


def _secret(file: Path | None) -> str:
    """From the file or IBS_BIND_PASSWORD; "" without either. Raises UsageError."""
    if file is None:
        return os.environ.get("IBS_BIND_PASSWORD", "")
    return (_text(file) or "").rstrip("\n")


def _text(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(limits_access.REALM_CA_CHARS_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read", hint="give a file of text") from error
    if len(text) > limits_access.REALM_CA_CHARS_MAX:
        raise UsageError(f"{file} is too large", hint="give the authority's certificate alone, in PEM")
    return text


def _print(row: RealmView, output: Output) -> None:
    facts = [
        ("Realm", f"{row.name} ({row.kind})"),
        ("Address", row.uri),
        ("Users", row.template or f"{row.attribute} below {row.base} {row.filter}".strip()),
        ("Bind DN", row.bind_dn or "-"),
        ("Authority", "its own" if row.ca else "those of the system"),
    ]
    print_facts(row, facts, output)
