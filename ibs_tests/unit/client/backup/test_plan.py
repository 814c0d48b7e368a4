"""Plans are checked when they are made."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.client.backup.plan import BackupOutcome, BackupPlan
from ibs.core.keys import DataKeys
from ibs.errors import UsageError

GOOD: dict[str, Any] = {
    "store": "main",
    "group": "host/a",
    "sources": (("a.tree", "/a"), ("b.img", "/b")),
    "owner": "root@ibs",
    "client": "a",
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"sources": ()},
        {"sources": (("a.tree", "/a"), ("a.tree", "/b"))},
        {"sources": (("a.tar", "/a"),)},
        {"group": "cow/a"},
        {"namespace": "a//b"},
        {"level": 40},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        BackupPlan(**(GOOD | wrong))
    assert caught.value.hint


def test_a_plan_does_not_show_its_keys() -> None:
    plan = BackupPlan(**GOOD, keys=DataKeys.from_root(b"k" * 32))
    assert "keys" not in repr(plan)
    assert plan.level == 3


def test_an_outcome_starts_empty() -> None:
    outcome = BackupOutcome(snapshot="", status="OK", warnings=0)
    assert (outcome.files, outcome.lines, outcome.archives) == (0, (), ())
