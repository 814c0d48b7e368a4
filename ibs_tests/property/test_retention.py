"""Retention against a naive implementation written from the manual's words, and what must hold for every policy."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from ibs.core.retention import LAST_GOOD, PROTECTED, UNFINISHED, Candidate, Policy, decide

START = datetime(2024, 2, 25, tzinfo=UTC)
ZONES = ("UTC", "Europe/Vienna", "America/New_York", "Asia/Kolkata", "Pacific/Chatham")

counts = st.integers(0, 6)
policies = st.builds(
    Policy,
    keep_last=counts,
    keep_hourly=counts,
    keep_daily=counts,
    keep_weekly=counts,
    keep_monthly=counts,
    keep_yearly=counts,
    timezone=st.sampled_from(ZONES),
)


@st.composite
def groups(draw: st.DrawFn) -> list[Candidate]:
    """Some close together, some far apart."""
    steps = draw(st.lists(st.sampled_from([1, 600, 3599, 3600, 40_000, 86_400, 700_000, 3_000_000]), max_size=40))
    found, moment = [], START + timedelta(seconds=draw(st.integers(0, 10**8)))
    for number, step in enumerate(steps):
        moment += timedelta(seconds=step)
        flags = draw(st.integers(0, 15))
        found.append(
            Candidate(f"s{number}", moment, protected=flags == 1, finished=flags != 2, good=flags not in (3, 4))
        )
    return draw(st.permutations(found))


def period(rule: str, local: datetime) -> object:
    iso = local.isocalendar()
    return {
        "hourly": (local.date(), local.hour, local.utcoffset()),
        "daily": local.date(),
        "weekly": (iso.year, iso.week),
        "monthly": (local.year, local.month),
        "yearly": local.year,
    }[rule]


def naive(policy: Policy, candidates: list[Candidate]) -> set[str]:
    """Names that stay. Whole periods at a time, where the product walks over snapshots."""
    newest_first = sorted(candidates, key=lambda one: one.time, reverse=True)
    always = {one.name for one in candidates if one.protected}
    open_ = [one for one in newest_first if not one.protected and one.finished]
    if newest_first and not newest_first[0].finished:
        always.add(newest_first[0].name)
    rules = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
    wanted = {rule: getattr(policy, f"keep_{rule}") for rule in rules}
    if not any(wanted.values()):
        return (
            always
            | {one.name for one in open_}
            | {one.name for one in candidates if not one.finished and one.protected}
        )
    stay: list[Candidate] = open_[: wanted["last"]]
    open_ = open_[wanted["last"] :]
    zone = ZoneInfo(policy.timezone)
    for rule in rules[1:]:

        def of(one: Candidate, rule: str = rule) -> object:
            return period(rule, one.time.astimezone(zone))

        covered = {of(one) for one in stay}
        left = [(key, list(members)) for key, members in groupby(open_, of)]
        fresh = [(key, members) for key, members in left if key not in covered][: wanted[rule]]
        stay += [members[0] for _, members in fresh]
        gone = {one.name for _, members in fresh for one in members}
        open_ = [one for one in open_ if one.name not in gone]
    names = always | {one.name for one in stay}
    good = [one for one in newest_first if one.good and one.finished]
    if good and not any(one.name in names for one in good):
        names.add(good[0].name)
    return names


@given(policies, groups())
def test_it_keeps_what_the_naive_one_keeps(policy: Policy, candidates: list[Candidate]) -> None:
    if not policy.counts():
        candidates = [one for one in candidates if one.finished]
    assert {one.candidate.name for one in decide(policy, candidates) if one.keep} == naive(policy, candidates)


@given(policies, groups())
def test_what_holds_for_every_policy(policy: Policy, candidates: list[Candidate]) -> None:
    decisions = decide(policy, candidates)
    assert sorted(one.candidate.name for one in decisions) == sorted(one.name for one in candidates)
    assert all(bool(one.rule) == one.keep for one in decisions)
    assert all(one.keep for one in decisions if one.candidate.protected)
    places: dict[str, list[str]] = defaultdict(list)
    for one in decisions:
        if one.keep:
            places[one.rule].append(one.period or one.candidate.name)
    for rule, count in policy.counts().items():
        assert len(places[rule]) <= count
        assert len(set(places[rule])) == len(places[rule])
    good = [one for one in decisions if one.candidate.good and one.candidate.finished]
    assert not good or any(one.keep for one in good)
    finished = [one for one in decisions if one.candidate.finished and not one.candidate.protected]
    assert not finished or finished[0].keep, "the newest always stays"


@given(policies, groups())
def test_deciding_again_about_what_stayed_keeps_all_of_it(policy: Policy, candidates: list[Candidate]) -> None:
    """So a prune that is repeated, or stopped half way and run again, removes nothing more."""
    kept = [one.candidate for one in decide(policy, candidates) if one.keep]
    again = decide(policy, kept)
    assert all(one.keep for one in again)


@given(policies, groups())
def test_order_of_asking_does_not_matter(policy: Policy, candidates: list[Candidate]) -> None:
    assert decide(policy, candidates) == decide(policy, list(reversed(candidates)))
    rules = {one.rule for one in decide(policy, candidates) if one.keep}
    assert rules <= {*policy.counts(), PROTECTED, UNFINISHED, LAST_GOOD, "no rules"}
