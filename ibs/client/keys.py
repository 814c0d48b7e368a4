"""Opening this host's keyfile: where its passphrase comes from when nobody sits there.

Used by `cli` and the agent. Order: `IBS_KEY_PASSPHRASE`, the file named by `IBS_KEY_PASSPHRASE_FILE`, then whoever can
be asked. A passphrase is never taken from a command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ibs.core import limits_keys
from ibs.errors import UsageError

if TYPE_CHECKING:
    from ibs.security.keyfile import LoadedKey

VARIABLE: Final = "IBS_KEY_PASSPHRASE"
Ask = Callable[[str], str]


def nobody(prompt: str) -> str:  # noqa: ARG001 - an Ask
    """For programs that run by themselves."""
    return ""


def load_key(path: Path, ask: Ask = nobody) -> LoadedKey:
    """Read and open a keyfile. Blocks. Raises what `security.keyfile` raises, UsageError without a passphrase."""
    from ibs.security import keyfile  # noqa: PLC0415 - loaded only where there is a key: a client has to start quickly

    return keyfile.open_key(keyfile.read(path), lambda: passphrase(f"Passphrase of {path}", ask))


def wrapped_key(key: LoadedKey | None) -> bytes:
    """What each snapshot made with the key carries for the owner of its master key; b"" without one.

    Raises FormatError.
    """
    if key is None or key.master is None:
        return b""
    from ibs.core import masterkey  # noqa: PLC0415 - as above
    from ibs.security.masterkey import wrap  # noqa: PLC0415 - as above

    return masterkey.encode(wrap(key.master, key))


def passphrase(prompt: str, ask: Ask = nobody) -> str:
    """The one of a keyfile that has one. Raises UsageError when there is none to be had."""
    given = stated_passphrase() or ask(prompt)
    if not given:
        raise UsageError(
            "the keyfile has a passphrase and none was given",
            hint=f"set {VARIABLE}_FILE to a file that holds it, or run this on a terminal",
        )
    return given


def stated_passphrase(variable: str = VARIABLE, environment: Mapping[str, str] = os.environ) -> str:
    """From `variable` or the file named by VARIABLE_FILE; "" without either. Raises UsageError."""
    if given := environment.get(variable):
        return given
    name = environment.get(f"{variable}_FILE")
    if not name:
        return ""
    try:
        with Path(name).open("rb") as opened:
            data = opened.read(limits_keys.PASSPHRASE_BYTES_MAX + 2)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", hint=f"see {variable}_FILE") from error
    return data.removesuffix(b"\n").decode("utf-8", "surrogateescape")
