"""`ironcore-backup notification …`."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_rows
from ibs.wire.system import InboxView

root = app("notification", "Notifications: what the server has to tell.")

_INBOX = (
    Column("TIME", lambda row: row.time),
    Column("SEVERITY", lambda row: row.severity),
    Column("SOURCE", lambda row: row.source),
    Column("TEXT", lambda row: row.text),
)


@root.command("inbox", epilog=example("ironcore-backup notification inbox"))
def inbox(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 50,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what happened: warnings, failures, changes of state."""

    async def work() -> list[InboxView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/notifications/inbox", list[InboxView], params={"limit": limit})

    print_rows(run(work, output), _INBOX, output, empty="the inbox is empty")


@root.callback()
def _notification() -> None:
    """Keeps `inbox` a subcommand although it is the only one."""
