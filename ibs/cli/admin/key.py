"""`ironcore-backup key …`: which data keys clients may use, by their public halves, and where they must use one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_done, print_facts, print_rows, say
from ibs.core import limits_keys, publickey
from ibs.core.ids import parse_fingerprint, short_fingerprint
from ibs.core.publickey import PublicKey
from ibs.errors import UsageError
from ibs.units import format_bytes
from ibs.wire.keys import KeyPolicy, KeyRegister, KeySnapshots, KeyView

root = app("key", "Data keys of encrypting clients: which ones are taken. The keys themselves never come here.")
policy = app("policy", "Where nothing but encrypted snapshots is taken.")
root.add_typer(policy)

KeyArgument = Annotated[
    str, typer.Argument(metavar="FINGERPRINT", help="Of the key, as `key list` shows it; its beginning is enough.")
]
StoreOption = Annotated[str, typer.Option("--datastore", help="Only for this datastore; else for all.")]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", "--ns", help="Only for this namespace and those below it.")
]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The public half, as the host wrote it.")]
PolicyStore = Annotated[str, typer.Argument(metavar="STORE", help="The datastore.")]
_SHOWN = 10


def _scope(datastore: str, namespace: str) -> str:
    return (f"{datastore}:{namespace}" if namespace else datastore) or "everywhere"


def _scopes(row: KeyView) -> str:
    return ", ".join(_scope(scope.datastore, scope.namespace) for scope in row.scopes)


_KEYS = (
    Column("FINGERPRINT", lambda row: short_fingerprint(parse_fingerprint(row.fingerprint))),
    Column("COMMENT", lambda row: row.comment or "-"),
    Column("STATE", lambda row: row.state),
    Column("SCOPE", _scopes),
    Column("ADDED", lambda row: row.scopes[0].added),
    Column("BY", lambda row: row.scopes[0].added_by),
    Column("LAST SEEN", lambda row: row.last_seen or "-"),
    Column("REPLACED BY", lambda row: row.replaced_by[:23] or "-"),
)
_POLICIES = (
    Column("PLACE", lambda row: _scope(row.datastore, row.namespace)),
    Column("ENCRYPTION", lambda row: "required" if row.required else "not required"),
    Column("SET", lambda row: row.set),
    Column("BY", lambda row: row.set_by),
)


@root.command("list", epilog=example("ironcore-backup key list"))
def list_(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """List the registered data keys."""

    async def work() -> list[KeyView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/keys", list[KeyView])

    print_rows(run(work, output), _KEYS, output, empty="no keys registered: backups are taken in clear only")


@root.command("register", epilog=example("ironcore-backup key register web01.pub --datastore main --namespace web"))
def register(
    file: FileArgument,
    datastore: StoreOption = "",
    namespace: NamespaceOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take backups that are encrypted or signed with this key."""

    async def work() -> KeyView:
        body = KeyRegister(key=_read(file), datastore=datastore, namespace=namespace)
        async with administrator(server, state_dir) as api:
            return await api.post("/keys", KeyView, body)

    made = run(work, output)
    print_done(f"key {made.fingerprint} is registered for {_scopes(made)}", output, fingerprint=made.fingerprint)


@root.command("rotate", epilog=example("ironcore-backup key rotate 3f:1c:22:09 web01-2027.pub"))
def rotate(
    old: KeyArgument,
    file: FileArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Register a new key where an old one is; both are taken until the old one is retired."""

    async def work() -> KeyView:
        body = KeyRegister(key=_read(file), replaces=old)
        async with administrator(server, state_dir) as api:
            before = await api.get(f"/keys/{old}", KeyView)
            for each in before.needed_by:  # said first, so that whoever is short of space can still stop the hosts
                say(_cost(each), output)
            return await api.post("/keys", KeyView, body)

    made = run(work, output)
    say(f"The old key is still taken. When all hosts have the new one: ironcore-backup key retire {old}", output)
    print_done(f"key {made.fingerprint} is registered for {_scopes(made)}", output, fingerprint=made.fingerprint)


@root.command("show", epilog=example("ironcore-backup key show 3f:1c:22:09"))
def show(
    fingerprint: KeyArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a key and the snapshots that only it can read."""

    async def work() -> KeyView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/keys/{fingerprint}", KeyView)

    _print(run(work, output), output)


@root.command("retire", epilog=example("ironcore-backup key retire 3f:1c:22:09"))
def retire(
    fingerprint: KeyArgument,
    force: Annotated[bool, typer.Option("--force", help="Also while there are snapshots that need it.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take no more backups with a key. Keep the keyfile: what it encrypted can be read with it alone."""

    async def work() -> KeyView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/keys/{fingerprint}/retire", KeyView, params={"force": "1"} if force else None)

    _print(run(work, output), output)


@root.command("export", epilog=example("ironcore-backup key export 3f:1c:22:09 > web01.pub"))
def export(
    fingerprint: KeyArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print a key's public half as it was registered, for another server."""

    async def work() -> PublicKey:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/keys/{fingerprint}/public", PublicKey)

    typer.echo(publickey.encode(run(work, output)), nl=False)


@root.command("remove", epilog=example("ironcore-backup key remove 3f:1c:22:09"))
def remove(
    fingerprint: KeyArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Forget a key that no snapshot needs."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/keys/{fingerprint}")

    run(work, output)
    print_done(f"key {fingerprint} is forgotten", output, fingerprint=fingerprint)


@policy.command("list", epilog=example("ironcore-backup key policy list"))
def policy_list(
    server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT
) -> None:
    """List where encryption is demanded."""

    async def work() -> list[KeyPolicy]:
        async with administrator(server, state_dir) as api:
            return await api.get("/key-policies", list[KeyPolicy])

    print_rows(run(work, output), _POLICIES, output, empty="no policies: encryption is up to each client")


@policy.command("set", epilog=example("ironcore-backup key policy set main --namespace web --require"))
def policy_set(
    store: PolicyStore,
    require: Annotated[bool, typer.Option("--require/--no-require", help="Whether encryption is demanded.")],
    namespace: NamespaceOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take nothing but encrypted snapshots in a place, or expressly take others there; the closest policy decides."""

    async def work() -> KeyPolicy:
        async with administrator(server, state_dir) as api:
            body = KeyPolicy(datastore=store, namespace=namespace, required=require)
            return await api.post("/key-policies", KeyPolicy, body, repeat=True)

    made = run(work, output)
    words = "required" if made.required else "not required"
    place = _scope(made.datastore, made.namespace)
    print_done(f"encryption is {words} in {place}", output, datastore=made.datastore, namespace=made.namespace)


@policy.command("unset", epilog=example("ironcore-backup key policy unset main --namespace web"))
def policy_unset(
    store: PolicyStore,
    namespace: NamespaceOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a policy; that of the place above holds again."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete("/key-policies", params={"datastore": store, "namespace": namespace})

    run(work, output)
    print_done(f"no policy for {_scope(store, namespace)} any more", output, datastore=store, namespace=namespace)


def _read(file: Path) -> PublicKey:
    try:
        with file.open("rb") as opened:
            data = opened.read(limits_keys.PUBLIC_KEY_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}", hint="give the file that the host wrote"
        ) from error
    return publickey.decode(data)


def _cost(needed: KeySnapshots) -> str:
    """What the first backups with another key mean for a datastore."""
    if needed.offline:
        return f"datastore {needed.datastore} could not be asked what this costs: {needed.offline}"
    size = format_bytes(needed.newest_bytes)
    return (
        f"datastore {needed.datastore}: the first backup of {needed.groups} group{'s' * (needed.groups != 1)} with the "
        f"new key reads and sends everything, {size} before compression, and needs room for it beside the old"
    )


def _print(key: KeyView, output: Output) -> None:
    facts = [
        ("Fingerprint", key.fingerprint),
        ("Comment", key.comment or "-"),
        ("State", f"{key.state} {key.retired} {key.retired_by}".rstrip()),
        ("Taken in", _scopes(key)),
        ("Last seen", key.last_seen or "-"),
        ("Signing key", key.signer),
        ("Replaced by", key.replaced_by or "-"),
    ]
    print_facts(key, facts, output)
    for each in key.needed_by:
        if each.offline:
            say(f"datastore {each.datastore} could not be asked: {each.offline}", output)
            continue
        many = "snapshot" if each.count == 1 else "snapshots"
        say(f"{each.count} {many} of datastore {each.datastore} can be read with this key only:", output)
        for name in each.snapshots[:_SHOWN]:
            say(f"  {name}", output)
        if each.count > _SHOWN:
            say(f"  and {each.count - _SHOWN} more", output)
    if not key.needed_by:
        say("no snapshot needs this key", output)
