"""Retention against vectors worked out by hand: each names what stays, by which rule, for which period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ibs.core.names import parse_time
from ibs.core.retention import Candidate, Decision, Policy, brake, decide, too_many, too_small
from ibs.errors import UsageError


def at(text: str, **facts: object) -> Candidate:
    """`11-22T19` in 2026, or a longer time."""
    full = {8: f"2026-{text}:00:00Z", 5: f"2026-{text}T12:00:00Z", 10: f"{text}T12:00:00Z"}.get(len(text), text)
    return Candidate(text, parse_time(full), **facts)  # type: ignore[arg-type]


def kept(policy: Policy, *candidates: Candidate | str) -> dict[str, str]:
    """Name: rule and period of what stays."""
    decisions = decide(policy, [at(one) if isinstance(one, str) else one for one in candidates])
    assert [one.candidate.time for one in decisions] == sorted((one.candidate.time for one in decisions), reverse=True)
    return {one.candidate.name: f"{one.rule} {one.period}".strip() for one in decisions if one.keep}


def test_without_rules_everything_stays() -> None:
    assert kept(Policy(), "11-22", "11-21") == {"11-22": "no rules", "11-21": "no rules"}
    assert decide(Policy(keep_last=1), []) == []


def test_keep_last_counts_snapshots() -> None:
    assert kept(Policy(keep_last=2), "11-20", "11-22T10", "11-22T11") == {
        "11-22T11": "keep-last",
        "11-22T10": "keep-last",
    }


def test_a_period_keeps_its_newest() -> None:
    assert kept(Policy(keep_daily=2), "11-22T08", "11-22T19", "11-21T08", "11-21T19", "11-20T19") == {
        "11-22T19": "keep-daily 2026-11-22",
        "11-21T19": "keep-daily 2026-11-21",
    }


def test_a_rule_takes_only_periods_that_earlier_rules_do_not_cover() -> None:
    """The example of the Proxmox manual in small: days covered by keep-last take no place of keep-daily."""
    assert kept(Policy(keep_last=2, keep_daily=2), "11-22T19", "11-22T08", "11-21", "11-20", "11-19") == {
        "11-22T19": "keep-last",
        "11-22T08": "keep-last",
        "11-21": "keep-daily 2026-11-21",
        "11-20": "keep-daily 2026-11-20",
    }


def test_the_union_over_all_rules() -> None:
    days = [(datetime(2026, 11, 22, 12, tzinfo=UTC) - timedelta(days=day)) for day in range(800)]
    candidates = [Candidate(day.strftime("%Y-%m-%d"), day) for day in days]
    policy = Policy(keep_last=1, keep_daily=3, keep_weekly=2, keep_monthly=2, keep_yearly=1)
    assert kept(policy, *candidates) == {
        "2026-11-22": "keep-last",  # a Sunday: ISO week 47
        "2026-11-21": "keep-daily 2026-11-21",
        "2026-11-20": "keep-daily 2026-11-20",
        "2026-11-19": "keep-daily 2026-11-19",
        "2026-11-15": "keep-weekly 2026-W46",
        "2026-11-08": "keep-weekly 2026-W45",
        "2026-10-31": "keep-monthly 2026-10",
        "2026-09-30": "keep-monthly 2026-09",
        "2025-12-31": "keep-yearly 2025",
    }


def test_weeks_are_iso_weeks_also_over_new_year() -> None:
    assert kept(Policy(keep_weekly=3), "2027-01-04", "2027-01-03", "2026-12-28", "2026-12-27") == {
        "2027-01-04": "keep-weekly 2027-W01",
        "2027-01-03": "keep-weekly 2026-W53",
        "2026-12-27": "keep-weekly 2026-W52",
    }


def test_what_a_rule_passed_over_is_not_looked_at_by_later_ones() -> None:
    """As Proxmox does: 10-31 shares its week with 11-01, so the month of October is stood for by an older one."""
    assert kept(Policy(keep_weekly=1, keep_monthly=1), "11-01", "10-31", "10-20") == {
        "11-01": "keep-weekly 2026-W44",
        "10-20": "keep-monthly 2026-10",
    }


def test_periods_are_those_of_the_time_zone() -> None:
    late, next_day = "2026-11-21T22:30:00Z", "2026-11-21T23:30:00Z"
    assert list(kept(Policy(keep_daily=2), late, next_day)) == [next_day]
    assert list(kept(Policy(keep_daily=2, timezone="Europe/Vienna"), late, next_day)) == [next_day, late]


def test_the_hour_repeated_when_summer_time_ends_counts_twice() -> None:
    summer, winter = "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"
    assert kept(Policy(keep_hourly=5, timezone="Europe/Vienna"), summer, winter) == {
        winter: "keep-hourly 2026-10-25 02:00 +0100",
        summer: "keep-hourly 2026-10-25 02:00 +0200",
    }


def test_protected_ones_stay_and_take_no_place() -> None:
    assert kept(Policy(keep_daily=1), at("11-22", protected=True), "11-21", "11-20", at("11-01", protected=True)) == {
        "11-22": "protected",
        "11-21": "keep-daily 2026-11-21",
        "11-01": "protected",
    }


def test_an_unfinished_one_stays_only_as_the_newest() -> None:
    newest, older = at("11-22", finished=False), at("11-20", finished=False)
    assert kept(Policy(keep_last=1), newest, "11-21", older) == {"11-22": "unfinished, newest", "11-21": "keep-last"}
    assert kept(Policy(keep_last=9), "11-22", at("11-21", finished=False)) == {"11-22": "keep-last"}


def test_the_last_good_one_stays_whatever_the_rules_say() -> None:
    bad = [at(day, good=False) for day in ("11-22", "11-21")]
    assert kept(Policy(keep_last=1), *bad, "11-20", "11-19") == {"11-22": "keep-last", "11-20": "last good"}
    assert kept(Policy(keep_last=2), *bad) == {"11-22": "keep-last", "11-21": "keep-last"}
    assert kept(Policy(keep_last=1), bad[0], at("11-20", protected=True), "11-19") == {
        "11-22": "keep-last",
        "11-20": "protected",
    }


def test_more_than_half_is_too_many() -> None:
    def of(keep: int, remove: int) -> list[Decision]:
        return [Decision(at("11-22", size=5), number < keep) for number in range(keep + remove)]

    assert too_many(of(3, 3)) == ""
    assert "4 of 7" in too_many(of(3, 4))
    assert brake(of(0, 1))
    assert brake([]) == ""


def test_a_tenth_of_the_usual_size_is_too_small() -> None:
    def of(kept_size: int, removed_size: int) -> list[Decision]:
        return [
            Decision(at("11-22", size=kept_size), True),
            Decision(at("11-21", size=kept_size), True),
            Decision(at("11-20", size=removed_size), False),
        ]

    assert too_small(of(100, 1000)) == ""
    assert "1001" in too_small(of(100, 1001))
    assert brake(of(0, 0)) == ""


def test_policies_are_checked_and_written() -> None:
    assert str(Policy(keep_last=3, keep_yearly=1)) == "keep-last 3 keep-yearly 1 (UTC)"
    assert str(Policy()) == "keep everything"
    for wrong in (
        Policy(keep_last=-1),
        Policy(keep_daily=100_001),
        Policy(timezone="Mars/Base"),
        Policy(timezone="../x"),
    ):
        with pytest.raises(UsageError):
            wrong.checked()
    assert Policy(keep_last=100_000, timezone="America/New_York").checked().counts() == {"keep-last": 100_000}
