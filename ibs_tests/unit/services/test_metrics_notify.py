"""Targets as figures."""

from __future__ import annotations

from ibs.services.deliveries import TargetFigures
from ibs.services.metrics_notify import targets


def test_targets() -> None:
    rows = [TargetFigures("a", True, 0, 0, 0, 7, 1), TargetFigures("b", False, 3, 12, 5_000_000_000, 0, 3)]
    found = {(one.name, one.labels["target"]): one.value for family in targets(rows) for one in family.samples}
    name = "ironcore_backup_notification_"
    assert found[f"{name}target_enabled", "a"] == 1
    assert found[f"{name}target_enabled", "b"] == 0
    assert found[f"{name}target_failures", "b"] == 3
    assert found[f"{name}messages_waiting", "b"] == 12
    assert found[f"{name}oldest_waiting_time_seconds", "b"] == 5.0
    assert (f"{name}oldest_waiting_time_seconds", "a") not in found
    assert found[f"{name}messages_sent_total", "a"] == 7
    assert found[f"{name}attempts_failed_total", "b"] == 3
