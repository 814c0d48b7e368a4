"""`ironcore-backup-client`: back up, list, restore and compare on any Linux host. One file a noun.

Only the command that is asked for is loaded: a backup in which nothing changed takes about as long as loading it.
"""
# ruff: noqa: E402 - the collector is told before all the modules below are loaded, which is when it would run most

from __future__ import annotations

import gc
import os

# A run makes many objects that live to its end and hardly any cycles: the collector's looks at young ones are a tenth
# of the time that the program takes to start, and find nothing.
gc.set_threshold(50_000, 20, 50)
# numpy's linear algebra starts its threads when it is loaded; nothing here uses it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Final, NamedTuple

import typer

from ibs.cli.common import app, example, main_of
from ibs.runtime.allocator import keep_freed_memory
from ibs.version import PRODUCT, VERSION


class _Command(NamedTuple):
    """Where a command is (`module` below this package), and how it is used; a group of commands has no example."""

    module: str
    attribute: str
    example: str = ""


_COMMANDS: Final[Mapping[str, _Command]] = {
    "login": _Command("login", "login", "login --repository backup@ibs!web01@backup.example:main"),
    "logout": _Command("login", "logout", "logout --repository backup.example:main"),
    "backup": _Command("backup", "backup", "backup etc.tree:/etc disk.img:/dev/vg0/snap"),
    "restore": _Command("restore", "restore", "restore host/web01 etc.tree /tmp/etc"),
    "diff": _Command("diff", "diff", "diff host/web01 etc.tree --path /etc"),
    "benchmark": _Command("benchmark", "benchmark", "benchmark --size 512MiB"),
    "snapshot": _Command("snapshot", "root"),
    "bin": _Command("lifecycle", "bins"),
    "prune": _Command("lifecycle", "prunes"),
    "key": _Command("key", "root"),
    "masterkey": _Command("masterkey", "root"),
    "agent": _Command("agent", "root"),
}


def build(arguments: Sequence[str] = ()) -> typer.Typer:
    """The program with the command that `arguments` begin with; with all of them when they begin with none."""
    root = app(
        "ironcore-backup-client",
        f"{PRODUCT}: the client. Cuts, compresses and (with a key) encrypts on this host, before data leaves it.\n\n"
        "The datastore is named by --repository or IBS_REPOSITORY: [AUTH-ID@]HOST[:PORT]:DATASTORE.",
        add_completion=True,
    )
    root.callback(epilog=example("ironcore-backup-client backup etc.tree:/etc"))(_root)
    named = arguments[0] if arguments else ""
    for name, command in _COMMANDS.items():
        if named not in _COMMANDS or name == named:
            found: Any = getattr(import_module(f"{__name__}.{command.module}"), command.attribute)
            if command.example:
                root.command(name, epilog=example(f"ironcore-backup-client {command.example}"))(found)
            else:
                root.add_typer(found)
    return root


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ironcore-backup-client {VERSION}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def __getattr__(name: str) -> Any:
    """`root`: the program with all its commands."""
    if name == "root":
        return build()
    raise AttributeError(name)


def main() -> None:
    """The program's entry point."""
    keep_freed_memory()
    main_of(build(sys.argv[1:]))()
