"""`ironcore-backup-client key …`: the data key of this host. The server never gets it."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.client import keyring, keywriting, paperkey
from ibs.cli.client.keywriting import NoPassphrase
from ibs.cli.client.masterkey import read_public
from ibs.cli.common import app, do, example
from ibs.cli.output import Output, OutputOption, print_done, print_facts, print_warning, say
from ibs.core import publickey
from ibs.core.keys import ROOT_BYTES
from ibs.errors import UsageError
from ibs.security import keyfile as files

root = app(
    "key", "This host's data key: without it, nobody can read what was encrypted with it. Keep a copy elsewhere."
)
root.add_typer(paperkey.root)

FileArgument = Annotated[
    str, typer.Argument(metavar="[FILE]", envvar="IBS_KEYFILE", help="The keyfile; by default the one of this user.")
]


class KeyMode(StrEnum):
    """What backups with the key are."""

    ENCRYPT = "encrypt"
    SIGN_ONLY = "sign-only"


@root.command("create", epilog=example("ironcore-backup-client key create /etc/ironcore-backup/web01.key"))
def create(
    file: FileArgument = "",
    mode: Annotated[
        KeyMode, typer.Option(help="encrypt: nothing readable leaves the host; sign-only: readable, and signed.")
    ] = KeyMode.ENCRYPT,
    comment: Annotated[str, typer.Option(help="What people call it; this host's name by default.")] = "",
    no_passphrase: NoPassphrase = False,
    master: Annotated[
        Path | None,
        typer.Option("--master", help="Public half of a master key: its owner can bring this key back from snapshots."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a new data key."""
    do(
        lambda: keywriting.write_new(
            keywriting.path_of(file),
            os.urandom(ROOT_BYTES),
            mode.value,
            comment,
            output,
            sealed=not no_passphrase,
            master=None if master is None else read_public(master),
        ),
        output,
    )


@root.command("show", epilog=example("ironcore-backup-client key show --public > web01.pub"))
def show(
    file: FileArgument = "",
    public: Annotated[
        bool, typer.Option("--public", help="Print the public half, for `ironcore-backup key register`.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show whose key it is; with --public what the server may know of it."""
    if public:
        loaded = do(lambda: keywriting.opened(keywriting.path_of(file)), output)
        typer.echo(publickey.encode(publickey.describe(loaded.keys, loaded.comment)), nl=False)
        return
    path = do(lambda: keywriting.path_of(file), output)
    stated = do(lambda: files.read(path), output)
    facts = [
        ("Keyfile", str(path)),
        ("Fingerprint", stated.fingerprint),
        ("Short", stated.fingerprint[:23]),
        ("Mode", stated.mode),
        ("Comment", stated.comment or "-"),
        ("Created", stated.created or "-"),
        ("Passphrase", "yes" if stated.derivation else "no"),
        ("Master key", "none: if the keyfile is lost, only a copy or a paper key brings it back"),
    ]
    master = stated.master.fingerprint if stated.master else ""
    if master:
        facts[-1] = ("Master key", master)
    shown: dict[str, str | bool] = {name.lower().replace(" ", "_"): fact for name, fact in facts}
    shown["master_key"] = master
    shown |= {"comment": stated.comment, "created": stated.created, "passphrase": stated.derivation is not None}
    print_facts(shown, facts, output)


@root.command("change-passphrase", epilog=example("ironcore-backup-client key change-passphrase web01.key"))
def change_passphrase(
    file: FileArgument = "",
    no_passphrase: NoPassphrase = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Seal the same key with another passphrase; copies made before still open with the old one.

    The new passphrase comes from IBS_NEW_KEY_PASSPHRASE_FILE or the terminal.
    """
    do(lambda: _seal_again(keywriting.path_of(file), output, sealed=not no_passphrase), output)


@root.command("set-master", epilog=example("ironcore-backup-client key set-master web01.key --public master.pub"))
def set_master(
    file: FileArgument = "",
    public: Annotated[Path | None, typer.Option("--public", help="Public half of the master key.")] = None,
    none: Annotated[bool, typer.Option("--none", help="No master key from now on.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Name the master key whose owner can bring this key back; each later snapshot carries it, wrapped.

    Compare the fingerprint with the owner's: whoever holds that master key can read the backups of this key.
    """
    do(lambda: _set_master(keywriting.path_of(file), public, none, output), output)


@root.command("import", epilog=example("ironcore-backup-client key import web01.key < root.hex"))
def import_(
    file: FileArgument = "",
    mode: Annotated[KeyMode, typer.Option(help="What backups with it are.")] = KeyMode.ENCRYPT,
    comment: Annotated[str, typer.Option(help="What people call it.")] = "",
    no_passphrase: NoPassphrase = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a keyfile from the 64 hex digits of a root secret, read from standard input."""
    text = "".join(typer.get_text_stream("stdin").read(1024).split()).lower()
    do(
        lambda: keywriting.write_new(
            keywriting.path_of(file), _parse(text), mode.value, comment, output, sealed=not no_passphrase
        ),
        output,
    )


def _parse(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != ROOT_BYTES:
        raise UsageError("a root secret has 64 hex digits", hint="give it on standard input, and nothing else")
    return raw


def _set_master(path: Path, public: Path | None, none: bool, output: Output) -> None:
    if none == (public is not None):
        raise UsageError("name the master key's public half, or --none", hint="see: key set-master --help")
    master = None if public is None else read_public(public)
    stated = files.read(path)
    word = keyring.passphrase(f"Passphrase of {path}") if stated.derivation else ""
    loaded = files.open_key(stated, lambda: word)
    files.write(path, files.seal(replace(loaded, master=master), word), replace=True)
    if master is None:
        print_done(f"{path} names no master key; snapshots made before still carry theirs", output, keyfile=str(path))
        return
    say(f"Master key   {master.fingerprint}  {master.comment}".rstrip(), output)
    print_warning("compare that fingerprint with the owner's: whoever holds the master key can read these backups")
    print_done(f"{path} names it", output, keyfile=str(path), master_key=master.fingerprint)


def _seal_again(path: Path, output: Output, *, sealed: bool) -> None:
    loaded = keywriting.opened(path)
    new = keyring.new_passphrase("New passphrase", variable="IBS_NEW_KEY_PASSPHRASE") if sealed else ""
    files.write(path, files.seal(loaded, new), replace=True)
    print_done(f"{path} has {'a new' if new else 'no'} passphrase", output, keyfile=str(path))
