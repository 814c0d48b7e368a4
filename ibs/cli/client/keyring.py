"""The key that client commands use: the option, and asking for passphrases on a terminal. Imported by the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ibs.cli.common import ask_secret
from ibs.client.keys import VARIABLE, Ask, load_key, stated_passphrase
from ibs.client.keys import passphrase as _passphrase
from ibs.errors import UsageError

if TYPE_CHECKING:
    from ibs.core.keys import DataKeys
    from ibs.security.keyfile import LoadedKey

NO_KEY: Final = "none"
KeyfileOption = Annotated[
    str | None,
    typer.Option("--keyfile", envvar="IBS_KEYFILE", help="The data key's file; `none` for no key at all."),
]


def load(keyfile: str | None) -> LoadedKey | None:
    """The key meant; None without one. Raises what `client.keys.load_key` raises."""
    if not keyfile or keyfile == NO_KEY:
        return None
    return load_key(Path(keyfile), ask_secret)


def reading_keys(keyfile: str | None) -> DataKeys | None:
    """The keys that open what was encrypted or signed with the keyfile."""
    loaded = load(keyfile)
    return None if loaded is None else loaded.keys


def passphrase(prompt: str) -> str:
    """Of a keyfile that is there. Raises UsageError."""
    return _passphrase(prompt, ask_secret)


def new_passphrase(prompt: str, ask: Ask = ask_secret, *, variable: str = VARIABLE) -> str:
    """From `variable` or VARIABLE_FILE; a typed one is asked for twice. Raises UsageError."""
    if given := stated_passphrase(variable):
        return given
    first = ask(prompt)
    if not first:
        raise UsageError(
            "no passphrase was given",
            hint=f"set {variable}_FILE, run this on a terminal, or give --no-passphrase for a host that starts its "
            "backups by itself",
        )
    if ask("The same again") != first:
        raise UsageError("the two passphrases differ; nothing was written", hint="try again")
    return first
