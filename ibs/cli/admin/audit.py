"""`ironcore-backup audit …`: who changed what, who was refused, and whether the record is whole."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end
from ibs.cli.output import Column, Output, OutputOption, harmless, print_facts, print_json, print_rows, say
from ibs.core.names import format_time
from ibs.errors import ExitStatus, FailedError, UsageError
from ibs.units import parse_duration
from ibs.wire.audit import AuditCheck, AuditView

root = app("audit", "The audit log: every change and every refusal, in a chain that shows when it was tampered with.")

_WHEN = "A time such as 2026-11-23T05:00:00Z or 2026-11-23, or how long ago: 2h, 7d."
_ROWS = (
    Column("ROW", lambda row: str(row.n), right=True),
    Column("TIME", lambda row: row.time),
    Column("WHO", lambda row: row.auth_id or "nobody"),
    Column("FROM", lambda row: row.peer),
    Column("ACTION", lambda row: row.action),
    Column("TARGET", lambda row: row.target),
    Column("OUTCOME", lambda row: row.outcome + (f" x{row.count}" if row.count > 1 else "")),
    Column("WHY", lambda row: row.message),
)


def moment(text: str) -> str:
    """A time as rows have it; "" stays "". Raises UsageError."""
    if not text:
        return ""
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        try:
            return format_time(datetime.now(UTC) - timedelta(seconds=parse_duration(text)))
        except (UsageError, OverflowError) as error:
            raise UsageError(f"{text!r} is no time", hint=_WHEN) from error
    return format_time((given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC))


@root.command("list", epilog=example("ironcore-backup audit list --since 1d --outcome refused"))
def list_(
    who: Annotated[str, typer.Option("--who", help="Only identities with this in their name.")] = "",
    since: Annotated[str, typer.Option("--since", help=_WHEN)] = "",
    until: Annotated[str, typer.Option("--until", help=_WHEN)] = "",
    action: Annotated[str, typer.Option("--action", help="Only actions with this in their name.")] = "",
    target: Annotated[str, typer.Option("--target", help="Only what was done to this.")] = "",
    outcome: Annotated[str, typer.Option("--outcome", help="Only ok, refused, failed or cut off.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, newest first.")] = 50,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List changes and refusals, newest first."""

    async def work() -> list[AuditView]:
        params: dict[str, str | int] = {"limit": limit}
        given = {"who": who, "since": moment(since), "until": moment(until), "action": action, "target": target}
        params |= {name: text for name, text in (given | {"outcome": outcome}).items() if text}
        async with administrator(server, state_dir) as api:
            return await api.get("/audit/rows", list[AuditView], params=params)

    print_rows(run(work, output), _ROWS, output, empty="no such row in the audit log")


@root.command("show", epilog=example("ironcore-backup audit show 17"))
def show(
    row: Annotated[int, typer.Argument(metavar="ROW", min=1, help="The row's number.")],
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one row with what was before and after."""

    async def work() -> AuditView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/audit/rows/{row}", AuditView)

    found = run(work, output)
    facts = [
        ("Row", str(found.n)),
        ("Time", found.time),
        ("Who", found.auth_id or "nobody"),
        ("From", found.peer),
        ("Action", found.action),
        ("Target", found.target),
        ("Outcome", found.outcome + (f", {found.count} times" if found.count > 1 else "")),
        ("Why", found.message),
        ("Before", _json(found.before)),
        ("After", _json(found.after)),
        ("Hash", found.hash),
    ]
    print_facts(found, [(name, harmless(text)) for name, text in facts if text], output)


@root.command("verify", epilog=example("ironcore-backup audit verify"))
def verify(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """Follow the chain from the first row to the last; ends with status 1 and names the first bad line otherwise."""

    async def work() -> AuditCheck:
        async with administrator(server, state_dir) as api:
            return await api.get("/audit/check", AuditCheck)

    found = run(work, output)
    if output is Output.JSON:
        print_json(found)
    elif found.ok:
        say(f"audit log: OK, {found.rows} rows in {found.files} files since {found.first or 'never'}")
        say(f"head {found.head}")
    else:
        where = f"{found.file} line {found.line}: " if found.file else ""
        say(f"audit log: DAMAGED, {where}{found.problem}")
        say(f"good: {found.rows} rows, until {found.good_until or 'none'}; not proven: {found.unproven} lines after it")
    end(ExitStatus.OK if found.ok else ExitStatus.FAILED)


@root.command("export", epilog=example("ironcore-backup audit export --output audit.jsonl"))
def export(
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file; without it stdout.")
    ] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Write the whole log as it is stored, one JSON object a line."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            descriptor = _created(file) if file is not None else os.dup(sys.stdout.fileno())
            with os.fdopen(descriptor, "wb") as sink:
                async for piece in api.stream("/audit/export"):
                    sink.write(piece)

    run(work)


def _created(file: Path) -> int:
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FailedError(
            f"cannot write {file}: {error.strerror}", hint="give a new file in a folder of yours"
        ) from error


def _json(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()
