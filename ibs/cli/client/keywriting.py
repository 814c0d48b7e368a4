"""What the commands that make keyfiles share: their options, and writing a new one. Imported by the commands."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.client import keyring
from ibs.cli.output import Output, print_done, print_warning, say
from ibs.core import publickey
from ibs.core.ids import hex_fingerprint, short_fingerprint
from ibs.core.keys import DataKeys
from ibs.core.masterkey import MasterPublic
from ibs.core.names import format_time
from ibs.errors import UsageError
from ibs.security import keyfile as files
from ibs.security.keyfile import LoadedKey, Mode

NoPassphrase = Annotated[
    bool, typer.Option("--no-passphrase", help="Whoever can read the file has the key; for backups without a person.")
]


def path_of(given: str) -> Path:
    """The keyfile that is named, else the user's own. Raises UsageError."""
    if given == keyring.NO_KEY:
        raise UsageError("no keyfile was given", hint="name one")
    return Path(given) if given else keyring.default_path()


def opened(path: Path) -> LoadedKey:
    """The key of a keyfile; its passphrase is asked for where it has one."""
    return files.open_key(files.read(path), lambda: keyring.passphrase(f"Passphrase of {path}"))


def write_new(
    path: Path,
    secret: bytes,
    mode: Mode,
    comment: str,
    output: Output,
    *,
    sealed: bool,
    master: MasterPublic | None = None,
    **facts: str,
) -> None:
    """Make the keyfile of a root secret and say what comes next. Raises ConflictError before it asks anything."""
    made = LoadedKey(
        DataKeys.from_root(secret),
        mode,
        publickey.check_comment(comment or os.uname().nodename.partition(".")[0]),
        format_time(datetime.now(UTC)),
        has_passphrase=sealed,
        master=master,
    )
    files.check_free(path)  # before a passphrase is asked for
    files.write(path, files.seal(made, keyring.new_passphrase(f"Passphrase for {path}") if sealed else ""))
    fingerprint = hex_fingerprint(made.keys.fingerprint)
    say(f"Fingerprint  {fingerprint}", output)
    say(f"Short        {short_fingerprint(made.keys.fingerprint)}", output)
    if master is not None:
        say(f"Master key   {master.fingerprint}", output)
    say(f"Next         ironcore-backup-client key show --public {path} > FILE", output)
    say("             and on the server: ironcore-backup key register FILE", output)
    print_warning("keep a copy of the keyfile in another place: without it the backups made with it are lost")
    print_done(f"{path} is written", output, keyfile=str(path), fingerprint=fingerprint, **facts)
