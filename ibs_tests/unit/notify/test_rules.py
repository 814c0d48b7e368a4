"""Which targets an event is for."""

from __future__ import annotations

from typing import Any

from ibs.notify.rules import TARGET_DISABLED, choose
from ibs.wire.notification import GroupSpec, RuleSpec


def event(severity: str = "error", kind: str = "datastore.offline", **fields: Any) -> dict[str, Any]:
    return {"source": "datastore", "severity": severity, "kind": kind, "fields": fields}


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
    assert choose(event("info", notification_group="oncall"), [rule], GROUPS, TARGETS) == ["b"]
    assert choose(event(notification_group="unknown"), [rule], GROUPS, TARGETS) == ["a"]


def test_a_disabled_target_is_told_to_the_others() -> None:
    assert choose(event(kind=TARGET_DISABLED, target="b"), [], GROUPS, TARGETS) == ["a", "c"]
