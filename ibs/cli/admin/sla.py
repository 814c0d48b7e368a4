"""`ironcore-backup sla …`: which groups' backups are late, missing, failed or of a suspicious size."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_done, print_json, print_rows, say, state_text
from ibs.errors import UsageError
from ibs.units import format_bytes, format_duration, parse_bytes, parse_duration
from ibs.wire.sla import SlaSet, SlaView

root = app("sla", "The watch over backups: late, missing, failed, suspiciously small or large.")

GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="Such as host/web01 or ns:a/b/host/web01.")]
StoreOption = Annotated[str, typer.Option("--store", help="The datastore, where several have the group.")]


def _terms(row: SlaView) -> str:
    parts = [f"every {format_duration(row.rpo_seconds)}"] if row.rpo_seconds else []
    if row.min_bytes or row.max_bytes:
        parts.append(f"{format_bytes(row.min_bytes)} to {format_bytes(row.max_bytes) if row.max_bytes else 'any'}")
    parts += [f"change up to {row.max_change_percent} %"] if row.max_change_percent else []
    return ", ".join(parts) + (f" (learned from {row.learned_from})" if row.learned else "")


_ROWS = (
    Column("DATASTORE", lambda row: row.store),
    Column("NAMESPACE", lambda row: row.namespace),
    Column("GROUP", lambda row: row.group),
    Column("STATE", lambda row: state_text(row.state)),
    Column("LAST", lambda row: row.last or "never"),
    Column("SIZE", lambda row: format_bytes(row.last_bytes), right=True),
    Column("DUE", lambda row: row.due),
    Column("EXPECTED", _terms),
    Column("WHY", lambda row: row.why),
)


@root.command("list", epilog=example("ironcore-backup sla list"))
def list_(
    store: Annotated[str, typer.Option("--store", help="Only of this datastore.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show how each group stands: its last backup, when the next is due, and why something is wrong."""

    async def work() -> list[SlaView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/sla", list[SlaView], params={"store": store} if store else {})

    print_rows(run(work, output), _ROWS, output, empty="no backups yet")


@root.command("set", epilog=example("ironcore-backup sla set host/web01 --rpo 26h --min-size 1GiB --max-change 50"))
def set_(
    group: GroupArgument,
    rpo: Annotated[str, typer.Option("--rpo", help="A backup at least this often, such as 26h.")] = "",
    min_size: Annotated[str, typer.Option("--min-size", help="A smaller one is suspicious, such as 1GiB.")] = "",
    max_change: Annotated[int, typer.Option("--max-change", min=0, help="Per cent from one to the next.")] = 0,
    store: StoreOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say what is expected of a group's backups; what is not said is not watched."""

    async def work() -> SlaView:
        if not (rpo or min_size or max_change):
            raise UsageError("nothing to watch was given", hint="give --rpo, --min-size or --max-change")
        body = SlaSet(
            group=group,
            store=store,
            rpo_seconds=parse_duration(rpo) if rpo else 0.0,
            min_bytes=parse_bytes(min_size) if min_size else 0,
            max_change_percent=max_change,
        )
        async with administrator(server, state_dir) as api:
            return await api.post("/sla", SlaView, body)

    _show(run(work, output), output)


@root.command("pause", epilog=example("ironcore-backup sla pause host/web01"))
def pause(
    group: GroupArgument,
    store: StoreOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Raise nothing for a group, until `sla set` or `sla unset`."""

    async def work() -> SlaView:
        async with administrator(server, state_dir) as api:
            return await api.post("/sla", SlaView, SlaSet(group=group, store=store, paused=True))

    _show(run(work, output), output)


@root.command("unset", epilog=example("ironcore-backup sla unset host/web01"))
def unset(
    group: GroupArgument,
    store: StoreOption = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Expect what is learned from the group's own backups again; ends a pause."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete("/sla", params={"group": group} | ({"store": store} if store else {}))

    run(work, output)
    print_done(f"{group} is watched by what is learned from its backups", output, group=group, unset=True)


def _show(found: SlaView, output: Output) -> None:
    if output is Output.JSON:
        print_json(found)
    else:
        say(f"{found.group} in {found.store}: {found.state}; expected: {_terms(found) or 'nothing'}")
