"""`ironcore-backup backup …`: backups that the server makes of its own files, and of hosts with an agent."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import Output, OutputOption
from ibs.core import limits
from ibs.core.names import parse_source
from ibs.units import parse_rate
from ibs.wire.common import TaskStarted
from ibs.wire.system import BackupRun

root = app("backup", "Backups that the server makes: of its own files, and of hosts with an agent.")


def source_of(path: str) -> str:
    """`ARCHIVE:PATH` as given, or a bare path with an archive named after its last component."""
    if ":" in path:
        parse_source(path)
        return path
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in PurePosixPath(path).name)
    return f"{name.strip('.-') or 'root'}.tree:{path}"


@root.command("run", epilog=example("ironcore-backup backup run --store ibs-primary --host web01 --path /etc"))
def run_(
    store: Annotated[str, typer.Option(help="Datastore to back up into.")],
    path: Annotated[list[str], typer.Option(help="PATH or ARCHIVE:PATH on the host; may be repeated.")],
    host: Annotated[str, typer.Option(help="Host with an agent, see `host list`; the server itself by default.")] = "",
    backup_id: Annotated[str, typer.Option(help="Id of the group; the host's name by default.")] = "",
    backup_type: Annotated[str, typer.Option(help="host, vm or ct.")] = "host",
    namespace: Annotated[str, typer.Option("--namespace", "--ns", help="Namespace, such as a/b.")] = "",
    exclude: Annotated[list[str] | None, typer.Option(help="gitignore pattern to leave out; may be repeated.")] = None,
    all_file_systems: Annotated[bool, typer.Option(help="Enter mount points too.")] = False,
    reread: Annotated[bool, typer.Option(help="Read every file, although it seems unchanged.")] = False,
    reread_every: Annotated[
        int, typer.Option(min=0, help="Read everything in every run of this number in a row; 0: never.")
    ] = limits.FULL_REREAD_EVERY_RUNS,
    bandwidth: Annotated[
        str | None, typer.Option(metavar="RATE", help="Send at most this much, such as 10MiB/s.")
    ] = None,
    pre_hook: Annotated[str, typer.Option(help="Hook of the host to run before; its name, see the agent.")] = "",
    post_hook: Annotated[str, typer.Option(help="Hook of the host to run after, however it ends.")] = "",
    detach: Annotated[bool, typer.Option(help="Print the UPID and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Back up files of the server itself, or of a host by its agent, in one of the server's worker slots."""

    async def work() -> int:
        body = BackupRun(
            store=store,
            sources=[source_of(item) for item in path],
            namespace=namespace,
            backup_type=backup_type,
            backup_id=backup_id,
            exclude=exclude or [],
            all_file_systems=all_file_systems,
            reread=reread,
            reread_every=reread_every,
            bandwidth=parse_rate(bandwidth) if bandwidth else 0,
            host=host,
            pre_hook=pre_hook,
            post_hook=post_hook,
        )
        async with administrator(server, state_dir) as api:
            started = await api.post("/backups", TaskStarted, body)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.callback()
def _backup() -> None:
    """Keeps `run` a subcommand although it is the only one."""
