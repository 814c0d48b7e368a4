"""`ironcore-backup-client`: back up, list, restore and compare on any Linux host. One file a noun."""
# ruff: noqa: E402 - the collector is told before all the modules below are loaded, which is when it would run most

from __future__ import annotations

import gc

# A run makes many objects that live to its end and hardly any cycles: the collector's looks at young ones are a tenth
# of the time that the program takes to start, and find nothing.
gc.set_threshold(50_000, 20, 50)

from typing import Annotated

import typer

from ibs.cli.client.backup import backup as backup_command
from ibs.cli.client.benchmark import benchmark as benchmark_command
from ibs.cli.client.diff import diff as diff_command
from ibs.cli.client.login import login as login_command
from ibs.cli.client.login import logout as logout_command
from ibs.cli.client.restore import restore as restore_command
from ibs.cli.client.snapshot import root as snapshots
from ibs.cli.common import app, example, main_of
from ibs.runtime.allocator import keep_freed_memory
from ibs.version import PRODUCT, VERSION

root = app(
    "ironcore-backup-client",
    f"{PRODUCT}: the client. Cuts, compresses and (with a key) encrypts on this host, before data leaves it.\n\n"
    "The datastore is named by --repository or IBS_REPOSITORY: [AUTH-ID@]HOST[:PORT]:DATASTORE.",
    add_completion=True,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ironcore-backup-client {VERSION}")
        raise typer.Exit


@root.callback(epilog=example("ironcore-backup-client backup etc.tree:/etc"))
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


root.command("login", epilog=example("ironcore-backup-client login --repository backup@ibs!web01@backup.example:main"))(
    login_command
)
root.command("logout", epilog=example("ironcore-backup-client logout --repository backup.example:main"))(logout_command)
root.command("backup", epilog=example("ironcore-backup-client backup etc.tree:/etc disk.img:/dev/vg0/snap"))(
    backup_command
)
root.command("restore", epilog=example("ironcore-backup-client restore host/web01 etc.tree /tmp/etc"))(restore_command)
root.command("diff", epilog=example("ironcore-backup-client diff host/web01 etc.tree --path /etc"))(diff_command)
root.command("benchmark", epilog=example("ironcore-backup-client benchmark --size 512MiB"))(benchmark_command)
root.add_typer(snapshots)

_main = main_of(root)


def main() -> None:
    """The program's entry point."""
    keep_freed_memory()
    _main()
