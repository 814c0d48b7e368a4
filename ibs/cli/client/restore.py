"""`ironcore-backup-client restore`."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import Progress as Bar
from rich.progress import TaskID

from ibs.cli.client import keyring
from ibs.cli.client.connection import (
    ArchiveArgument,
    NamespaceOption,
    RepositoryOption,
    SnapshotArgument,
    connection,
    snapshot_name,
)
from ibs.cli.common import run
from ibs.cli.follow import end, progress_bar
from ibs.cli.output import Output, OutputOption, print_json, print_note, print_warning, say
from ibs.client.restore.plan import RestoreOutcome, RestorePlan, RestoreProgress, overwrite_rule
from ibs.client.restore.run import run_restore
from ibs.client.transport import HttpRestoreTransport
from ibs.core.names import check_archive
from ibs.errors import ExitStatus
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.units import format_bytes, format_duration, format_rate


class OverwriteChoice(StrEnum):
    """What happens to files that exist in the target."""

    NEVER = "never"
    IF_NEWER = "if-newer"
    ALWAYS = "always"


def restore(
    snapshot: SnapshotArgument,
    archive: ArchiveArgument,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A folder, a file or device, or - for stdout.")],
    pattern: Annotated[
        list[str] | None, typer.Option(help="Only what matches, relative to the archive; ** spans folders. Repeatable.")
    ] = None,
    overwrite: Annotated[
        OverwriteChoice, typer.Option(help="What may happen to existing files.")
    ] = OverwriteChoice.NEVER,
    keyfile: keyring.KeyfileOption = None,
    namespace: NamespaceOption = "",
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Restore an archive to a new place; never outside it, never over existing files unless asked."""
    to_stdout = target == "-"
    output_fd = os.dup(sys.stdout.fileno()) if to_stdout else 1

    async def work() -> RestoreOutcome:
        name = str(snapshot_name(snapshot, namespace))
        keys = keyring.reading_keys(keyfile)
        async with connection(repository) as found:
            plan = RestorePlan(
                store=found.store,
                snapshot=name,
                archive=check_archive(archive),
                target=target,
                patterns=tuple(pattern or ()),
                overwrite=overwrite_rule(overwrite.value),
                output_fd=output_fd,
                keys=keys,
            )
            with progress_bar("restore") as bar:
                shown = _Shown(bar, bar.add_task("", total=None, note=""))
                async with HttpRestoreTransport(found.api) as transport:
                    return await run_restore(
                        transport,
                        plan,
                        pool=ThreadPool(),
                        clock=SystemClock(),
                        progress=shown,
                        line=transport.line,
                    )

    outcome = run(work, output)
    _tell(outcome, output, quiet=to_stdout)
    end(ExitStatus.WARNING if outcome.status == "WARNING" else ExitStatus.OK)


class _Shown:
    """Puts progress on the bar."""

    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def __call__(self, progress: RestoreProgress) -> None:
        note = f"{progress.entries} entries" if progress.entries else ""
        self._bar.update(self._task, completed=progress.done_bytes, total=progress.total_bytes or None, note=note)


def _tell(outcome: RestoreOutcome, output: Output, *, quiet: bool) -> None:
    for line in outcome.lines:
        # A line begins with its severity: a note must not look like a warning, nor a warning be called one twice.
        severity, _, text = line.partition(": ")
        if severity == "note":
            print_note(text)
        else:
            print_warning(text if severity == "warning" else line)
    if quiet:
        return
    if output is Output.JSON:
        facts: dict[str, Any] = msgspec.to_builtins(outcome)
        print_json(facts)
        return
    seconds = max(outcome.seconds, 1e-3)
    size = format_bytes(outcome.plain_bytes)
    say(f"{outcome.snapshot} {outcome.archive} -> {outcome.target}: {outcome.status}")
    say(f"  {size} in {format_duration(seconds)} ({format_rate(outcome.plain_bytes / seconds)})")
    signed = {"unchecked": "by a key that was not given here"}.get(outcome.signed_by, f"by {outcome.signed_by}")
    say(f"  manifest signed {signed}, every chunk checked against its id")
