"""`ironcore-backup-client masterkey …`: what brings lost keyfiles back. For its owner, away from hosts and servers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.client import keyring, keywriting
from ibs.cli.client.connection import RepositoryOption, connection
from ibs.cli.client.keywriting import NoPassphrase
from ibs.cli.common import app, ask_secret, do, example, run
from ibs.cli.output import Output, OutputOption, print_done, print_facts, print_note, print_warning, say
from ibs.client.keys import stated_passphrase
from ibs.client.restore.wrappedkey import prove, read_wrapped
from ibs.client.transport import HttpRestoreTransport
from ibs.core import limits_keys, masterkey
from ibs.core.keys import DataKeys
from ibs.core.masterkey import MasterPublic, WrappedKey
from ibs.core.names import format_time
from ibs.errors import UsageError
from ibs.security import keyfile as files
from ibs.security import masterkey as masters

VARIABLE = "IBS_MASTER_PASSPHRASE"
root = app(
    "masterkey",
    "The master key: its owner can bring back every key whose keyfile names it. Its private half stays off all hosts.",
)
MasterArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The master key's file.")]


@root.command("create", epilog=example("ironcore-backup-client masterkey create /media/safe/master.key"))
def create(
    file: MasterArgument,
    comment: Annotated[str, typer.Option(help="What people call it.")] = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a master key (RSA-4096). Do it away from hosts and servers, and put the file in a safe, twice.

    The passphrase comes from IBS_MASTER_PASSPHRASE_FILE or the terminal.
    """
    do(lambda: _create(file, comment, output), output)


@root.command("show", epilog=example("ironcore-backup-client masterkey show master.key --public > master.pub"))
def show(
    file: MasterArgument,
    public: Annotated[bool, typer.Option("--public", help="Print the public half, for `key set-master`.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show whose master key it is; with --public what hosts need of it. No passphrase is asked for."""
    stated = do(lambda: masters.read(file), output)
    half = do(lambda: masters.public_half(stated), output)
    if public:
        typer.echo(masterkey.encode(half), nl=False)
        return
    facts = [("Fingerprint", half.fingerprint), ("Comment", half.comment or "-"), ("Created", stated.created or "-")]
    print_facts({name.lower(): fact for name, fact in facts}, facts, output)


@root.command("change-passphrase", epilog=example("ironcore-backup-client masterkey change-passphrase master.key"))
def change_passphrase(file: MasterArgument, output: OutputOption = Output.TEXT) -> None:
    """Seal the same master key with another passphrase; copies made before still open with the old one.

    The new passphrase comes from IBS_NEW_MASTER_PASSPHRASE_FILE or the terminal.
    """
    do(lambda: _seal_again(file, output), output)


@root.command(
    "recover",
    epilog=example("ironcore-backup-client masterkey recover host/web01 --master master.key --keyfile web01.key"),
)
def recover(
    master: Annotated[Path, typer.Option("--master", help="The master key's file.")],
    snapshot: Annotated[
        str,
        typer.Argument(metavar="[SNAPSHOT]", help="A snapshot made with the lost key; a group: its newest."),
    ] = "",
    wrapped: Annotated[
        Path | None,
        typer.Option("--wrapped", help="In place of a snapshot: its file wrapped.key, taken out of the datastore."),
    ] = None,
    keyfile: Annotated[
        str,
        typer.Option("--keyfile", envvar="IBS_KEYFILE", help="The keyfile to write; by default the one of this user."),
    ] = "",
    comment: Annotated[str, typer.Option(help="What people call the key; as before by default.")] = "",
    no_passphrase: NoPassphrase = False,
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a keyfile again from a snapshot, with a new passphrase: for a keyfile that was lost.

    Needs a log-in that may read the snapshot; with --wrapped no server at all.
    """
    if bool(snapshot) == (wrapped is not None):
        do(_neither, output)
    path = do(lambda: keywriting.path_of(keyfile), output)
    do(lambda: files.check_free(path), output)
    stated = do(lambda: masters.read(master), output)
    name, found = do(lambda: ("", _from_file(wrapped)), output) if wrapped else _fetch(snapshot, repository, output)
    keys = do(lambda: masters.unwrap(stated, lambda: _passphrase(master), found), output)
    if name:
        _prove(name, keys, repository, output)
    else:
        print_note(f"not proven by a snapshot: compare the fingerprint {found.key_fingerprint}")
    half = masters.public_half(stated)
    do(
        lambda: keywriting.write_new(
            path,
            keys.root,
            found.mode,
            comment or found.comment,
            output,
            sealed=not no_passphrase,
            master=half,
            snapshot=name,
        ),
        output,
    )


def _neither() -> None:
    raise UsageError("name a snapshot, or a file with --wrapped", hint="one of the two: see masterkey recover --help")


def _create(path: Path, comment: str, output: Output) -> None:
    files.check_free(path)
    passphrase = keyring.new_passphrase(f"Passphrase for {path}", variable=VARIABLE)
    made = masters.make(passphrase, comment, format_time(datetime.now(UTC)))
    files.write_private(path, masters.encode(made), sealed=True)
    say(f"Fingerprint  {made.fingerprint}", output)
    say(f"Next         ironcore-backup-client masterkey show --public {path} > master.pub", output)
    say("             and on each host: ironcore-backup-client key set-master --public master.pub", output)
    print_warning("whoever has this file and its passphrase can open every key that is wrapped under it: lock it away")
    print_done(f"{path} is written", output, masterkey=str(path), fingerprint=made.fingerprint)


def _seal_again(path: Path, output: Output) -> None:
    stated = masters.read(path)
    old = _passphrase(path)
    new = keyring.new_passphrase("New passphrase", variable="IBS_NEW_MASTER_PASSPHRASE")
    again = masters.seal_again(stated, old, new)
    files.write_private(path, masters.encode(again), sealed=True, replace=True)
    print_done(f"{path} has a new passphrase", output, masterkey=str(path))


def _passphrase(path: Path) -> str:
    given = stated_passphrase(VARIABLE) or ask_secret(f"Passphrase of {path}")
    if not given:
        raise UsageError("the master key has a passphrase and none was given", hint=f"set {VARIABLE}_FILE")
    return given


def _from_file(path: Path) -> WrappedKey:
    return masterkey.decode_wrapped(read_small(path))


def read_public(path: Path) -> MasterPublic:
    """The public half in a file. Raises UsageError, FormatError."""
    return masterkey.decode_public(read_small(path))


def read_small(path: Path) -> bytes:
    """Raises UsageError."""
    try:
        with path.open("rb") as opened:
            return opened.read(limits_keys.MASTER_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="check the path") from error


def _fetch(snapshot: str, repository: str | None, output: Output) -> tuple[str, WrappedKey]:
    async def work() -> tuple[str, WrappedKey]:
        async with connection(repository) as found, HttpRestoreTransport(found.api) as transport:
            return await read_wrapped(transport, store=found.store, snapshot=snapshot)

    return run(work, output)


def _prove(snapshot: str, keys: DataKeys, repository: str | None, output: Output) -> None:
    async def work() -> None:
        async with connection(repository) as found, HttpRestoreTransport(found.api) as transport:
            await prove(transport, store=found.store, snapshot=snapshot, keys=keys)

    run(work, output)
