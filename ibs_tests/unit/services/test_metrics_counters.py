"""What is counted, in which buckets, and that data cannot make the number of series grow without end."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prometheus_client.core import Metric

from ibs.core import limits
from ibs.core.events import Event, EventSource, Severity
from ibs.core.upid import Upid
from ibs.services.metrics_counters import Counters, Histogram
from ibs.wire.session import StageFigures

NOW = datetime(2026, 11, 22, 19, tzinfo=UTC)


def values(families: list[Metric], name: str) -> dict[tuple[str, ...], float]:
    """Samples of that name, by their label values in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"ironcore_backup_{name}"
    }


def ended(seconds: int, state: str = "OK", kind: str = "backup") -> Event:
    upid = f"UPID:n:00000001:00000002:00000003:{int(NOW.timestamp()) - seconds:08X}:{kind}:main:root@ibs:"
    assert Upid.parse(upid).started == int(NOW.timestamp()) - seconds
    fields = {"upid": upid, "type": kind, "state": state, "done_bytes": 100}
    return Event(NOW, EventSource.BACKUP, Severity.INFO, "task.ended", "it ended", fields)


def test_ended_tasks_by_type_state_and_datastore_with_their_durations() -> None:
    counters = Counters()
    counters.note_event(ended(4), "main")
    counters.note_event(ended(5), "main")
    counters.note_event(ended(3000, "FAILED"), "")
    found = counters.collect()
    assert values(found, "tasks_ended_total") == {("main", "OK", "backup"): 2, ("", "FAILED", "backup"): 1}
    assert values(found, "task_last_end_time_seconds")["OK", "backup"] == NOW.timestamp()
    assert values(found, "task_bytes_total") == {("backup",): 300}
    buckets = values(found, "task_duration_seconds_bucket")
    assert (buckets["1.0", "backup"], buckets["5.0", "backup"], buckets["3600.0", "backup"]) == (0, 2, 3)
    assert buckets["+Inf", "backup"] == values(found, "task_duration_seconds_count")["backup",] == 3
    assert values(found, "task_duration_seconds_sum")["backup",] == 3009


def test_other_events_count_by_source_and_severity_only() -> None:
    counters = Counters()
    counters.note_event(Event(NOW, EventSource.AUTHENTICATION, Severity.WARNING, "auth.refused", "no"))
    found = counters.collect()
    assert values(found, "events_total") == {("warning", "authentication"): 1}
    assert values(found, "tasks_ended_total") == {}


def test_stages_add_up() -> None:
    counters = Counters()
    for _ in range(2):
        counters.note_stages("backup", {"read": StageFigures(busy_seconds=1.5, wait_seconds=0.5, bytes=7)})
    found = counters.collect()
    assert values(found, "stage_busy_seconds_total") == {("read", "backup"): 3.0}
    assert values(found, "stage_wait_seconds_total") == {("read", "backup"): 1.0}
    assert values(found, "stage_bytes_total") == {("read", "backup"): 14}


def test_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METRICS_SERIES_MAX", 3)
    counters = Counters()
    for number in range(10):
        counters.note_line({"role": f"role{number}", "level": "info"})
        counters.note_stages("backup", {f"stage{number}": StageFigures()})
    found = counters.collect()
    assert values(found, "log_lines_total") == {
        ("info", "role0"): 1,
        ("info", "role1"): 1,
        ("info", "role2"): 1,
        ("other", "other"): 7,
    }
    assert len(values(found, "stage_bytes_total")) == 3


def test_a_histogram_counts_up_to_each_bound_and_beyond() -> None:
    histogram = Histogram((1, 10))
    for value in (0.5, 1.0, 2.0, 100.0):
        histogram.note(value)
    assert histogram.buckets == [("1.0", 2.0), ("10.0", 3.0), ("+Inf", 4.0)]
    assert histogram.total == 103.5
    counters = Counters()
    counters.note_delay(0.03)
    assert values(counters.collect(), "loop_delay_seconds_bucket")["0.05",] == 1
