"""`ironcore-backup verify …`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import Column, Output, OutputOption, print_rows, state_text
from ibs.units import format_bytes, format_count
from ibs.wire.common import TaskStarted
from ibs.wire.datastore import VerifyReport, VerifyStart

root = app("verify", "Verification: is everything that the snapshots need still there and unharmed?")


class NotificationMode(StrEnum):
    """When a verification is reported."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


_REPORTS = (
    Column("SNAPSHOT", lambda row: row.snapshot),
    Column("RESULT", lambda row: state_text(row.result)),
    Column("CHECKED", lambda row: row.started),
    Column("CHUNKS", lambda row: format_count(row.chunks), right=True),
    Column("BYTES", lambda row: format_bytes(row.bytes), right=True),
    Column("PROVEN", lambda row: ", ".join(row.proof)),
    Column("FIRST FAILURE", lambda row: row.first_failure),
)


@root.command("start", epilog=example("ironcore-backup verify start ibs-primary --notification-mode always"))
def start(
    store: StoreArgument,
    snapshot: Annotated[str, typer.Option(help="Only this snapshot, such as host/web01 or host/web01/TIME.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "--ns", help="Only this namespace.")] = "",
    notification_mode: Annotated[NotificationMode, typer.Option(help="When to report.")] = NotificationMode.ON_FAILURE,
    detach: Annotated[bool, typer.Option(help="Print the UPID and return.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check every chunk of a datastore's snapshots; name each snapshot that is affected by a bad one."""
    body = VerifyStart(snapshot=snapshot, namespace=namespace, notification_mode=notification_mode.value)

    async def work() -> int:
        async with administrator(server, state_dir) as api:
            started = await api.post(f"/datastores/{store}/verify", TaskStarted, body)
            return await follow_task(api, started.upid, output, detach=detach)

    end(run(work, output))


@root.command("status", epilog=example("ironcore-backup verify status --output json"))
def status(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """Show the last verification of each snapshot."""

    async def work() -> list[VerifyReport]:
        async with administrator(server, state_dir) as api:
            return await api.get("/verify/status", list[VerifyReport])

    print_rows(
        run(work, output), _REPORTS, output, empty="nothing was verified yet: ironcore-backup verify start STORE"
    )
