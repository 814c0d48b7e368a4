"""Events: frozen, checked, JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ibs.core import limits
from ibs.core.events import EVENT_VERSION, Event, EventSource, Severity
from ibs.errors import UsageError

TIME = datetime(2026, 11, 22, 20, 0, 0, 1500, tzinfo=timezone(timedelta(hours=1)))


def event(**values: Any) -> Event:
    facts: dict[str, Any] = {
        "time": TIME,
        "source": EventSource.DATASTORE,
        "severity": Severity.ERROR,
        "kind": "datastore.offline",
        "text": "datastore ibs-primary is offline: not mounted",
        "fields": {"store": "ibs-primary", "bytes_free": None},
    }
    return Event(**{**facts, **values})


def test_an_event_as_json() -> None:
    assert event().to_json() == {
        "version": EVENT_VERSION,
        "time": "2026-11-22T19:00:00.001500Z",
        "source": "datastore",
        "severity": "error",
        "kind": "datastore.offline",
        "text": "datastore ibs-primary is offline: not mounted",
        "fields": {"store": "ibs-primary", "bytes_free": None},
    }
    json.dumps(event(fields={"a": 1, "b": 1.5, "c": True, "d": "x"}).to_json(), allow_nan=False)


def test_an_event_never_changes() -> None:
    fields = {"store": "a"}
    made = event(fields=fields)
    fields["store"] = "b"
    assert made.fields["store"] == "a"
    with pytest.raises(TypeError):
        made.fields["store"] = "c"  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        made.kind = "other"  # type: ignore[misc]
    assert len({made, event(fields={"store": "a"})}) == 1


def test_plain_words_become_values() -> None:
    made = event(source="backup", severity="info")
    assert made.source is EventSource.BACKUP
    assert made.severity is Severity.INFO


def test_severities_have_an_order() -> None:
    assert [severity.rank for severity in Severity] == [0, 1, 2, 3, 4]
    assert [str(severity) for severity in Severity] == ["info", "notice", "warning", "error", "critical"]


@pytest.mark.parametrize(
    "values",
    [
        {"time": datetime(2026, 1, 1)},
        {"source": "nowhere"},
        {"severity": "loud"},
        {"kind": ""},
        {"kind": "Datastore.Offline"},
        {"kind": "datastore..offline"},
        {"kind": "datastore offline"},
        {"text": ""},
        {"text": "x" * (limits.EVENT_TEXT_CHARS_MAX + 1)},
        {"fields": {"a": [1]}},
        {"fields": {"a": b"x"}},
        {"fields": {"a": float("nan")}},
        {"fields": {1: "a"}},
        {"fields": {str(n): n for n in range(limits.EVENT_FIELDS_MAX + 1)}},
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        event(**values)


def test_the_zone_may_be_any() -> None:
    assert event(time=TIME.astimezone(UTC)).to_json() == event().to_json()
