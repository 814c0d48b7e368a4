"""`ironcore-backup schedule preview`: the next runs, in the zone and in UTC; what cannot be read is status 2."""

from __future__ import annotations

import json

from ibs.cli.admin import root
from ibs_tests.support.fakeapi import invoke


def test_the_next_runs() -> None:
    shown = invoke(root, "schedule", "preview", "Sun 04:30", "--count", "3", "--output", "json")
    rows = json.loads(shown.output)
    assert len(rows) == 3
    assert all(row["time"].endswith("T04:30:00Z") and row["local"].startswith("Sun") for row in rows)


def test_what_cannot_be_read() -> None:
    assert invoke(root, "schedule", "preview", "dayly").exit_code == 2
    assert invoke(root, "schedule", "preview", "2020-01-01").exit_code == 2
    assert invoke(root, "schedule", "preview", "daily", "--time-zone", "Mars").exit_code == 2
