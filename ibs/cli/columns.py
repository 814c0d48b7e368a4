"""Tables that both programs print."""

from __future__ import annotations

from rich.text import Text

from ibs.cli.output import Column, state_text
from ibs.units import format_bytes, format_count
from ibs.wire.datastore import SnapshotView

SNAPSHOT_COLUMNS = (
    Column("SNAPSHOT", lambda row: row.snapshot),
    Column("SIZE", lambda row: format_bytes(row.plain_bytes), right=True),
    Column("ARCHIVES", lambda row: " ".join(archive.name for archive in row.archives)),
    Column("WARNINGS", lambda row: str(row.warnings or ""), right=True),
    Column("VERIFIED", lambda row: state_text(row.verify) if row.verify else "never"),
    Column("PROTECTED", lambda row: "yes" if row.protected else ""),
    Column("OWNER", lambda row: row.owner),
    Column("NOTES", lambda row: _one_line(row.notes)),
)
BIN_COLUMNS = (
    Column("SNAPSHOT", lambda row: row.snapshot),
    Column("SIZE", lambda row: format_bytes(row.plain_bytes), right=True),
    Column("FORGOTTEN", lambda row: row.forgotten or "unknown"),
    Column("GOES FOR GOOD", lambda row: row.due or "not by itself"),
    Column("BY", lambda row: row.by),
    Column("WHY", lambda row: _one_line(row.why)),
    Column("OWNER", lambda row: row.owner),
    Column("ENTRY", lambda row: row.entry),
)


def _one_line(text: str) -> str:
    """The beginning of a note."""
    first = " ".join(text.split())
    return first if len(first) <= 60 else first[:59] + "…"


def snapshot_facts(view: SnapshotView) -> list[tuple[str, str | Text]]:
    """One snapshot as `snapshot show` prints it."""
    facts: list[tuple[str, str | Text]] = [
        ("Snapshot", view.snapshot),
        ("Owner", view.owner),
        ("Size", format_bytes(view.plain_bytes)),
        ("Warnings", str(view.warnings)),
        ("Signed by", view.signed_by),
        ("Verified", state_text(view.verify) if view.verify else "never"),
        ("Protected", "yes" if view.protected else "no"),
        ("Locked", f"until {view.locked_until} by {view.locked_by}" if view.locked_until else "no"),
    ]
    for archive in view.archives:
        key = f", key {archive.key_fingerprint[:23]}" if archive.key_fingerprint else ""
        size = f"{format_bytes(archive.plain_bytes)} in {format_count(archive.chunks)} chunks{key}"
        facts.append((f"  {archive.name}", size))
    if view.notes:
        facts.append(("Notes", view.notes))
    return facts
