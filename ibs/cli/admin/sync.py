"""`ironcore-backup sync …`: copies between servers."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import Output, OutputOption
from ibs.units import parse_duration
from ibs.wire.common import TaskStarted
from ibs.wire.sync import PullStart

root = app("sync", "Copies between servers: snapshots as they are, with their signatures, encrypted or not.")


@root.command(
    "pull", epilog=example("ironcore-backup sync pull --remote site-b --source replica --store main --group 'host/*'")
)
def pull(
    remote: Annotated[str, typer.Option(help="The remote, as `remote list` shows it.")],
    source: Annotated[str, typer.Option(help="The datastore there.")],
    store: Annotated[str, typer.Option(help="The datastore here.")],
    namespace: Annotated[str, typer.Option("--namespace", "--ns", help="The namespace, the same on both sides.")] = "",
    group: Annotated[list[str] | None, typer.Option(help="Only these, such as 'host/web*'; repeatable.")] = None,
    backup_type: Annotated[list[str] | None, typer.Option(help="Only these: host, vm, ct; repeatable.")] = None,
    newest: Annotated[int | None, typer.Option(min=1, help="Only so many of each group, the newest.")] = None,
    max_age: Annotated[str, typer.Option(help="Only younger ones, such as 30d.")] = "",
    detach: Annotated[bool, typer.Option("--detach", help="Print the UPID and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Bring what a remote's datastore has and this one has not; again at any time, only what is missing is fetched."""

    async def work() -> int:
        body = PullStart(
            remote=remote,
            source=source,
            namespace=namespace,
            groups=group or [],
            types=backup_type or [],
            newest=newest,
            max_age_seconds=parse_duration(max_age) if max_age else None,
        )
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/datastores/{store}/pull", TaskStarted, body)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))
