"""Which targets an event is for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ibs.notify.rules import RECIPIENTS_REFUSED, TARGET_DISABLED, choose, least_severity
from ibs.wire.notification import GroupSpec, RuleSpec


def event(severity: str = "error", kind: str = "datastore.offline", **fields: Any) -> dict[str, Any]:
    return {"time": "2026-11-23T02:30:00Z", "source": "datastore", "severity": severity, "kind": kind, "fields": fields}


GROUPS = [GroupSpec(name="oncall", targets=["b", "gone"])]
TARGETS = ["a", "b", "c"]


def test_without_rules_warnings_go_everywhere() -> None:
    assert choose(event("warning"), [], GROUPS, TARGETS) == TARGETS
    assert choose(event("notice"), [], GROUPS, TARGETS) == []


def test_every_word_of_a_rule_counts() -> None:
    rule = RuleSpec(
        name="r", sources=["datastore"], kind="datastore.*", datastore="main", targets=["a"], groups=["oncall"]
    )
    assert choose(event(datastore="main"), [rule], GROUPS, TARGETS) == ["a", "b"]
    assert choose(event(datastore="other"), [rule], GROUPS, TARGETS) == []
    assert choose(event("notice", datastore="main"), [rule], GROUPS, TARGETS) == []
    assert choose(event(kind="server.started", datastore="main"), [rule], GROUPS, TARGETS) == []


def test_the_events_own_group_counts_before_rules() -> None:
    rule = RuleSpec(name="r", severity="info", targets=["a"])
    assert choose(event("notice", notification_group="oncall"), [rule], GROUPS, TARGETS) == ["b"]
    assert choose(event("info", notification_group="oncall"), [rule], GROUPS, TARGETS) == ["a"]
    assert choose(event(notification_group="unknown"), [rule], GROUPS, TARGETS) == ["a"]


@pytest.mark.parametrize("kind", [TARGET_DISABLED, RECIPIENTS_REFUSED])
def test_trouble_of_a_target_is_told_to_the_others(kind: str) -> None:
    assert choose(event(kind=kind, target="b"), [], GROUPS, TARGETS) == ["a", "c"]


@pytest.mark.parametrize("word", ["namespace", "job", "host"])
def test_a_rule_for_one_place_job_or_host(word: str) -> None:
    rule = msgspec.structs.replace(RuleSpec(name="r", targets=["a"]), **{word: "this"})
    assert choose(event(**{word: "this"}), [rule], GROUPS, TARGETS) == ["a"]
    assert choose(event(**{word: "that"}), [rule], GROUPS, TARGETS) == choose(event(), [rule], GROUPS, TARGETS) == []


@pytest.mark.parametrize(
    ("windows", "zone", "hit"),
    [
        (["22:00-06:00"], "UTC", True),
        (["06:00-22:00"], "UTC", False),
        (["06:00-22:00", "02:00-03:00"], "UTC", True),
        (["08:00-09:00"], "Asia/Kathmandu", True),  # 02:30 UTC is 08:15 there
        (["02:00-03:00"], "Asia/Kathmandu", False),
        (["06:00-22:00"], "Not/There", True),
        (["nonsense"], "UTC", True),
    ],
)
def test_a_rule_may_hold_at_some_times_of_day_only(windows: list[str], zone: str, hit: bool) -> None:
    rule = RuleSpec(name="r", targets=["a"], windows=windows, time_zone=zone)
    assert choose(event(), [rule], GROUPS, TARGETS) == (["a"] if hit else [])


def test_what_is_asked_for_at_least() -> None:
    rules = [RuleSpec(name="r", severity=word, targets=["a"]) for word in ("error", "info")]
    assert [least_severity(some) for some in ([], rules[:1], rules)] == [2, 3, 0]
