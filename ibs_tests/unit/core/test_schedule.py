"""Times of jobs in their zone, spread by a delay that does not change, and within times of day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ibs.core.schedule import check_windows, delay_of, in_window, next_time, upcoming
from ibs.errors import UsageError

NOW = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)


def test_times_are_those_of_the_zone_across_the_change_of_clocks() -> None:
    assert upcoming("daily", "Europe/Vienna", NOW, 3) == [
        datetime(2026, 3, 28, 23, tzinfo=UTC),
        datetime(2026, 3, 29, 22, tzinfo=UTC),
        datetime(2026, 3, 30, 22, tzinfo=UTC),
    ]
    assert next_time("Sun 04:30", "UTC", NOW) == datetime(2026, 3, 29, 4, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["dayly", "", "25:00", "Foo 10:00", "*-13-01"])
def test_what_cannot_be_read_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError, match="calendar expression"):
        upcoming(text, "UTC", NOW, 1)


def test_unknown_zones_and_times_that_never_come_are_refused() -> None:
    with pytest.raises(UsageError, match="time zone 'Mars/Olympus' is not known"):
        upcoming("daily", "Mars/Olympus", NOW, 1)
    assert upcoming("2020-01-01", "UTC", NOW, 3) == []
    with pytest.raises(UsageError, match="never comes"):
        next_time("2020-01-01", "UTC", NOW)


def test_the_delay_is_bounded_spread_and_always_the_same() -> None:
    delays = [delay_of(f"job{number}", NOW, 60) for number in range(50)]
    assert delays == [delay_of(f"job{number}", NOW, 60) for number in range(50)]
    assert all(timedelta(0) <= one <= timedelta(seconds=60) for one in delays)
    assert len(set(delays)) > 20
    assert delay_of("job", NOW, 0) == timedelta(0)


def test_windows_of_the_day_may_pass_midnight() -> None:
    night = ["22:00-06:00"]
    hours = [hour for hour in range(24) if in_window(night, "UTC", NOW.replace(hour=hour))]
    assert hours == [0, 1, 2, 3, 4, 5, 22, 23]
    assert in_window([], "UTC", NOW)
    assert in_window(["13:00-13:30"], "Europe/Vienna", NOW)
    for text in ("22-6", "22:00-22:00", "24:00-01:00"):
        with pytest.raises(UsageError, match="time window"):
            check_windows([text])
