"""`ironcore-backup worker …`."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_json, print_rows, say, state_text
from ibs.core import limits
from ibs.units import format_bytes
from ibs.wire.jobs import SlotsSet
from ibs.wire.system import WorkerView

root = app("worker", "The worker: slots and queue of what the server runs itself.")

_TASKS = (
    Column("STATE", lambda row: state_text(row.state)),
    Column("TYPE", lambda row: row.type),
    Column("ID", lambda row: row.id),
    Column("HOST", lambda row: row.host or "-"),
    Column("JOB", lambda row: row.job or "-"),
    Column("STARTED", lambda row: row.started),
    Column("DONE", lambda row: format_bytes(row.done_bytes), right=True),
    Column("WAITS FOR", lambda row: row.waits_for),
    Column("UPID", lambda row: row.upid),
)


@root.command("status", epilog=example("ironcore-backup worker status"))
def status(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """Show the slots, what runs in them, and what each queued task waits for."""

    async def work() -> WorkerView:
        async with administrator(server, state_dir) as api:
            return await api.get("/worker/status", WorkerView)

    _print(run(work, output), output)


@root.command("set", epilog=example("ironcore-backup worker set --slots 8"))
def set_(
    slots: Annotated[int, typer.Option(min=1, max=limits.WORKER_SLOTS_MAX, help="Tasks that may run at once.")],
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Change the number of slots, now and for good; what runs beyond a lower number finishes."""

    async def work() -> WorkerView:
        async with administrator(server, state_dir) as api:
            return await api.post("/worker/slots", WorkerView, SlotsSet(slots=slots))

    _print(run(work, output), output)


def _print(found: WorkerView, output: Output) -> None:
    if output is Output.JSON:
        print_json(found)
        return
    say(f"{len(found.running)} of {found.slots} slots busy, {len(found.queued)} queued")
    if found.running or found.queued:
        print_rows([*found.running, *found.queued], _TASKS, output, empty="")
