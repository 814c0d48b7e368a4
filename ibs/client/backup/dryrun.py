"""What a backup would look at, without any server: the use case behind `backup --dry-run`. Importable by `cli`."""

from __future__ import annotations

from collections.abc import Iterator

from ibs.client.backup.figures import Figures, Notebook
from ibs.client.backup.plan import BackupOutcome, BackupPlan
from ibs.client.backup.reporter import ProgressCall
from ibs.client.backup.run import find_sources
from ibs.core import limits
from ibs.core.tree import Kind
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.sources.tree.scan import Found, TreeScan


async def dry_run(plan: BackupPlan, *, pool: Pool, clock: Clock, progress: ProgressCall | None = None) -> BackupOutcome:
    """What a first backup by this plan would look at. Nothing is read but folders, nothing is opened on a server.

    Raises UsageError, SourceUnreadable. *Cancellation*: between two turns of the scan.
    """
    sources = await pool.disk(find_sources, plan)
    figures = Figures()
    notebook = Notebook(figures)
    began = clock.monotonic()
    for source in sources:
        figures.begin(source.archive)
        if source.image is not None:
            figures.bytes_seen += source.image.size
            source.image.close()
            continue
        scan = TreeScan(source.path, note=notebook.note, excludes=plan.excludes, all_file_systems=plan.all_file_systems)
        try:
            entries = iter(scan)
            while await pool.disk(_count, entries, figures):
                if progress is not None:
                    progress(figures.progress(clock.monotonic() - began))
        finally:
            scan.close()
    return BackupOutcome(
        snapshot="",
        status="WARNING" if notebook.warnings else "OK",
        warnings=notebook.warnings,
        entries=figures.entries,
        files=figures.files,
        bytes_seen=figures.bytes_seen,
        seconds=clock.monotonic() - began,
        lines=notebook.warning_lines(),
    )


def _count(entries: Iterator[Found], figures: Figures) -> bool:
    """Count some entries; False when there are no more."""
    for _ in range(limits.BACKUP_BATCH_ENTRIES):
        found = next(entries, None)
        if found is None:
            return False
        figures.entries += 1
        figures.path = found.path
        if found.kind is Kind.FILE:
            figures.files += 1
            figures.bytes_seen += found.stat.st_size
    return True
