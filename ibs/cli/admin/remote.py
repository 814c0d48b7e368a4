"""`ironcore-backup remote …`: other servers that this one copies from and to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, ask_secret, example, run
from ibs.cli.output import Column, Output, OutputOption, print_done, print_facts, print_rows, say, state_text
from ibs.core import limits_sync
from ibs.errors import UsageError
from ibs.wire.remotes import RemoteSet, RemoteTest, RemoteView

root = app("remote", "Remotes: other servers that this one copies from and to, each pinned by its certificate.")

NameOption = Annotated[str, typer.Option("--name", help="What the remote is called here.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The remote, as `remote list` shows it.")]
SecretFile = Annotated[
    Path | None, typer.Option(help="File with the token's secret; else IBS_REMOTE_SECRET or a question.")
]
_HOST = "Its name or address."
_AUTH = "The identity there: user@realm!token, with rights on what is copied only."
_PIN = "SHA-256 fingerprint of its certificate, as `status` prints it there."

_REMOTES = (
    Column("REMOTE", lambda row: row.name),
    Column("HOST", lambda row: f"{row.host}:{row.port}"),
    Column("AUTH-ID", lambda row: row.auth_id),
    Column("FINGERPRINT", lambda row: row.fingerprint[:23]),
    Column("LAST CONTACT", lambda row: row.last_contact or "never"),
    Column("TROUBLE", lambda row: row.trouble),
)
_STORES = (
    Column("DATASTORE", lambda row: row.name),
    Column("STATUS", lambda row: state_text(row.status)),
    Column("REASON", lambda row: row.reason),
)


@root.command(
    "create",
    epilog=example("ironcore-backup remote create --name site-b --host b.example --auth-id sync@ibs!a --fingerprint …"),
)
def create(
    name: NameOption,
    host: Annotated[str, typer.Option(help=_HOST)],
    auth_id: Annotated[str, typer.Option("--auth-id", help=_AUTH)],
    fingerprint: Annotated[str, typer.Option(help=_PIN)],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 8007,
    secret_file: SecretFile = None,
    comment: Annotated[str, typer.Option(help="What people should know of it.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take another server in; nothing is sent to it before `remote test` or a sync."""

    async def work() -> RemoteView:
        secret = _secret(secret_file) or ask_secret(f"Secret of {auth_id}")
        if not secret:
            raise UsageError("no secret was given", hint="give --secret-file, or set IBS_REMOTE_SECRET")
        body = RemoteSet(
            name=name,
            host=host,
            port=port,
            auth_id=auth_id,
            secret=secret,
            fingerprint=fingerprint,
            comment=comment,
        )
        async with administrator(server, state_dir) as api:
            return await api.post("/remotes", RemoteView, body)

    made = run(work, output)
    say(f"Next: ironcore-backup remote test {made.name}", output)
    print_done(f"remote {made.name} is {made.auth_id} on {made.host}:{made.port}", output, remote=made.name)


@root.command("list", epilog=example("ironcore-backup remote list"))
def list_(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """List remotes, and how the last contact with each went."""

    async def work() -> list[RemoteView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/remotes", list[RemoteView])

    print_rows(run(work, output), _REMOTES, output, empty="no remotes")


@root.command("show", epilog=example("ironcore-backup remote show site-b"))
def show(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one remote; never its secret."""

    async def work() -> RemoteView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/remotes/{name}", RemoteView)

    _print(run(work, output), output)


@root.command("update", epilog=example('ironcore-backup remote update --name site-b --fingerprint "3f:1c:…"'))
def update(
    name: NameOption,
    fingerprint: Annotated[str | None, typer.Option(help=_PIN)] = None,
    host: Annotated[str | None, typer.Option(help=_HOST)] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Its port.")] = None,
    auth_id: Annotated[str | None, typer.Option("--auth-id", help=_AUTH)] = None,
    secret_file: SecretFile = None,
    comment: Annotated[str | None, typer.Option(help="What people should know of it.")] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Change a remote. This alone pins another certificate."""

    async def work() -> RemoteView:
        body = RemoteSet(
            name=name,
            host=host,
            port=port,
            auth_id=auth_id,
            secret=_secret(secret_file) or None,
            fingerprint=fingerprint,
            comment=comment,
        )
        async with administrator(server, state_dir) as api:
            return await api.post(f"/remotes/{name}", RemoteView, body, repeat=True)

    _print(run(work, output), output)


@root.command("test", epilog=example("ironcore-backup remote test site-b"))
def probe(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Reach a remote: certificate, identity, and which of its datastores can be seen."""

    async def work() -> RemoteTest:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/remotes/{name}/test", RemoteTest)

    found = run(work, output)
    if output is not Output.JSON:
        say(f"{found.name} answers {found.auth_id} in {found.milliseconds} ms, version {found.version}")
        say(f"it signs manifests with {found.signer}")
        print_rows(found.datastores, _STORES, output, empty=f"{found.auth_id} may see no datastore there")
        return
    print_facts(found, [], output)


@root.command("remove", epilog=example("ironcore-backup remote remove site-b"))
def remove(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Forget a remote and its secret."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/remotes/{name}")

    run(work, output)
    print_done(f"remote {name} is forgotten", output, remote=name)


def _secret(file: Path | None) -> str:
    """From the file or IBS_REMOTE_SECRET; "" without either. Raises UsageError."""
    if file is None:
        return os.environ.get("IBS_REMOTE_SECRET", "")
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(limits_sync.REMOTE_SECRET_CHARS_MAX + 2).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read", hint="give a file that holds the token's secret") from error


def _print(row: RemoteView, output: Output) -> None:
    facts = [
        ("Remote", row.name),
        ("Host", f"{row.host}:{row.port}"),
        ("Auth-id", row.auth_id),
        ("Fingerprint", row.fingerprint),
        ("Signing key", row.signer or "not known before the first contact"),
        ("Last contact", row.last_contact or "never"),
        ("Trouble", row.trouble or "-"),
        ("Comment", row.comment or "-"),
    ]
    print_facts(row, facts, output)
