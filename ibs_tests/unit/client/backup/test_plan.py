"""Plans are checked when they are made."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.client.backup.plan import BackupOutcome, BackupPlan, Changes
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
        {"reread_every": -1},
        {"changes": Changes((("c.img", "/m"),), digest="0" * 64)},
        {"changes": Changes((("b.img", "/m"), ("b.img", "/n")), digest="0" * 64)},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        BackupPlan(**(GOOD | wrong))
    assert caught.value.hint


def test_a_plan_does_not_show_its_keys() -> None:
    plan = BackupPlan(**GOOD, keys=DataKeys.from_root(b"k" * 32))
    assert "keys" not in repr(plan)
    assert plan.level == 2


def test_an_outcome_starts_empty() -> None:
    outcome = BackupOutcome(snapshot="", status="OK", warnings=0)
    assert (outcome.files, outcome.lines, outcome.archives) == (0, (), ())


def test_a_map_counts_from_one_snapshot_by_name_time_or_digest() -> None:
    def since(text: str) -> Changes | None:
        return Changes.parse(["b.img=/m"], text, group="vm/100", namespace="a/b")

    named = since("ns:a/b/vm/100/2026-11-22T19:00:00Z")
    assert named is not None
    assert str(named.snapshot) == "ns:a/b/vm/100/2026-11-22T19:00:00Z"
    assert named == since("vm/100/2026-11-22T19:00:00Z") == since("2026-11-22T19:00:00Z")
    digest = since("ab" * 32)
    assert digest is not None
    assert (digest.snapshot, digest.digest) == (None, "ab" * 32)
    assert Changes.parse([], "", group="vm/100") is None


@pytest.mark.parametrize("since", ["vm/100", "ns:x/vm/100/2026-11-22T19:00:00Z", "yesterday", "AB" * 32])
def test_what_names_no_snapshot_of_the_group_is_refused(since: str) -> None:
    with pytest.raises(UsageError):
        Changes.parse(["b.img=/m"], since, group="vm/100", namespace="a/b")


def test_only_images_have_maps() -> None:
    with pytest.raises(UsageError, match="no image"):
        Changes((("a.tree", "/m"),), digest="0" * 64)
    with pytest.raises(UsageError, match="one snapshot"):
        Changes((("b.img", "/m"),))
