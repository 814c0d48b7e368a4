"""Tables of snapshots: notes stay on one line."""

from __future__ import annotations

from ibs.cli.columns import BIN_COLUMNS, SNAPSHOT_COLUMNS, snapshot_facts
from ibs.wire.datastore import SnapshotView
from ibs.wire.lifecycle import BinView

VIEW = SnapshotView(
    snapshot="host/a/2026-11-22T19:00:00Z",
    namespace="",
    group="host/a",
    time="2026-11-22T19:00:00Z",
    owner="a@ibs",
    plain_bytes=1,
    archives=[],
    protected=True,
    notes="one\ntwo " + "x" * 80,
)


def test_a_row_is_one_line_whatever_the_notes() -> None:
    cells = {column.head: str(column.cell(VIEW)) for column in SNAPSHOT_COLUMNS}
    assert cells["PROTECTED"] == "yes"
    assert cells["NOTES"].startswith("one two x")
    assert len(cells["NOTES"]) == 60
    assert dict(snapshot_facts(VIEW))["Notes"] == VIEW.notes


def test_an_entry_that_stays_by_itself_says_so() -> None:
    entry = BinView(entry="e", snapshot="s", owner="", forgotten="", by="", why="", due="", plain_bytes=0)
    cells = {column.head: str(column.cell(entry)) for column in BIN_COLUMNS}
    assert (cells["FORGOTTEN"], cells["GOES FOR GOOD"]) == ("unknown", "not by itself")
