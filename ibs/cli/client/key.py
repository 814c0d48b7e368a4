"""`ironcore-backup-client key …`: the data key of this host. The server never gets it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.client import keyring
from ibs.cli.common import app, do, example
from ibs.cli.output import Output, OutputOption, print_done, print_facts, print_warning, say
from ibs.core import publickey
from ibs.core.ids import hex_fingerprint, short_fingerprint
from ibs.core.keys import ROOT_BYTES, DataKeys
from ibs.core.names import format_time
from ibs.errors import UsageError
from ibs.security import keyfile as files
from ibs.security.keyfile import LoadedKey

root = app(
    "key", "This host's data key: without it, nobody can read what was encrypted with it. Keep a copy elsewhere."
)

FileArgument = Annotated[
    str, typer.Argument(metavar="[FILE]", envvar="IBS_KEYFILE", help="The keyfile; by default the one of this user.")
]
NoPassphrase = Annotated[
    bool, typer.Option("--no-passphrase", help="Whoever can read the file has the key; for backups without a person.")
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
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a new data key."""
    do(lambda: _write_new(_path(file), os.urandom(ROOT_BYTES), mode, comment, output, sealed=not no_passphrase), output)


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
        loaded = do(lambda: _open(_path(file)), output)
        typer.echo(publickey.encode(publickey.describe(loaded.keys, loaded.comment)), nl=False)
        return
    path = do(lambda: _path(file), output)
    stated = do(lambda: files.read(path), output)
    facts = [
        ("Keyfile", str(path)),
        ("Fingerprint", stated.fingerprint),
        ("Short", stated.fingerprint[:23]),
        ("Mode", stated.mode),
        ("Comment", stated.comment or "-"),
        ("Created", stated.created or "-"),
        ("Passphrase", "yes" if stated.derivation else "no"),
    ]
    shown: dict[str, str | bool] = {name.lower(): fact for name, fact in facts}
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
    do(lambda: _seal_again(_path(file), output, sealed=not no_passphrase), output)


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
    do(lambda: _write_new(_path(file), _parse(text), mode, comment, output, sealed=not no_passphrase), output)


def _path(given: str) -> Path:
    if given == keyring.NO_KEY:
        raise UsageError("no keyfile was given", hint="name one")
    return Path(given) if given else keyring.default_path()


def _parse(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != ROOT_BYTES:
        raise UsageError("a root secret has 64 hex digits", hint="give it on standard input, and nothing else")
    return raw


def _open(path: Path) -> LoadedKey:
    return files.open_key(files.read(path), lambda: keyring.passphrase(f"Passphrase of {path}"))


def _write_new(path: Path, secret: bytes, mode: KeyMode, comment: str, output: Output, *, sealed: bool) -> None:
    made = LoadedKey(
        DataKeys.from_root(secret),
        mode.value,
        publickey.check_comment(comment or os.uname().nodename.partition(".")[0]),
        format_time(datetime.now(UTC)),
        has_passphrase=sealed,
    )
    files.check_free(path)  # before a passphrase is asked for
    files.write(path, files.seal(made, keyring.new_passphrase(f"Passphrase for {path}") if sealed else ""))
    fingerprint = hex_fingerprint(made.keys.fingerprint)
    say(f"Fingerprint  {fingerprint}", output)
    say(f"Short        {short_fingerprint(made.keys.fingerprint)}", output)
    say(f"Next         ironcore-backup-client key show --public {path} > FILE", output)
    say("             and on the server: ironcore-backup key register FILE", output)
    print_warning("keep a copy of the keyfile in another place: without it the backups made with it are lost")
    print_done(f"{path} is written", output, keyfile=str(path), fingerprint=fingerprint)


def _seal_again(path: Path, output: Output, *, sealed: bool) -> None:
    loaded = _open(path)
    new = keyring.new_passphrase("New passphrase", variable="IBS_NEW_KEY_PASSPHRASE") if sealed else ""
    files.write(path, files.seal(loaded, new), replace=True)
    print_done(f"{path} has {'a new' if new else 'no'} passphrase", output, keyfile=str(path))
