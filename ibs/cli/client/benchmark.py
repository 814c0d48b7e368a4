"""`ironcore-backup-client benchmark`."""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import AsyncExitStack
from typing import Annotated

import typer

from ibs.cli.client.connection import NamespaceOption, RepositoryOption, connection
from ibs.cli.common import run
from ibs.cli.output import Column, Output, OutputOption, print_json, print_note, print_rows, say
from ibs.client.benchmark.figures import BenchmarkReport
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.units import format_bytes, format_duration, format_rate, parse_bytes
from ibs.version import VERSION

_COLUMNS: tuple[Column, ...] = (
    Column("PART", lambda row: row.part),
    Column("VARIANT", lambda row: row.variant),
    Column("RATE", lambda row: format_rate(row.bytes_per_second), right=True),
    Column("MEASURED", lambda row: f"{format_bytes(row.bytes)} in {format_duration(row.seconds)}", right=True),
    Column("NOTE", lambda row: row.note),
)


def benchmark(
    size: Annotated[str, typer.Option(help="Bytes written to the current folder, and sent to the server.")] = "256 MiB",
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Measure what limits backups here: TLS, hashing, cutting, compression, encryption, disk, and the server.

    The disk is that of the current folder. With a repository real data goes there and back; no snapshot is made, and
    the server removes what was sent. Each part is measured alone, so that a real backup is slower than its slowest one.
    """
    # Only now: what it needs (certificates, ciphers) would make every other command start later.
    from ibs.client.benchmark.run import BenchmarkPlan, run_benchmark  # noqa: PLC0415

    node = os.uname().nodename.partition(".")[0]

    async def work() -> BenchmarkReport:
        wanted = parse_bytes(size)
        async with AsyncExitStack() as stack:
            found = await stack.enter_async_context(connection(repository)) if repository else None
            plan = BenchmarkPlan(
                folder=os.getcwd(),
                size=wanted,
                store=found.store if found else "",
                namespace=namespace,
                group=f"host/benchmark-{secrets.token_hex(6)}",
                client=f"{node} ironcore-backup-client {VERSION} benchmark",
                repository=f"{found.repository.server}:{found.store}" if found else "",
            )
            return await run_benchmark(
                plan, found.api if found else None, pool=ThreadPool(), clock=SystemClock(), begin=_begin
            )

    report = run(work, output)
    if output is Output.JSON:
        print_json(report)
    else:
        _tell(report)


def _begin(part: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"measuring: {part}\n")


def _tell(report: BenchmarkReport) -> None:
    print_rows(report.figures, _COLUMNS, Output.TEXT, empty="nothing was measured")
    say("")
    if report.repository:
        say(f"{report.repository}: round trip {report.round_trip_ms:.1f} ms")
    say(f"{report.cores} processors, {report.threads} threads for hashing, compression and encryption")
    for one in report.bottlenecks:
        say(
            f"likely bottleneck of a {one.direction}: {one.stage}, about {format_rate(one.bytes_per_second)} of content"
        )
        if one.hint:
            say(f"  {one.hint}")
    sys.stdout.flush()
    for note in report.notes:
        print_note(note)
