"""The key that client commands use: the option, and asking for passphrases on a terminal. Imported by the commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import platformdirs
import typer

from ibs.cli.common import ask_secret
from ibs.client.keys import VARIABLE, Ask, load_key, stated_passphrase
from ibs.client.keys import passphrase as _passphrase
from ibs.errors import UsageError
from ibs.runtime import settings

if TYPE_CHECKING:
    from ibs.core.keys import DataKeys
    from ibs.security.keyfile import LoadedKey

NO_KEY: Final = "none"
KeyfileOption = Annotated[
    str | None,
    typer.Option(
        "--keyfile",
        envvar="IBS_KEYFILE",
        help="The data key's file; else the user's own one if there is one; `none` for no key at all.",
    ),
]


def load(keyfile: str | None) -> LoadedKey | None:
    """The key meant; None without one. Raises what `client.keys.load_key` raises."""
    if keyfile == NO_KEY:
        return None
    path = Path(keyfile) if keyfile else default_path()
    if not keyfile and not os.path.lexists(path):
        return None
    return load_key(path, ask_secret)


def default_path() -> Path:
    """Where `key create` puts a key that gets no other place, and where every command looks for one."""
    return Path(platformdirs.user_config_dir(settings.APP)) / "key.json"


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
