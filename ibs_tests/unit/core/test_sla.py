from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ibs.core import limits
from ibs.core.sla import Seen, SlaState, Terms, Verdict, judge, learn

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1 << 20


def daily(*sizes: int) -> list[Seen]:
    return [Seen(BEGIN + timedelta(days=n), size * MIB) for n, size in enumerate(sizes)]


def at(hours: float, history: list[Seen], terms: Terms | None, **more: object) -> Verdict:
    """The verdict so many hours after the last backup."""
    last = history[-1].time if history else BEGIN
    return judge(terms, history, now=last + timedelta(hours=hours), since=BEGIN, **more)  # type: ignore[arg-type]


def test_what_is_learned() -> None:
    assert learn(daily(*[100] * (limits.SLA_LEARN_BACKUPS_MIN - 1))) is None
    history = daily(100, 110, 90, 100, 100, 100)
    terms = learn(history)
    assert terms is not None
    assert (terms.rpo_seconds, terms.bytes_min, terms.learned_from) == (2 * 86400, 45 * MIB, 6)
    assert at(47, history, terms).state is SlaState.OK
    assert at(49, history, terms).state is SlaState.LATE
    assert at(24, daily(100), None).state is SlaState.LEARNING


@pytest.mark.parametrize(("size", "state"), [(10, SlaState.SMALL), (900, SlaState.LARGE), (130, SlaState.OK)])
def test_the_newest_is_judged_by_those_before_it(size: int, state: SlaState) -> None:
    history = daily(100, 100, 100, 100, 100, size)
    assert at(1, history, learn(history)).state is state


def test_late_then_missing_with_the_figures() -> None:
    terms = Terms(rpo_seconds=26 * 3600)
    late = at(27, daily(1), terms)
    assert late.state is SlaState.LATE
    assert "the last backup is of 2026-01-01T00:00:00Z" in late.why
    assert late.due == BEGIN + timedelta(hours=26)
    assert at(26 * 3 + 1, daily(1), terms).state is SlaState.MISSING
    assert at(25, [], terms).state is SlaState.OK
    assert at(27, [], terms).state is SlaState.MISSING


def test_a_failure_counts_until_a_backup_comes() -> None:
    terms = Terms(rpo_seconds=26 * 3600)
    assert at(2, daily(1), terms, failed=BEGIN + timedelta(hours=1)).state is SlaState.FAILED
    assert at(2, daily(1, 1), terms, failed=BEGIN + timedelta(hours=1)).state is SlaState.OK


def test_sizes_that_were_set() -> None:
    assert at(1, daily(5), Terms(bytes_min=6 * MIB)).state is SlaState.SMALL
    assert at(1, daily(10, 16), Terms(change_percent=50)).state is SlaState.LARGE
    assert at(1, daily(10, 4), Terms(change_percent=50)).state is SlaState.SMALL
    assert at(1, daily(10, 15), Terms(change_percent=50)).state is SlaState.OK


def test_paused_says_nothing_else() -> None:
    assert at(999, daily(1), Terms(rpo_seconds=1), paused="by hand") == Verdict(SlaState.PAUSED, "by hand")
