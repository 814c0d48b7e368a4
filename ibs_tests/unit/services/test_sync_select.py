"""What a sync job brings and what it may remove: above all, what it must never do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibs.core.names import Group
from ibs.core.retention import Policy
from ibs.errors import UsageError
from ibs.services.sync_select import Filter, Seen, Why, is_accident, plan, vanished

NOW = datetime(2026, 11, 23, 7, 0, tzinfo=UTC)
WEB, DB, VM = Group("host", "web01"), Group("host", "db01"), Group("vm", "100")


def seen(
    group: Group,
    days: int,
    digest: str = "",
    *,
    source: str = "",
    good: bool = True,
    protected: bool = False,
    brought: bool = False,
) -> Seen:
    return Seen(
        group=group,
        time=NOW - timedelta(days=days),
        digest=digest or f"{group}@{days}",
        source=source,
        good=good,
        protected=protected,
        brought=brought,
    )


def test_everything_new_comes_oldest_first_group_by_group() -> None:
    found = plan([seen(WEB, 1), seen(DB, 1), seen(WEB, 3)], [], Filter(), NOW, resync=False)
    assert [one.snapshot.name for one in found.bring] == [
        "host/db01/2026-11-22T07:00:00Z",
        "host/web01/2026-11-20T07:00:00Z",
        "host/web01/2026-11-22T07:00:00Z",
    ]
    assert {one.why for one in found.bring} == {Why.NEW}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(groups=("host/web*",)), {(WEB, 1), (WEB, 5), (WEB, 40)}),
        (Filter(groups=("*/db01", "vm/1??")), {(DB, 2), (VM, 3)}),
        (Filter(types=("vm",)), {(VM, 3)}),
        (Filter(keep=Policy(keep_last=1)), {(WEB, 1), (DB, 2), (VM, 3)}),
        (Filter(keep=Policy(keep_weekly=366), groups=("host/web*",)), {(WEB, 1), (WEB, 40)}),
        (Filter(keep=Policy(keep_monthly=1), groups=("host/web*",)), {(WEB, 1)}),
        (Filter(types=("vm",), groups=("host/*",)), set()),
        (Filter(newest=2), {(WEB, 1), (WEB, 5), (DB, 2), (VM, 3)}),
        (Filter(age_seconds_max=5 * 86_400), {(WEB, 1), (WEB, 5), (DB, 2), (VM, 3)}),
        (Filter(age_seconds_max=5 * 86_400, newest=1), {(WEB, 1), (DB, 2), (VM, 3)}),
    ],
)
def test_a_filter_chooses(wanted: Filter, expected: set[tuple[Group, int]]) -> None:
    there = [seen(WEB, 40), seen(WEB, 1), seen(WEB, 5), seen(DB, 2), seen(VM, 3)]
    assert {(one.group, (NOW - one.time).days) for one in wanted.choose(there, NOW)} == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"types": ("lxc",)},
        {"groups": ("web01",)},
        {"groups": ("host/a/b",)},
        {"groups": ("lxc/*",)},
        {"groups": ("host/..",)},
        {"newest": 0},
        {"age_seconds_max": 0.0},
    ],
)
def test_a_filter_that_matches_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        Filter(**wrong)  # type: ignore[arg-type]
    assert caught.value.hint


def test_what_is_there_needs_nothing_also_when_it_was_transformed() -> None:
    found = plan([seen(WEB, 1, "aa")], [seen(WEB, 1, "bb", source="aa")], Filter(), NOW, resync=True)
    assert (found.bring, found.there, found.conflicts) == ((), 1, ())


def test_another_snapshot_of_the_same_name_is_left_alone() -> None:
    theirs = seen(WEB, 1, "aa")
    found = plan([theirs], [seen(WEB, 1, "bb", good=False)], Filter(), NOW, resync=True)
    assert (found.bring, found.there, found.conflicts) == ((), 0, (theirs,))


@pytest.mark.parametrize(
    ("resync", "good_there", "brings"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_what_is_damaged_here_comes_again_if_it_is_good_there(resync: bool, good_there: bool, brings: bool) -> None:
    found = plan([seen(WEB, 1, good=good_there)], [seen(WEB, 1, good=False)], Filter(), NOW, resync=resync)
    assert [one.why for one in found.bring] == ([Why.DAMAGED] if brings else [])


def test_only_what_sync_brought_can_vanish() -> None:
    gone, own = seen(WEB, 9, brought=True), seen(WEB, 8)
    found = vanished([seen(WEB, 1)], [gone, own, seen(WEB, 1, brought=True)], Filter())
    assert (found.remove, found.kept) == ((gone,), ())


def test_a_filter_never_makes_anything_vanish() -> None:
    both = [seen(WEB, days, brought=True) for days in (9, 5, 1)]
    assert vanished(both, both, Filter(newest=1, age_seconds_max=1.0)).remove == ()
    assert vanished([], [seen(DB, 2, brought=True), seen(DB, 1, brought=True)], Filter(groups=("host/web*",))) == (
        vanished([], [], Filter())
    )


def test_protected_ones_and_the_last_good_one_stay_when_the_source_is_empty() -> None:
    old, locked, good, bad = (
        seen(WEB, 9, brought=True),
        seen(WEB, 8, brought=True, protected=True),
        seen(WEB, 5, brought=True),
        seen(WEB, 1, brought=True, good=False),
    )
    found = vanished([], [bad, good, locked, old], Filter())
    assert found.remove == (old, bad)
    assert found.kept == ((locked, "protected"), (good, "the last good one of its group"))


_SEEN = st.builds(
    seen,
    st.sampled_from([WEB, DB, VM]),
    st.integers(0, 6),
    good=st.booleans(),
    protected=st.booleans(),
    brought=st.booleans(),
)
_SIDE = st.lists(_SEEN, max_size=15, unique_by=lambda one: (one.group, one.time))


@given(_SIDE, _SIDE)
def test_no_removal_empties_a_group_or_costs_its_last_good_one(source: list[Seen], target: list[Seen]) -> None:
    removed = set(vanished(source, target, Filter()).remove)
    assert not any(one.protected or not one.brought for one in removed)
    assert not removed & {here for here in target for there in source if here.name == there.name}
    for group in {one.group for one in target}:
        before = [one for one in target if one.group == group]
        after = [one for one in before if one not in removed]
        assert after
        assert any(one.good for one in after) or not any(one.good for one in before)


def test_what_lies_in_the_bin_here_stays_there() -> None:
    found = plan([seen(WEB, 1), seen(WEB, 2), seen(DB, 1)], [], Filter(), NOW, {(WEB, seen(WEB, 1).time)}, resync=True)
    assert [one.snapshot for one in found.bring] == [seen(DB, 1), seen(WEB, 2)]
    assert found.forgotten == (seen(WEB, 1),)
    # One that is here although a copy of it lies in the bin is as any other.
    there = plan([seen(WEB, 1)], [seen(WEB, 1)], Filter(), NOW, {(WEB, seen(WEB, 1).time)}, resync=True)
    assert (there.there, there.forgotten) == (1, ())


@pytest.mark.parametrize(
    ("left", "brought", "accident"),
    [(0, 5, False), (0, 6, True), (6, 12, False), (5, 12, True), (12, 12, False), (90, 100, False)],
)
def test_much_at_once_is_taken_for_an_accident(left: int, brought: int, accident: bool) -> None:
    here = [seen(WEB, number, brought=True) for number in range(1, brought + 1)]
    own = [seen(DB, number) for number in range(1, 20)]
    found = vanished(here[brought - left :] if left else [], [*here, *own], Filter())
    assert is_accident(found, [*here, *own], Filter()) is accident
