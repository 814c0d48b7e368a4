"""`ironcore-backup-client backup`."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import Progress as Bar
from rich.progress import TaskID

from ibs.cli.client import keyring
from ibs.cli.client.connection import NamespaceOption, RepositoryOption, connection
from ibs.cli.common import run
from ibs.cli.follow import end, progress_bar
from ibs.cli.output import Output, OutputOption, print_json, print_warning, say
from ibs.client.backup.dryrun import dry_run
from ibs.client.backup.figures import Progress
from ibs.client.backup.plan import BackupOutcome, BackupPlan, Changes
from ibs.client.backup.run import run_backup
from ibs.client.keys import wrapped_key
from ibs.client.transport import HttpBackupTransport
from ibs.core import limits
from ibs.core.names import parse_source
from ibs.errors import ExitStatus, UsageError
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.sources.changes import MapForm
from ibs.units import format_bytes, format_count, format_duration, format_rate, parse_rate
from ibs.version import VERSION
from ibs.wire.system import WhoAmI


def backup(
    sources: Annotated[
        list[str], typer.Argument(metavar="ARCHIVE:PATH...", help="NAME.tree:FOLDER or NAME.img:FILE-OR-DEVICE.")
    ],
    backup_type: Annotated[str, typer.Option(help="host, vm or ct.")] = "host",
    backup_id: Annotated[str, typer.Option(help="Id of the group; this host's name by default.")] = "",
    namespace: NamespaceOption = "",
    exclude: Annotated[
        list[str] | None, typer.Option(help="gitignore pattern to leave out; may be repeated. See also .ibsexclude.")
    ] = None,
    all_file_systems: Annotated[bool, typer.Option(help="Enter mount points too.")] = False,
    reread: Annotated[bool, typer.Option(help="Read every file, although it seems unchanged.")] = False,
    reread_every: Annotated[
        int, typer.Option(min=0, help="Read everything in every run of this number in a row; 0: never.")
    ] = limits.FULL_REREAD_EVERY_RUNS,
    changed: Annotated[
        list[str] | None,
        typer.Option(metavar="ARCHIVE.img=FILE", help="Map of what changed in an image (JSON); the rest is not read."),
    ] = None,
    changed_since: Annotated[
        str, typer.Option(metavar="SNAPSHOT", help="Snapshot the maps count from: name, time or manifest digest.")
    ] = "",
    changed_format: Annotated[
        MapForm, typer.Option(help="qemu-bitmap for `qemu-img map` over a dirty bitmap.")
    ] = MapForm.EXTENTS,
    verify_unchanged: Annotated[
        str | None, typer.Option(metavar="N%", help="Share of the chunks called unchanged to read and compare.")
    ] = None,
    bandwidth: Annotated[
        str | None, typer.Option(metavar="RATE", help="Send at most this much, such as 10MiB/s.")
    ] = None,
    level: Annotated[int, typer.Option(min=1, max=19, help="zstd level: 1 is fast, 19 small.")] = 2,
    discard_if_full: Annotated[
        bool, typer.Option(help="When the datastore is full, free what was sent; by default it waits for the next try.")
    ] = False,
    dry_run_only: Annotated[bool, typer.Option("--dry-run", help="Say what would be backed up; send nothing.")] = False,
    keyfile: keyring.KeyfileOption = None,
    no_encryption: Annotated[
        bool, typer.Option("--no-encryption", help="In clear although the group's newest snapshot is encrypted.")
    ] = False,
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Back up folders and disks of this host as one snapshot.

    Reads only what changed since the previous snapshot, sends only what the datastore does not hold. Exit status 4
    when it is done with warnings; each is a line on stderr and in the task's log.
    """
    node = os.uname().nodename.partition(".")[0]

    async def work() -> BackupOutcome:
        key = keyring.load(keyfile)
        async with connection(repository) as found:
            group = f"{backup_type}/{backup_id or node}"
            plan = BackupPlan(
                store=found.store,
                group=group,
                sources=tuple(parse_source(source) for source in sources),
                client=f"{node} ironcore-backup-client {VERSION}",
                namespace=namespace,
                excludes=tuple(exclude or ()),
                all_file_systems=all_file_systems,
                level=level,
                reread=reread,
                reread_every=reread_every,
                discard_if_full=discard_if_full,
                bandwidth=parse_rate(bandwidth) if bandwidth else 0,
                keys=key.keys if key is not None else None,
                sign_only=key is not None and key.mode == "sign-only",
                wrapped_key=wrapped_key(key),
                in_clear=no_encryption,
                changes=Changes.parse(
                    changed or (),
                    changed_since,
                    group=group,
                    namespace=namespace,
                    form=changed_format,
                    percent=_percent(verify_unchanged),
                ),
            )
            pool, clock = ThreadPool(), SystemClock()
            with progress_bar("backup") as bar:
                shown = _Shown(bar, bar.add_task("", total=None, note=""))
                if dry_run_only:
                    await found.api.get("/whoami", WhoAmI)  # what will not do for the backup is told here too
                    return await dry_run(plan, pool=pool, clock=clock, progress=shown)
                async with HttpBackupTransport(found.api) as transport:
                    return await run_backup(transport, plan, pool=pool, clock=clock, progress=shown)

    outcome = run(work, output)
    _tell(outcome, output)
    end(ExitStatus.WARNING if outcome.status == "WARNING" else ExitStatus.OK)


class _Shown:
    """Puts progress on the bar."""

    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def __call__(self, progress: Progress) -> None:
        name = progress.path if len(progress.path) < 40 else f"…{progress.path[-39:]}"
        note = (
            f"{format_count(progress.files)} files, {format_bytes(progress.bytes_sent)} sent, {progress.archive} {name}"
        )
        total = max(progress.total_bytes, progress.bytes_seen) or None
        self._bar.update(self._task, completed=progress.bytes_seen, total=total, note=note.replace("[", "\\["))


def _percent(text: str | None) -> float | None:
    """A share such as `5%`, `0.1 %` or `5`. Raises UsageError."""
    if text is None:
        return None
    try:
        return float(text.removesuffix("%"))
    except ValueError:
        raise UsageError(f"{text!r} is not a share", hint="write it like 5%") from None


def _tell(outcome: BackupOutcome, output: Output) -> None:
    if output is Output.JSON:
        facts: dict[str, Any] = msgspec.to_builtins(outcome)
        print_json(facts)
        return
    for line in outcome.lines:
        print_warning(line)
    if outcome.warnings > len(outcome.lines):
        print_warning(f"and {outcome.warnings - len(outcome.lines)} more; see the task's log")
    seconds = max(outcome.seconds, 1e-3)
    files = f"{format_count(outcome.files)} files" if outcome.files else "image"
    reused = f", {format_count(outcome.files_reused)} unchanged and not read" if outcome.files_reused else ""
    say(f"{outcome.snapshot or 'dry run'}: {outcome.status}")
    for line in outcome.remarks:
        say(f"  {line}")
    say(f"  {files}{reused}; {format_bytes(outcome.bytes_seen)}, of which {format_bytes(outcome.bytes_read)} read")
    sent = f"{format_bytes(outcome.bytes_sent)} in {format_count(outcome.chunks_sent)} chunks"
    say(f"  sent {sent}, in {format_duration(seconds)} ({format_rate(outcome.bytes_seen / seconds)})")
    if outcome.upid:
        say(f"  task {outcome.upid}")
    sys.stdout.flush()
