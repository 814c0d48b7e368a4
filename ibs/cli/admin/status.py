"""`ironcore-backup status`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ibs.cli.common import ServerOption, StateDirOption, administrator, run
from ibs.cli.output import Column, Output, OutputOption, harmless, print_facts, print_json, print_rows, say, state_text
from ibs.units import format_duration
from ibs.wire.system import ServerStatus

_SERVICES = (
    Column("SERVICE", lambda row: row.unit),
    Column("STATE", lambda row: state_text(row.state)),
    Column("SINCE", lambda row: row.since),
    Column("RESTARTS", lambda row: str(row.restarts), right=True),
    Column("DUTY", lambda row: row.duty),
    Column("LAST ERROR", lambda row: row.last_error),
)


def show_services(found: ServerStatus, output: Output) -> None:
    """The roles as a table."""
    print_rows(found.services, _SERVICES, output, empty="no services")


def status(
    services: Annotated[bool, typer.Option("--services", help="Show the seven service roles.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the server: version, address, fingerprint, uptime; with --services each role's state."""

    async def work() -> ServerStatus:
        async with administrator(server, state_dir) as api:
            return await api.get("/status", ServerStatus)

    found = run(work, output)
    if services:
        show_services(found, output)
        return
    if output is Output.JSON:
        print_json(found)
        return
    running = sum(service.state == "active (running)" for service in found.services)
    facts = (
        ("Server", f"{found.product} {found.version} on {found.node}, pid {found.pid}"),
        ("Listening", found.listen),
        ("Fingerprint", found.fingerprint),
        ("Running", f"since {found.started} ({format_duration(found.uptime_seconds)})"),
        ("Services", f"{running} of {len(found.services)} active (running)"),
    )
    print_facts(found, facts, output)
    for service in found.services:
        if service.state != "active (running)":
            say(Text.assemble(f"  {service.unit}  ", state_text(service.state), f"  {harmless(service.last_error)}"))
