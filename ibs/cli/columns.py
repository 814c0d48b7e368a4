"""Tables that both programs print."""

from __future__ import annotations

from ibs.cli.output import Column, state_text
from ibs.units import format_bytes

SNAPSHOT_COLUMNS = (
    Column("SNAPSHOT", lambda row: row.snapshot),
    Column("SIZE", lambda row: format_bytes(row.plain_bytes), right=True),
    Column("ARCHIVES", lambda row: " ".join(archive.name for archive in row.archives)),
    Column("WARNINGS", lambda row: str(row.warnings or ""), right=True),
    Column("VERIFIED", lambda row: state_text(row.verify) if row.verify else "never"),
    Column("OWNER", lambda row: row.owner),
)
