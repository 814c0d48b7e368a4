"""Locks: whatever is said later, none ends earlier."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ibs.core.locks import Lock, LockRecord, Period, current, held, with_lock, with_period
from ibs.core.names import Namespace, SnapshotName

NAME = SnapshotName.parse("ns:law/2026/host/a/2026-11-22T19:00:00Z")
LAW = Namespace.parse("law")


def period(seconds: int) -> Period:
    return Period(seconds=seconds, by="root@ibs", time="2026-11-22T19:00:00Z")


def lock(until: int) -> Lock:
    return Lock(until=until, by="root@ibs", time="2026-11-22T19:00:00Z")


def until(record: LockRecord, made: int = 100) -> int:
    found = held(record, NAME, made)
    return found.until if found is not None else 0


def test_the_longest_lock_of_those_above_holds_and_says_whose_it_is() -> None:
    record = with_period(LockRecord(), LAW, period(50), 100)
    record = with_period(record, Namespace.parse("law/2026"), period(20), 100)
    record = with_period(record, Namespace.parse("other"), period(900), 100)
    found = held(record, NAME, 100)
    assert found is not None
    assert (found.until, found.by) == (150, "compliance mode of namespace law")
    record = with_period(record, Namespace(), period(60), 100)
    found = held(record, NAME, 100)
    assert found is not None
    assert found.by == "compliance mode of the datastore"
    assert until(with_lock(record, NAME, lock(999), 100)) == 999


def test_a_shorter_period_is_for_what_is_made_from_then_on() -> None:
    record = with_period(LockRecord(), LAW, period(50), 100)
    record = with_period(record, LAW, period(10), 120)
    assert until(record, 110) == 160
    assert until(record, 121) == 131
    record = with_period(record, LAW, period(0), 125)
    assert (until(record, 110), until(record, 121), until(record, 126)) == (160, 131, 0)
    assert current(record.namespaces["law"]) is None
    assert "law" not in with_period(record, LAW, period(0), 9999).namespaces, "what has ended is forgotten"


def test_a_lock_that_has_ended_is_forgotten_with_the_next_and_none_is_shortened() -> None:
    record = with_lock(LockRecord(), NAME, lock(200), 100)
    assert until(with_lock(record, NAME, lock(150), 100)) == 200
    other = SnapshotName.parse("host/b/2026-11-22T19:00:00Z")
    assert list(with_lock(record, other, lock(400), 300).snapshots) == [str(other)]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 100)), max_size=8), st.integers(0, 100))
def test_no_change_makes_a_lock_end_earlier(changes: list[tuple[int, int]], made: int) -> None:
    record, now = LockRecord(), 0
    for step, seconds in changes:
        now += step
        before = until(record, made) if made <= now else 0
        record = with_period(record, LAW, period(seconds), now)
        if before > now:
            assert until(record, made) >= before
