"""`… schedule set | list | unset` below `verify`, `gc` and `prune`: when a datastore's upkeep runs by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Column, Output, OutputOption, print_done, print_json, print_rows, say
from ibs.units import format_bytes, parse_rate
from ibs.wire.schedule import ScheduleSet, ScheduleView

ExprArgument = Annotated[
    str, typer.Argument(metavar="EXPR", help="A systemd calendar expression in UTC (daily, 'Sun 04:30'), or never.")
]
IoLimitOption = Annotated[str, typer.Option("--io-limit", metavar="RATE", help="At most so much, such as 50MiB/s.")]
NamespaceOption = Annotated[str, typer.Option("--namespace", "--ns", help="Only this namespace.")]


def _how(row: ScheduleView) -> str:
    parts = [f"--io-limit {format_bytes(row.io_limit)}/s"] if row.io_limit else []
    if row.kind == "verify":
        if row.verify_window_days is not None:
            parts.append(f"--verify-window-days {row.verify_window_days}")
        if row.max_concurrent_snapshots != 1:
            parts.append(f"--max-concurrent-snapshots {row.max_concurrent_snapshots}")
        if row.notification_mode != "on-failure":
            parts.append(f"--notification-mode {row.notification_mode}")
    return " ".join(parts)


_ROWS = (
    Column("DATASTORE", lambda row: row.store),
    Column("NAMESPACE", lambda row: row.namespace),
    Column("WHEN", lambda row: row.when),
    Column("NEXT", lambda row: row.next or "never"),
    Column("LAST", lambda row: row.last or "not yet"),
    Column("OPTIONS", _how),
    Column("SET BY", lambda row: "default" if row.default else row.by),
)


def commands(kind: str, what: str) -> typer.Typer:
    """The sub-commands `list` and `unset` of one kind; `set` differs, and is added by that kind's own module."""
    root = app("schedule", f"When {what}, without anybody asking.")
    namespaces = kind == "verify"

    @root.command("list", epilog=example(f"ironcore-backup {kind} schedule list"))
    def list_(
        store: Annotated[str, typer.Argument(metavar="[STORE]", help="Only this datastore.")] = "",
        server: ServerOption = None,
        state_dir: StateDirOption = None,
        output: OutputOption = Output.TEXT,
    ) -> None:
        """List the schedules with their last and next runs."""

        async def work() -> list[ScheduleView]:
            async with administrator(server, state_dir) as api:
                params = {"kind": kind} | ({"store": store} if store else {})
                return await api.get("/schedules/datastores", list[ScheduleView], params=params)

        rows = run(work, output)
        columns = _ROWS if namespaces else tuple(one for one in _ROWS if one.head != "NAMESPACE")
        print_rows(rows, columns, output, empty=f"no schedule: ironcore-backup {kind} schedule set STORE EXPR")

    def unset(store: str, namespace: str, server: ServerOption, state_dir: StateDirOption, output: Output) -> None:
        async def work() -> None:
            async with administrator(server, state_dir) as api:
                params = {"kind": kind, "namespace": namespace}
                await api.delete(f"/datastores/{store}/schedules", params=params)

        run(work, output)
        rest = "" if namespaces else "; the nightly default counts again"
        print_done(f"{kind} of {store} has no schedule of its own any more{rest}", output, store=store, unset=True)

    if namespaces:

        @root.command("unset", epilog=example(f"ironcore-backup {kind} schedule unset ibs-primary"))
        def unset_in(
            store: StoreArgument,
            namespace: NamespaceOption = "",
            server: ServerOption = None,
            state_dir: StateDirOption = None,
            output: OutputOption = Output.TEXT,
        ) -> None:
            """Take a schedule away."""
            unset(store, namespace, server, state_dir, output)
    else:

        @root.command("unset", epilog=example(f"ironcore-backup {kind} schedule unset ibs-primary"))
        def unset_all(
            store: StoreArgument,
            server: ServerOption = None,
            state_dir: StateDirOption = None,
            output: OutputOption = Output.TEXT,
        ) -> None:
            """Take a schedule away; the nightly default counts again. To switch it off: set STORE never."""
            unset(store, "", server, state_dir, output)

    return root


def put(store: str, body: ScheduleSet, server: ServerOption, state_dir: StateDirOption, output: Output) -> None:
    """Set a schedule and say what came of it."""

    async def work() -> ScheduleView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/schedules", ScheduleView, body)

    made = run(work, output)
    if output is Output.JSON:
        print_json(made)
    where = f"namespace {made.namespace} of {store}" if made.namespace else store
    say(f"{made.kind} of {where}: {made.when}, the next {made.next or 'never'}", output)


def add_plain_set(root: typer.Typer, kind: str, *, rate: bool) -> None:
    """`set` of a kind that takes no more than a time, and with `rate` an I/O limit."""
    if rate:

        @root.command("set", epilog=example(f"ironcore-backup {kind} schedule set ibs-primary 'Sat 22:00'"))
        def set_with_rate(
            store: StoreArgument,
            expr: ExprArgument,
            io_limit: IoLimitOption = "",
            server: ServerOption = None,
            state_dir: StateDirOption = None,
            output: OutputOption = Output.TEXT,
        ) -> None:
            """Say when it runs, instead of every night; `never` switches it off."""
            limit = parse_rate(io_limit) if io_limit else 0
            put(store, ScheduleSet(kind=kind, when=expr, io_limit=limit), server, state_dir, output)
    else:

        @root.command("set", epilog=example(f"ironcore-backup {kind} schedule set ibs-primary 'Sat 22:00'"))
        def set_(
            store: StoreArgument,
            expr: ExprArgument,
            server: ServerOption = None,
            state_dir: StateDirOption = None,
            output: OutputOption = Output.TEXT,
        ) -> None:
            """Say when it runs, instead of every night; `never` switches it off."""
            put(store, ScheduleSet(kind=kind, when=expr), server, state_dir, output)
